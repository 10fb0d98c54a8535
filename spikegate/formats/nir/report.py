"""What an import changed: every layer exact or approximate, with the share of spikes that agree with NIR's equations in floats."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from spikegate.fidelity import APPROXIMATE, EXACT, told


@dataclass
class LayerReport:
    """One layer. Rates and agreement are shares of (neuron, timestep) cells on the calibration samples; nan where nothing was run.

    `alone`: the share that agrees when the layer gets the float net's spikes, so that only its own rounding counts.
    """

    name: str
    node: str
    neurons: int
    fidelity: str
    scale: float
    notes: list[str] = field(default_factory=list)
    float_rate: float = float("nan")
    int_rate: float = float("nan")
    agreement: float = float("nan")
    alone: float = float("nan")


@dataclass
class Report:
    """An import.

    Attributes
    ----------
    answer : what the scores are: spikes, a sum over timesteps, the value at the last timestep
    scores_per_unit : the net's scores are this many times NIR's
    same_answers : share of calibration samples with the same best class
    calibration : what the samples were
    source_sums, source_answers : where the model itself ran beside: shares of its summed outputs and best classes that are the same
    """

    layers: list[LayerReport]
    answer: str
    scores_per_unit: float
    dt: float
    timesteps: int
    samples: int = 0
    same_answers: float = float("nan")
    calibration: str = "none"
    notes: list[str] = field(default_factory=list)
    source_sums: float = float("nan")
    source_answers: float = float("nan")

    def add_note(self, layer: str, note: str) -> None:
        """Something that makes a layer another computation than its source's."""
        for row in self.layers:
            if row.name == layer:
                row.notes.append(note)
                row.fidelity = APPROXIMATE

    @property
    def fidelity(self) -> str:
        return EXACT if self.exact else APPROXIMATE

    @property
    def exact(self) -> bool:
        """Whether the integers compute what the file's floats do, spike by spike."""
        return not self.notes and all(r.fidelity == EXACT for r in self.layers)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "exact": self.exact, "fidelity": self.fidelity}

    def table(self) -> Table:
        """The layers as a table."""
        table = Table(title=f"NIR against integers on {self.samples} samples ({self.calibration})", title_justify="left", box=None)
        for column in ("layer", "node"):
            table.add_column(column, no_wrap=True)
        for column in ("neurons", "float rate", "int rate", "agreement", "alone"):
            table.add_column(column, justify="right")
        for column in ("fidelity", "what changed"):
            table.add_column(column)
        for r in self.layers:
            shares = ("" if v != v else f"{100 * v:.2f} %" for v in (r.float_rate, r.int_rate, r.agreement, r.alone))
            table.add_row(r.name, r.node, f"{r.neurons:,}", *shares, told(r.fidelity, r.agreement), "; ".join(r.notes))
        return table
