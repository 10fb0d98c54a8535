"""Three words for how a layer was imported, the same wherever nets come from."""

from __future__ import annotations

from typing import Any

from spikegate.errors import DeployError

EXACT = "exact"  # on every input the integers send what the model's floats send
APPROXIMATE = "approximate"  # numbers were rounded: the report says what changed and how often the spikes agree
UNSUPPORTED = "unsupported"  # refused, with the reason
WORDS = (EXACT, APPROXIMATE, UNSUPPORTED)


def told(fidelity: str, agreement: float) -> str:
    """The word as tables show it; an approximate layer's with its measured agreement, a share."""
    return f"{fidelity}, {100 * agreement:.2f} %" if fidelity == APPROXIMATE and agreement == agreement else fidelity


def refused(error: DeployError) -> dict[str, Any]:
    """What an import that was refused leaves as JSON."""
    reason = {"name": error.where, "fidelity": UNSUPPORTED, "reason": error.problem, "hint": error.hint}
    return {"fidelity": UNSUPPORTED, "layers": [reason]}
