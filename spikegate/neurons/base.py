"""What the neurons of NetX layers have in common, and how a file distinguishes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from spikegate.graph.ir import Payload
from spikegate.kernels import counting
from spikegate.neurons.cuba import DECAY_ONE, LIMIT

SPIKE = Payload(0, 1)
GRADED = Payload(-LIMIT, LIMIT)
Per = Any  # an int, or an int array [channels]


class Neuron:
    """Integer dynamics of one layer's neurons. Subclasses are frozen dataclasses of integers, arrays [channels] and strings.

    `step` takes the synapses' sums in weight units, int64 [batch, *shape] (for a `complex` neuron a pair of them), the bias in the
    same units (broadcast from the right) and `fine`, bits of fraction that the sums carry; it updates `state` in place.
    """

    kind: ClassVar[str]
    complex: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ()  # state variables
    reset_names: ClassVar[tuple[str, ...]] = ()  # those that stock NetX's periodic reset clears

    def __eq__(self, other: object) -> bool:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(other) is type(self) and all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields)

    def __hash__(self) -> int:
        return hash(self.kind)

    @property
    def payload(self) -> Payload:
        return SPIKE

    @property
    def state_bits(self) -> int:
        return 24 * len(self.names)

    def state(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        return {n: np.zeros(shape, np.int32) for n in self.names}

    def problems(self, channels: int) -> Iterator[tuple[str, str]]:
        """Design rules: (what is wrong, what to do)."""
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = np.asarray(getattr(self, f.name))
            if value.dtype.kind in "iu" and value.ndim and value.shape != (channels,):
                yield f"{f.name} has {value.size} values for {channels} channels", "give one number, or one for each channel"
            if f.name.endswith("decay") and value.size and (value.min() < 0 or value.max() > DECAY_ONE):
                yield f"{f.name} spans [{value.min()}, {value.max()}], not [0, 4096]", "decays are 12-bit fractions"

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} has no dynamics")

    def steps(self, state: dict[str, np.ndarray], current: Any, bias: Any, span: int, fine: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """`step` over `span` timesteps of each sample: outputs [samples * span, ...] and how many are not 0 in each row.

        Rows of `current` have the order (sample, timestep). Subclasses with a compiled kernel override this; the result is the same.
        """
        if span == 1 or not self.names:
            out = self.step(state, current, bias, fine)
        else:
            parts = [self.step(state, current[k::span], bias, fine) for k in range(span)]
            out = np.stack(parts, 1).reshape(len(current), *parts[0].shape[1:])
        return out, counting.nonzeros(out.reshape(len(out), -1))


def channels_last(x: np.ndarray) -> np.ndarray:
    """Array [rows, ..., channels] as [rows, positions, channels]."""
    return np.ascontiguousarray(x).reshape(len(x), -1, x.shape[-1])


def each_channel(value: Per, n: int) -> np.ndarray:
    """A number, or one for each channel, as int64 [n]."""
    return np.array(np.broadcast_to(np.asarray(value, np.int64), (n,)))


def each_place(bias: Any, n: int) -> np.ndarray:
    """A bias for all, for each channel or for each neuron, as int64 [positions or 1, n]."""
    given = np.asarray(bias, np.int64)
    return np.array(given if given.ndim == 2 else np.broadcast_to(given, (1, n)))


NEURONS: dict[str, type[Neuron]] = {}
NeuronType = TypeVar("NeuronType", bound=Neuron)


@dataclass_transform(eq_default=False, frozen_default=True)
def neuron(cls: type[NeuronType]) -> type[NeuronType]:
    """Class decorator: a frozen dataclass, known to the file reader under its `kind`."""
    cls = dataclass(frozen=True, eq=False)(cls)
    NEURONS[cls.kind] = cls
    return cls


def scaled(sums: np.ndarray, bits: int) -> np.ndarray:
    """``sums * 2^bits``, int64."""
    return sums.astype(np.int64) << bits
