"""The class accumulators of an imported net: one scale for everything that adds up in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.convert.spikingjelly.hosting import RawPixels, reach
from spikegate.convert.spikingjelly.plan import Head, HeadPart
from spikegate.convert.spikingjelly.scaling import BIAS_MAX, ROOM, beside, best_scale, diffused, rounded, whole_bias
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.current import Current
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.readout import REACH, Readout
from spikegate.ops.step_window import StepWindow
from spikegate.synapses.synapse import one_sided_bound

HEAD = "class_scores"  # name of the host's share


@dataclass(frozen=True)
class HeadScale:
    """The head's scale, and in how many `parts` the host sends what it adds (see `hosting`)."""

    scale: float
    parts: int = 1

    @classmethod
    def of(cls, head: Head, timesteps: int, pixels: RawPixels, host_range: int) -> HeadScale:
        """The largest scale that pays and that the accumulators hold."""
        weights = [p.weight for p in head.parts]
        image = 0.0 if head.image is None else reach(head.image, pixels)
        found = best_scale(weights, BIAS_MAX / max(float(np.abs(head.bias).max()), 1e-12))
        while True:
            parts = 1
            while image and found * image / parts + 3 > host_range:
                parts *= 2
            direct = parts * (host_range + 1) if image else 0
            over = (_bound(head, found) + direct) * timesteps / (ROOM * REACH)
            if over < 1:
                return cls(found, parts)
            if found * max(float(np.abs(w).max()) for w in weights) < 1:
                what = f"its class sums need {over:.1f} times the 24-bit accumulators"
                raise DeployError(HEAD, what, "use fewer timesteps or blocks, or put neurons before the head")
            found *= min(0.98, 1.01 / over)


def _bound(head: Head, scale: float) -> int:
    """Largest class sum of a timestep, as the ops bound it."""
    *branches, last = head.parts
    found = one_sided_bound(_flat(head, last, scale), sum(last.highs) or len(last.sources), whole_bias(head.bias * scale))
    return found + sum((sum(p.highs) or len(p.sources)) * one_sided_bound(_flat(head, p, scale), 1) for p in branches)


def _flat(head: Head, part: HeadPart, scale: float) -> np.ndarray:
    return _integers(head, part, scale).reshape(len(part.weight), -1)


def _integers(head: Head, part: HeadPart, scale: float) -> np.ndarray:
    """Weights [classes, positions, channels]. Those of a stream are many and small: their rounding errors must not add up."""
    return (diffused if len(head.parts) > 1 else rounded)(part.weight * scale)


@dataclass
class _Windows:
    """What the class scores read of their sources: all, or in some timesteps only; one op for all sources that are read together."""

    graph: Graph
    head: Head
    timesteps: int

    def __call__(self, sources: list[str], part: HeadPart) -> list[str]:
        if self.head.steps is None:
            return sources
        mask = np.isin(np.arange(self.timesteps), self.head.steps).astype(np.int32)
        name = ".".join(["readout.window", *(sources if len(self.head.parts) > 1 else [])])
        if name not in self.graph.ops:
            high = sum(self.graph.payload_of(s).high for s in sources)
            self.graph.add(name, StepWindow(part.weight.shape[1:], mask, high), x=sources)
        return [name]


def add_head(
    graph: Graph, head: Head, found: HeadScale, timesteps: int, latent: dict[str, tuple[np.ndarray, np.ndarray]], image: str | None
) -> None:
    """Append readout and exit gate. Of a stream, the last branch is read by the readout's own weights, the others as currents;
    `image` is the op that holds what the host adds."""
    scale, classes = found.scale, len(head.bias)
    *branches, last = head.parts
    read = _Windows(graph, head, timesteps)
    more: dict[str, list[str]] = {}
    for p in branches:
        whole = _integers(head, p, scale)
        kernel, near = (
            np.ascontiguousarray(v.reshape(classes, *p.grid, -1).transpose(0, 3, 1, 2)) for v in (whole, beside(p.weight * scale, whole))
        )
        for source in p.sources:
            name, none = f"readout.{source}", np.zeros(classes)
            latent[name] = near, none
            op = Current(kernel.astype(np.int32), none.astype(np.int32), p.grid)
            more.setdefault("current", []).append(graph.add(name, op, x=read([source], p)))
    if image is not None:
        more["direct"] = [image]
    whole = _integers(head, last, scale)
    latent["readout"] = beside(last.weight * scale, whole), head.bias * scale
    op_ = Readout(whole.astype(np.int32), whole_bias(head.bias * scale), timesteps)
    graph.add("readout", op_, x=read(list(last.sources), last), **more)
    graph.add("exit", ExitGate(classes, timesteps, np.full(timesteps, NEVER)), logits="readout")
