"""What a NIR graph computes, in floats: layers of neurons, the linear terms that drive them, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikegate.formats.nir.linear import LinearMap, Shape
from spikegate.formats.nir.soft import Reset
from spikegate.graph.ir import Payload

SPIKES, SUM, LAST = "spikes", "sum over timesteps", "value at the last timestep"


@dataclass(frozen=True)
class Source:
    """Spikes of a layer, or the host's input, `delay` timesteps ago: one number, or a tuple with one for each flat index."""

    name: str
    delay: int | tuple[int, ...] = 0


@dataclass(frozen=True, eq=False)
class Term:
    """``map(sum of sources) + bias``; `bias` float [outputs] or 0. `node` is the last linear NIR node on the way, `branch` our mark."""

    map: LinearMap
    sources: tuple[Source, ...]
    bias: float | np.ndarray = 0.0
    node: str = ""
    branch: bool = False


@dataclass(eq=False)
class Layer:
    r"""Neurons of one NIR node, forward Euler; flat arrays, or one number for all.

    .. math::
        u_t = k_u u_{t-1} + g x_t, \qquad v_t = k_v v_{t-1} + u_t + b, \qquad
        s_t = [v_t > \vartheta], \qquad v_t \leftarrow v_r \text{ where } s_t = 1

    With a `step` (soft reset) each of up to `levels` spikes of a timestep takes it from the voltage instead. `keep_u` is 0 where there
    is no current of its own. Integrators have no threshold and send their voltage.
    """

    name: str
    kind: str
    shape: Shape
    terms: list[Term]
    gain: np.ndarray
    keep_u: np.ndarray
    keep_v: np.ndarray
    bias: np.ndarray
    threshold: np.ndarray | None = None
    reset: np.ndarray = field(default_factory=lambda: np.zeros(1))
    step: np.ndarray | None = None
    levels: int = 1


@dataclass(eq=False)
class Head:
    """The answer: terms that add up over timesteps (`gain` times them), an integrating layer, or the spikes of layers themselves."""

    name: str
    output: str
    shape: Shape
    terms: list[Term]
    rule: str = SUM
    gain: float | np.ndarray = 1.0
    layer: Layer | None = None  # a leaky integrator


@dataclass
class Plan:
    """Layers in an order in which each comes after those that it reads without delay."""

    timesteps: int
    input_name: str
    input_shape: Shape
    payload: Payload
    layers: dict[str, Layer] = field(default_factory=dict)
    head: Head | None = None
    dt: float = 1.0
    reset: Reset = field(default_factory=Reset)  # of neurons that do not say another
    replay: str = ""  # node that holds the host's integers, in files of ours
    replay_payload: Payload = field(default_factory=lambda: Payload(0, 1))
    notes: list[str] = field(default_factory=list)  # what had to change before layers were made
