"""Design rules of time: ops that know the number of timesteps agree with the net's, and what ends a sample is connected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

HINT = "give the net and its ops the same number of timesteps"


def clock_problems(ops: Mapping[str, Any], edges: Iterable[Any], timesteps: int) -> Iterator[tuple[str, str, str]]:
    """(op, what is wrong, what to do) for ops by name and the edges between them."""
    fed = {(e.target, e.slot): e.source for e in edges}
    ends = {fed.get((n, "alive")) for n, op in ops.items() if op.kind == "exit_gate"}
    for name, op in ops.items():
        given = len(op.mask) if op.kind in ("timestep_gate", "step_window") else getattr(op, "timesteps", timesteps)
        if given != timesteps:
            yield name, f"is made for {given} timesteps, the net runs {timesteps}", HINT
        after = fed.get((name, "after")) if op.kind == "readout" else None
        if after is not None and after not in ends:
            # when no token lives it adds what the rest of the sample would, so the sample has to end
            yield name, f"takes the credit of {after!r}, but no exit gate does", f"connect slot 'alive' of the exit gate to {after!r}"
