"""Chip profiles: limits of a core, mesh, operation times and static power, each with unit, source and evidence class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy.cost_tables import Text
from spikegate.reading.plain_yaml import PlainYaml

FOLDER = Path(__file__).parent / "profiles"
LIMITS = (
    "neurons_per_core", "neurons_per_conv_core", "synaptic_words", "axons_in", "axons_out", "weight_bits", "graded_bits",
    "cores_per_chip", "mesh_columns", "mesh_rows", "cores_per_tile",
)
OPTIONAL = {"limits": ("axon_delay",), "timing": ("host_value",), "power": ("x86_chip",)}  # left out: none, or not known
TIMES = ("synop", "neuron_active", "neuron_inactive", "spike_out", "memory_word", "link_packet", "hop_x", "hop_y", "barrier",
         "chip_barrier")
NEEDED = ("neurons_per_core", "neurons_per_conv_core", "cores_per_chip", "mesh_columns", "mesh_rows", "cores_per_tile")
UNITS = {"limits": None, "timing": "ns", "power": "W", "energy": "pJ"}


class Entry(BaseModel):
    """One figure of a profile; `value` null means that nobody published it, and then nothing is checked or added with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = Field(ge=0, allow_inf_nan=False)
    low: float | None = Field(default=None, ge=0)
    high: float | None = Field(default=None, ge=0)
    unit: Text
    source: Text
    evidence: Literal["measured", "fitted", "published-simulated", "published-estimate", "borrowed", "assumed"]

    @property
    def band(self) -> tuple[float, float]:
        """(low, high); both the value where no band is known."""
        value = self.value or 0.0
        return value if self.low is None else self.low, value if self.high is None else self.high


class Supports(BaseModel):
    """What the chip's neurons and spikes can do at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    graded_spikes: bool
    programmable_neurons: bool


class Chip(BaseModel):
    """A chip. `limits`, `timing` (ns), `power` (W) and `energy` (pJ) map names to `Entry`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    title: Text
    about: Text
    supports: Supports
    limits: dict[str, Entry]
    timing: dict[str, Entry]
    power: dict[str, Entry]
    energy: dict[str, Entry]

    @model_validator(mode="after")
    def _complete(self) -> Chip:
        for part, names in (("limits", LIMITS), ("timing", TIMES), ("power", ("static_chip",)), ("energy", ("hop_x", "hop_y"))):
            given = getattr(self, part)
            wrong = sorted(set(names) ^ (set(given) - set(OPTIONAL.get(part, ()))))
            if wrong:
                raise ValueError(f"{part}.{wrong[0]} is {'missing' if wrong[0] in names else 'unknown'}; {part} holds {', '.join(names)}")
            unit = UNITS[part]
            bad = [n for n, e in given.items() if unit is not None and e.unit != unit]
            if bad:
                raise ValueError(f"{part}.{bad[0]} is in {given[bad[0]].unit}; give it in {unit}")
        for name in NEEDED:
            value = self.limits[name].value
            if value is None or value < 1 or value != int(value):
                raise ValueError(f"limits.{name} must be a whole number from 1")
        if self.cores_per_chip > self.columns * self.rows * self.cores_per_tile:
            raise ValueError(f"{self.cores_per_chip} cores do not fit {self.columns} x {self.rows} tiles of {self.cores_per_tile}")
        return self

    def limit(self, name: str) -> int | None:
        value = self.limits[name].value if name in self.limits else None
        return None if value is None else int(value)

    def _whole(self, name: str) -> int:
        value = self.limits[name].value
        assert value is not None
        return int(value)

    @property
    def cores_per_chip(self) -> int:
        return self._whole("cores_per_chip")

    @property
    def columns(self) -> int:
        return self._whole("mesh_columns")

    @property
    def rows(self) -> int:
        return self._whole("mesh_rows")

    @property
    def cores_per_tile(self) -> int:
        return self._whole("cores_per_tile")

    def ns(self, name: str) -> float:
        """Time of one operation in ns; 0 where nothing is published."""
        return self.timing[name].value or 0.0


def names() -> list[str]:
    """The profiles that come with the program."""
    return sorted(p.stem for p in FOLDER.glob("*.yml"))


def load_chip(name: str) -> Chip:
    """A profile by name, or from the path of a YAML file of the same form.

    Raises
    ------
    DeployError
        Unknown name, unreadable file, bad YAML, or a field that is missing or wrong (named).
    """
    path = FOLDER / f"{name}.yml" if name in names() else Path(name)
    form = f"write it like {FOLDER}/loihi2.yml"
    try:
        content = yaml.load(path.read_text(), PlainYaml)
    except (FileNotFoundError, IsADirectoryError):
        raise DeployError(name, "no such chip profile", f"known: {', '.join(names())}; or give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as e:
        raise DeployError(str(path), f"cannot be read ({e})", form) from None
    except (yaml.YAMLError, RecursionError) as e:
        raise DeployError(str(path), f"not YAML: {' '.join(str(e).split())}", form) from None
    if not isinstance(content, dict):
        raise DeployError(str(path), "not a chip profile: it holds no keys", form)
    try:
        return Chip.model_validate(content)
    except ValidationError as e:
        found = [f"{'.'.join(map(str, x['loc']))}: {x['msg']}".lstrip(": ") for x in e.errors()]
        raise DeployError(str(path), "; ".join(found), form) from None
