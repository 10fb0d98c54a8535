"""A bench plan: which nets are trained, from what they start, what they are set against. One YAML file, named after its data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikegate.graph.ir import DeployError
from spikegate.train.settings.config import Config, check, defaults, merge
from spikegate.train.settings.options import nested, read_yaml

HERE = Path(__file__).parent
PLANS, RESULTS = HERE / "systems", HERE / "results"
RUNS = Path("runs/bench")
Claimed = Literal["at_snn", "stas", "halting", "dts_vit"]
EXPORTS = ("exit_drop", "exit_loss", "prune_loss", "prune_embedding")  # options of convert/export.py that a row may set
AS_IT_IS: dict[str, Any] = {"options": {}, "start": None, "teacher": None, "seeds": 1}  # of a row that takes over another's training


class Entry(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class Row(Entry):
    """One net of the table.

    A `base` is only trained: other rows start from its weights, and their epochs include its epochs. A row with `run` trains nothing:
    it is the run of that row, exported in another way. `twin` is the static row that a row is set against, `teacher` the one that it
    is distilled from.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_@.-]+$")
    system: str
    policy: str = ""
    options: dict[str, Any] = Field(default_factory=dict, description="dotted settings of train/run.py")
    start: str | None = None
    run: str | None = None
    twin: str | None = None
    teacher: str | None = None
    seeds: int = Field(1, ge=1)
    export: dict[str, float | bool] = Field(default_factory=dict)
    base: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Row:
        if self.run is not None and (self.options or self.start or self.teacher or self.base):
            raise ValueError(f"{self.name}: a row with `run` takes over that row's training: no options, no start, no teacher, no base")
        unknown = set(self.export) - set(EXPORTS)
        if unknown:
            raise ValueError(f"{self.name}: export has no option {unknown.pop()}; there is {', '.join(EXPORTS)}")
        if "prune_embedding" in self.export and "prune_loss" not in self.export:
            raise ValueError(f"{self.name}: prune_embedding goes with prune_loss")
        if {"exit_drop", "exit_loss"} <= set(self.export):
            raise ValueError(f"{self.name}: exit_drop and exit_loss are two ways to calibrate the same gate")
        return self

    @property
    def others(self) -> list[str]:
        """Rows that this one needs."""
        return [other for other in (self.run, self.start, self.teacher, self.twin) if other is not None]


class Curve(Entry):
    """Points of one row along one setting: `knob` is a dotted training setting, or ``export.exit_drop``, which trains nothing."""

    name: str
    row: str
    knob: str
    values: list[float] = Field(min_length=2)
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the points besides the knob")


class Plan(Entry):
    """Rows and curves of one data set. `options` hold for every row; `claims` names a row or several for each claim (`bench.claims`).

    `name` is the file's own (`dataset` without a file); results and tables are found by it. Two plans of one data set share its run
    folders: those bear the hash of their settings.
    """

    name: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$")
    dataset: str
    about: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    rows: list[Row]
    curves: list[Curve] = Field(default_factory=list)
    claims: dict[Claimed, str | list[str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> Plan:
        self.name = self.name or self.dataset
        names = [r.name for r in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rows are called {name}")
        for row in self.rows:
            for field in ("start", "run", "twin", "teacher"):
                other = getattr(row, field)
                if other is None:
                    continue
                if other not in names:
                    raise ValueError(f"{row.name}: {field} {other} is no row")
                if self.row(other).seeds < row.seeds:
                    raise ValueError(f"{row.name}: has more seeds than its {field} {other}")
            if row.twin is not None and self.row(row.twin).base:
                raise ValueError(f"{row.name}: its twin {row.twin} is only a base")
        self.needed(self.rows)
        for what in [*(c.row for c in self.curves), *(name for _, name in self.claimed())]:
            if what not in names:
                raise ValueError(f"{what} is no row")
        return self

    def claimed(self) -> list[tuple[Claimed, str]]:
        """(claim, name of a row that it is checked against)."""
        return [(key, name) for key, names in self.claims.items() for name in ([names] if isinstance(names, str) else names)]

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises
        ------
        DeployError
            If there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise DeployError("--rows", f"no row {name!r}", f"there are {', '.join(r.name for r in self.rows)}")

    def trained(self, row: Row) -> Row:
        """The row whose training a row's weights come from: itself, or the one that `run` names."""
        return row if row.run is None else self.trained(self.row(row.run))

    def chain(self, row: Row) -> list[Row]:
        """Trainings that a row's weights went through, first to last."""
        found = [self.trained(row)]
        while found[0].start is not None:
            found.insert(0, self.trained(self.row(found[0].start)))
        return found

    def config(self, row: Row, seed: int, runs: Path = RUNS) -> Config:
        """Settings of a row's own training. They name the folder of its start, so their hash depends on that row's settings, too."""
        row = self.trained(row)
        values: dict[str, Any] = {"data": {"name": self.dataset}, "model": {"name": row.system}}
        values = merge(defaults(self.dataset, row.system), values)
        values = merge(values, nested(self.options | row.options | {"train.seed": seed}))
        for key, other in (("start", row.start), ("teacher", row.teacher)):
            if other is not None:
                values = merge(values, {"train": {key: str(self.folder(self.row(other), seed, runs))}})
        return check(values, f"{self.dataset}.yml, row {row.name}")

    def folder(self, row: Row, seed: int, runs: Path = RUNS) -> Path:
        """Run folder of a row. Its name ends in six digits of the settings' hash: other settings are another run."""
        return runs / self.dataset / f"{row.name}-{seed}-{self.config(row, seed, runs).hash[:6]}"

    def epochs(self, row: Row, seed: int = 0) -> list[int]:
        """Epochs of each training that the row's weights went through."""
        return [self.config(r, seed).train.epochs for r in self.chain(row)]

    def needed(self, rows: Iterable[Row]) -> list[Row]:
        """The rows and all that they start from or are set against, each after what it needs."""
        found: list[Row] = []

        def visit(row: Row, path: list[str]) -> None:
            if row.name in path:
                raise ValueError(f"{' -> '.join([*path, row.name])} goes round in a circle")
            if row not in found:
                for other in row.others:
                    visit(self.row(other), [*path, row.name])
                found.append(row)

        for row in rows:
            visit(row, [])
        return found

    def points(self, curve: Curve) -> list[Row]:
        """The points of a curve as rows of their own, in the order of its values."""
        return [self._point(curve, value) for value in curve.values]

    def _point(self, curve: Curve, value: float) -> Row:
        row = self.row(curve.row)
        section, _, key = curve.knob.partition(".")
        name = f"{row.name}@{key.replace('.', '_')}={value:g}".replace("=", "_")
        if section == "export":
            return row.model_copy(update=AS_IT_IS | {"name": name, "run": row.run or row.name, "export": row.export | {key: value}})
        made = row.model_copy(update={"name": name, "options": row.options | curve.options | {curve.knob: value}, "seeds": 1})
        if self.config(made, 0).decisive() == self.config(row, 0).decisive():  # the row itself is this point: nothing to train again
            return row.model_copy(update=AS_IT_IS | {"name": name, "run": row.name})
        return made


def read_plan(given: str) -> Plan:
    """The plan of that name that comes with the bench, or the YAML file of that path.

    Raises
    ------
    DeployError
        Unknown name, bad YAML, or what is wrong with rows and their settings.
    """
    known = sorted(p.stem for p in PLANS.glob("*.yml"))
    path = PLANS / f"{given}.yml" if given in known else Path(given)
    if given not in known and path.suffix != ".yml":
        raise DeployError(given, "no such plan", f"there are {', '.join(known)}; or give the path of a YAML file")
    try:
        plan = Plan.model_validate({"name": path.stem, **read_yaml(path)})
    except ValidationError as e:
        found = "; ".join(f"{'.'.join(map(str, x['loc']))}: {x['msg'].removeprefix('Value error, ')}".lstrip(": ") for x in e.errors())
        raise DeployError(str(path), found, "write it like bench/systems/digits.yml") from None
    for row in plan.rows:
        plan.config(row, 0)
    return plan
