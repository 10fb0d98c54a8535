"""What a spike does to the voltage: it is set to 0, or the threshold is subtracted, once or several times in a timestep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from spikegate.graph.signals import Payload

ZERO, SUBTRACT = "zero", "subtract"
STEP_MAX = (1 << 17) - 1  # a step of the voltage fits its 24 bits
LEVELS_MAX = 127  # an event's value fits the payload of a graded spike and is summed in 16 bits


class Resets(Protocol):
    """A neuron with these fields; `v_step` 0 stands for `vth`."""

    @property
    def vth(self) -> int: ...

    @property
    def reset(self) -> str: ...

    @property
    def v_step(self) -> int: ...

    @property
    def levels(self) -> int: ...


def rule(n: Resets, shift: int) -> tuple[int, int, int]:
    """(threshold, step, levels) for the kernels, in units of the state; a step of 0 sets the voltage to 0."""
    step = (n.v_step or n.vth) << shift if n.reset == SUBTRACT else 0
    return int(n.vth << shift), int(step), int(n.levels)


def payload(n: Resets) -> Payload:
    """What such a neuron sends in a timestep."""
    return Payload(0, n.levels)


def stock(n: Resets) -> bool:
    """Whether a NetX file of lava-dl's can say the reset: a voltage set to 0, and binary spikes."""
    return n.reset == ZERO and n.levels == 1


def problems(n: Resets) -> Iterator[tuple[str, str]]:
    """Design rules: (what is wrong, what to do)."""
    if n.reset not in (ZERO, SUBTRACT):
        yield f"reset {n.reset!r} is unknown", f"use {ZERO!r} or {SUBTRACT!r}"
    if n.reset == ZERO and (n.v_step or n.levels != 1):
        yield "has a step or several levels, but is reset to 0", f"use reset {SUBTRACT!r}"
    if not 0 <= n.v_step <= STEP_MAX:
        yield f"v_step {n.v_step} is outside [0, {STEP_MAX}]", "rescale weights, bias and threshold together"
    if not 1 <= n.levels <= LEVELS_MAX:
        yield f"levels {n.levels} is outside [1, {LEVELS_MAX}]", "an event carries at most 7 bits"
