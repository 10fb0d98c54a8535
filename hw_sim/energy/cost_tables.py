"""Cost tables: what one event costs, in pJ, each figure with its source and its evidence; and what a table leaves out."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.reading.plain_yaml import PlainYaml

FOLDER = Path(__file__).parent / "costs"
ACTIVE, INACTIVE = "neuron_update_active", "neuron_update_inactive"
IDLE = "idle_visit"  # a visit to a neuron that is not updated: of a halted token, or of an op that has no work in this timestep
UPDATES = (INACTIVE, ACTIVE)  # the two kinds of `neuron_update`
QUANTITIES = (*(c for c in COUNTERS if c != "neuron_update"), *UPDATES, IDLE)  # what a price can be multiplied by
COLUMNS = (*COUNTERS, IDLE)  # the same with one column for all updates
HOST = "host_mac"
GRADED = "graded_mac"  # a synaptic event that multiplies: foreign nets alone have any
PRICEABLE = (*COUNTERS, INACTIVE, ACTIVE, HOST, GRADED)
PLACED = ("hop_x", "hop_y", "bit_hop", "weight_access", "state_access")  # priced only once a net lies on cores
EVIDENCE = {
    "measured": "measured on a chip",
    "fitted": "fitted to measurements of whole workloads",
    "published-simulated": "published by the chip's makers, from simulation",
    "published-estimate": "published as a rough cost of an operation",
    "borrowed": "taken over from another table",
    "assumed": "our assumption about what a published figure applies to",
}
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Price(BaseModel):
    """Energy of one event. `source`: where the figure is printed; `evidence` (`EVIDENCE`): what it rests on; `low` to `high`: its band."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    value: float = Field(ge=0, allow_inf_nan=False)
    low: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    high: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    unit: Literal["fJ", "pJ", "nJ"]
    per: Text
    source: Text
    node: Text
    voltage: Text
    evidence: Literal["measured", "fitted", "published-simulated", "published-estimate", "borrowed", "assumed"]
    bound: Literal["point", "minimum", "maximum"] = "point"
    note: str = ""
    leaves_out: list[Text] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Price:
        low, high = self.band
        if not low <= self.value <= high:
            raise ValueError(f"value {self.value:g} lies outside its band {low:g} to {high:g}")
        return self

    @property
    def band(self) -> tuple[float, float]:
        """(low, high) in the price's own unit; both the value where no band is known."""
        return self.value if self.low is None else self.low, self.value if self.high is None else self.high

    @property
    def factor(self) -> float:
        return {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}[self.unit]

    @property
    def pj(self) -> float:
        return self.value * self.factor


class CostTable(BaseModel):
    """Named prices. `leaves_out` maps what has no price (a counter, or anything else) to the reason.

    `placed` prices what exists only on cores (`PLACED`). `memory_pj` are points (bytes, pJ) of one 64-bit access, for tables whose price
    of `weight_access` and `state_access` is a number of accesses. `chips` are the profiles whose static power belongs to this table.
    `against` names prices that are low where the others are high, because one measurement set their sum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    title: Text
    about: Text
    prices: dict[str, Price]
    placed: dict[str, Price] = {}
    memory_pj: list[tuple[float, float]] = []
    chips: list[Text] = []
    against: list[Text] = []
    leaves_out: dict[Text, Text]

    @model_validator(mode="after")
    def _consistent(self) -> CostTable:
        for name in self.prices:
            if name not in PRICEABLE:
                near = difflib.get_close_matches(name, PRICEABLE, 1) or PRICEABLE
                raise ValueError(f"prices.{name} is no counter; there is {', '.join(near)}")
            if name in self.leaves_out:
                raise ValueError(f"{name} has a price and is listed under leaves_out")
        if not self.prices and not set(COUNTERS) <= set(self.leaves_out):
            raise ValueError("prices holds none; a table that only counts lists every counter under leaves_out")
        strange = [n for n in self.placed if n not in PLACED]
        if strange:
            raise ValueError(f"placed.{strange[0]} is unknown; there is {', '.join(PLACED)}")
        if any(n.endswith("_access") for n in self.placed) != bool(self.memory_pj):
            raise ValueError("memory_pj and the prices of accesses go together")
        unknown = [n for n in self.against if n not in self.prices and n not in self.placed]
        if unknown:
            raise ValueError(f"against names {unknown[0]}, which has no price")
        halves = [n for n in (ACTIVE, INACTIVE) if n in self.prices]
        if len(halves) == 1 or (halves and "neuron_update" in self.prices):
            raise ValueError(f"price either neuron_update, or both {ACTIVE} and {INACTIVE}")
        return self

    @property
    def label(self) -> str:
        """Name to print: figures of Loihi 2 always say that they are estimates."""
        return f"{self.name} (estimate)" if any(c.startswith("loihi2") for c in self.chips) else self.name

    @property
    def counts_only(self) -> bool:
        return not self.prices

    def ends_pj(self, name: str) -> tuple[float, float]:
        """A price in pJ at the low and at the high end of this table's bands; the other way round for those that go `against` the rest."""
        price = self.prices.get(name) or self.placed[name]
        low, high = (v * price.factor for v in price.band)
        return (high, low) if name in self.against else (low, high)

    def pj(self, quantity: str) -> float | None:
        """Price of a quantity (`QUANTITIES` or `HOST`) in pJ; 0 if the table leaves it out with a reason; None if it does not know it."""
        name = self.entry(quantity)
        if name in self.prices:
            return self.prices[name].pj
        return 0.0 if counter_of(quantity) in self.leaves_out else None

    def entry(self, quantity: str) -> str:
        """The entry that prices a quantity: updates of both kinds may share one, and an idle visit costs an inactive update."""
        name = INACTIVE if quantity == IDLE else quantity
        return name if name in self.prices else counter_of(quantity)


def counter_of(quantity: str) -> str:
    """The counter that a quantity is a part of; a table that leaves updates out leaves idle visits out as well."""
    return "neuron_update" if quantity in (*UPDATES, IDLE) else quantity


def names() -> list[str]:
    """The tables that come with the program."""
    return sorted(p.stem for p in FOLDER.glob("*.yml"))


def load_table(name: str) -> CostTable:
    """A table by name, or from the path of a YAML file of the same form.

    Raises
    ------
    DeployError
        Unknown name, unreadable file, bad YAML, or a field that is missing or wrong (named).
    """
    path = FOLDER / f"{name}.yml" if name in names() else Path(name)
    where = str(path)
    form = f"write it like {FOLDER}/{names()[0]}.yml"
    try:
        content = yaml.load(path.read_text(), PlainYaml)
    except FileNotFoundError:
        raise DeployError(name, "no such cost table", f"known: {', '.join(names())}; or give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as e:
        raise DeployError(where, f"cannot be read ({e})", form) from None
    except (yaml.YAMLError, RecursionError) as e:
        raise DeployError(where, f"not YAML: {' '.join(str(e).split())}", form) from None
    if not isinstance(content, dict):
        raise DeployError(where, "not a cost table: it holds no keys", form)
    try:
        return CostTable.model_validate(content)
    except ValidationError as e:
        found = [f"{'.'.join(map(str, x['loc']))}: {x['msg']}".lstrip(": ") for x in e.errors()]
        raise DeployError(where, "; ".join(found), form) from None


def load_tables(given: list[str]) -> list[CostTable]:
    """Several tables; two of the same name are refused."""
    tables = [load_table(n) for n in given]
    known = [t.name for t in tables]
    for name in known:
        if known.count(name) > 1:
            raise DeployError("--costs", f"two tables are called {name}", "give each table a name of its own")
    return tables
