"""What NIR's equations cannot say of a reset, and models do: a spike subtracts the threshold, several spikes leave in a timestep.

snnTorch and Sinabs write their neurons as NIR's IF and LIF, whose spike sets the voltage to `v_reset`; what the model did instead is
lost. It is told here: for a whole file by the caller, or for a node in its metadata, which our own converters fill in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikegate.errors import DeployError
from spikegate.neurons.resets import LEVELS_MAX
from spikegate.reading.text import said

ZERO, SUBTRACT, LATE = "zero", "subtract", "subtract-late"
RESETS = (ZERO, SUBTRACT, LATE)


@dataclass(frozen=True)
class Reset:
    """`kind` "zero" is NIR's own; with "subtract-late" the threshold is taken one timestep later, past the leak, as snnTorch does.

    `levels`: most spikes of a timestep; 0 means as many as the voltage holds.
    """

    kind: str = ZERO
    levels: int = 1

    def __post_init__(self) -> None:
        if self.kind not in RESETS:
            raise DeployError("reset", f"{self.kind!r} is unknown", f"use {', '.join(RESETS)}")
        if not isinstance(self.levels, int) or isinstance(self.levels, bool) or not 0 <= self.levels <= LEVELS_MAX:
            raise DeployError("levels", f"is {self.levels!r}", f"give 1 to {LEVELS_MAX}, or 0 for as many as the voltage holds")
        if self.kind == ZERO and self.levels != 1:
            raise DeployError("levels", "several spikes of a timestep need a reset that subtracts", f"use reset {SUBTRACT!r}")


def reset_of(name: str, node: Any, told: Reset) -> Reset:
    """The reset of a node: its metadata's, else what the caller told."""
    facts = getattr(node, "metadata", None) or {}
    if "reset" not in facts and "levels" not in facts:
        return told
    kind, levels = facts.get("reset", told.kind), facts.get("levels", told.levels)
    try:
        return Reset(said(kind), int(levels))
    except (TypeError, ValueError, OverflowError) as e:
        raise DeployError(name, f"its metadata: levels is no whole number ({e})", "give 1, or more for several spikes a timestep") from None
    except DeployError as e:
        raise DeployError(name, f"its metadata: {e.where} {e.problem}", e.hint) from None
