"""What every operation of a graph is, and the registry of their kinds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from spikegate.graph.alu import Alu
from spikegate.graph.arrays import Axes
from spikegate.graph.signals import Counts, Inputs, Payload, Payloads, Problems, Shapes, Size, State


class Op:
    """One operation: its integer semantics, design rules, event counts and examples. Subclasses are frozen dataclasses.

    Input slots are named in `slots`; a trailing ``?`` marks an optional one, ``*`` a slot that takes a list of
    sources whose values add up (W(x + y) = Wx + Wy). Slot ``alive`` receives the credit of each token [batch, tokens]:
    a token with credit 0 is halted, costs nothing and sends nothing. Slot ``open`` receives the word of a timestep mask
    [batch, 1]: in a skipped timestep the engine does not call the op at all, in a muted one it drops the output; the op
    itself handles `held`. `copies` is for ops whose output is a current (see ops/current.py).
    """

    kind: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ("x*",)
    arithmetic: ClassVar[tuple[str, ...]] = ()  # integer operations on the synaptic path and in the update
    gates_tokens: ClassVar[bool] = False  # its output is the credit of each token
    halting: ClassVar[bool] = False  # exists only for halting, merging or masking: `static` removes it; its events are the cost of halting
    axes: ClassVar[Axes] = {}  # names of the axes of each field that is an array
    stand_in: ClassVar[str] = ""  # slot whose sources take its place when it is removed from a graph
    copies: int  # synapse copies of an op that drives its consumers' dendrites; other ops have none

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one sample's output."""
        raise TypeError(f"{type(self).__name__} has no output shape")

    @property
    def payload(self) -> Payload:
        return Payload(0, 1)

    @property
    def size(self) -> Size:
        return Size()

    @property
    def dense_ops(self) -> int:
        """Accumulates per timestep if every input were active, the field's FLOPs convention (padding taps counted)."""
        return 0

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Yield (what is wrong, what to do) for each broken design rule, given the sources' shapes and payloads."""
        yield from ()

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Yield (what, hint) where the worst-case input could leave the 24-bit registers within a sample's timesteps."""
        yield from ()

    def state(self, batch: int) -> State:
        """State at the start of a sample, arrays [batch, ...]."""
        return {}

    def initial(self, batch: int) -> np.ndarray:
        """What a delayed edge from this op carries before the first timestep."""
        return np.zeros((batch, *self.out_shape), np.int32)

    def latch(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> Counts:
        """Keep what arrives for the whole sample, and count it; the engine calls it under a timestep mask, for skipped timesteps, too."""
        return {}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        """One timestep. `t` [batch] counts from 1 in each sample; `state` is updated in place."""
        raise TypeError(f"{type(self).__name__} has no semantics")

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        """Events of this timestep per sample, counted from inputs and outputs. Missing counters are zero."""
        raise TypeError(f"{type(self).__name__} does not count its events")

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        """`span` timesteps of each sample with their events, rows in the order (sample, timestep): what the drivers call.

        `step` and `events` are the semantics; an op with compiled kernels does both here at once, with the same result.
        """
        if span == 1 or not state:
            out = self.step(state, inputs, t)
            return out, self.events(inputs, out, t)
        out = np.empty((len(t), *self.out_shape), np.int32)
        for k in range(span):
            now = {s: tuple(x[k::span] for x in v) if isinstance(v, tuple) else v[k::span] for s, v in inputs.items()}
            out[k::span] = self.step(state, now, t[k::span])
        return out, self.events(inputs, out, t)

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        """The interpreter's instruction that equals `advance`, built with an `engine.program.Program`; None where there is none."""
        return None

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Do the synaptic work of one sample event by event on `alu`, which can only add, compare, shift and AND.

        Returns (result, the same from the vectorised kernel); the audit demands that they are equal.
        """
        raise TypeError(f"{type(self).__name__} cannot be audited")

    def macs(self, inputs: Inputs) -> int:
        """Synaptic events of this timestep that need a multiplication: 0 for every op of our own nets."""
        return 0

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        """Yield (op, inputs for each timestep) for the conformance test."""
        yield from ()


Examples = Iterator[tuple[Op, list[Inputs]]]  # an op, its inputs for each timestep


OPS: dict[str, type[Op]] = {}
OpType = TypeVar("OpType", bound=Op)


@dataclass_transform(eq_default=False, frozen_default=True)
def register(cls: type[OpType]) -> type[OpType]:
    """Class decorator: make the op a frozen dataclass and enter it under its `kind`."""
    cls = dataclass(frozen=True, eq=False)(cls)
    if cls.kind in OPS and OPS[cls.kind].__qualname__ != cls.__qualname__:
        raise TypeError(f"op kind {cls.kind!r} is defined twice: {OPS[cls.kind]} and {cls}")
    OPS[cls.kind] = cls
    return cls


def load_ops() -> dict[str, type[Op]]:
    """Import every file of spikegate/ops, which enters its op; returns the registry."""
    package = importlib.import_module("spikegate.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"spikegate.ops.{module.name}")
    return OPS
