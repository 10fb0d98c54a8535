"""One table: what each linear NIR node is as a map, and what each node with a state is as a layer of neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.linear import Each, Grid, LinearMap, Matrix, Shape, Window
from spikegate.formats.nir.plan import Layer, Term
from spikegate.formats.nir.shapes import geometry, whole, whole_pair
from spikegate.formats.nir.soft import LATE, SUBTRACT, ZERO, Reset, reset_of
from spikegate.neurons.resets import LEVELS_MAX

Converted = tuple[LinearMap, "np.ndarray | float"]
GRAIN = 2.0**20
HARD = Reset()
HINT_DT = "give the timestep in seconds that the model was made for: --dt"


def _product(name: str, node: Any, given: Shape, sent: Shape) -> Converted:
    bias = np.asarray(node.bias, float).ravel() if hasattr(node, "bias") else 0.0
    if not isinstance(bias, float) and bias.size not in (1, sent[0]):
        raise DeployError(name, f"bias has {bias.size} values for {sent[0]} outputs", "give one for each output")
    return Matrix(given, sent, np.asarray(node.weight, float)), np.broadcast_to(bias, sent)


def _conv(name: str, node: Any, given: Shape, sent: Shape) -> Converted:
    axes = len(given) - 1
    kernel, stride, (before, after), dilation = geometry(name, node, axes)
    weight = np.asarray(node.weight, float)
    one = (1,) * (2 - axes)  # a row alone is a map of height 1
    weight = weight.reshape(*weight.shape[:2], *one, *kernel)
    rows, columns = _grid((*one, *dilation))
    spread = np.zeros((*weight.shape[:2], rows * (weight.shape[2] - 1) + 1, columns * (weight.shape[3] - 1) + 1))
    spread[:, :, ::rows, ::columns] = weight
    more = _grid((*(0,) * (2 - axes), *(a - b for a, b in zip(after, before))))  # a frame wider behind: zeros in the kernel's front
    spread = np.pad(spread, [(0, 0), (0, 0), *((m, 0) for m in more)])
    frame = _grid((*(0,) * (2 - axes), *after))
    bias = np.repeat(np.asarray(node.bias, float), int(np.prod(sent[1:])))
    return Window(given, sent, spread, _grid((*one, *stride)), frame, whole(name, "groups", node.groups, 1)), bias


def _grid(values: tuple[int, ...]) -> Grid:
    return values[0], values[1]


def _pool(name: str, node: Any, given: Shape, sent: Shape) -> Converted:
    kernel, stride = (whole_pair(name, f, getattr(node, f), 1) for f in ("kernel_size", "stride"))
    share = 1.0 / (kernel[0] * kernel[1]) if type(node).__name__ == "AvgPool2d" else 1.0
    return Window(given, sent, np.full((given[0], 1, *kernel), share), stride, whole_pair(name, "padding", node.padding, 0), given[0]), 0.0


def _scale(name: str, node: Any, given: Shape, sent: Shape) -> Converted:
    return Each(given, sent, flat(node.scale, given)), 0.0


def _reshape(name: str, node: Any, given: Shape, sent: Shape) -> Converted:
    return Each(given, sent), 0.0


LINEAR: dict[str, Callable[[str, Any, Shape, Shape], Converted]] = {
    "Affine": _product, "Linear": _product, "Conv1d": _conv, "Conv2d": _conv, "SumPool2d": _pool, "AvgPool2d": _pool,
    "Scale": _scale, "Flatten": _reshape,
}  # fmt: skip


def flat(values: Any, shape: Shape) -> np.ndarray:
    """A node's numbers as float [1] where all are equal, else [size] in flat order."""
    given = np.asarray(values, float)
    if (given == given.flat[0]).all():
        return given.reshape(-1)[:1].copy()
    return np.broadcast_to(given, shape).reshape(-1).copy()


def _rate(name: str, field: str, tau: np.ndarray, dt: float) -> np.ndarray:
    """Share of a state that leaks in a timestep, ``dt / tau``."""
    if (tau <= 0).any():
        raise DeployError(name, f"{field} is {tau.min():g}", "time constants are above 0")
    rate = dt / tau
    if (rate > 1 + 1e-9).any():
        raise DeployError(name, f"{field} = {tau.min():g} s is shorter than a timestep of {dt:g} s", HINT_DT)
    return np.minimum(rate, 1.0)


def neurons(name: str, node: Any, shape: Shape, terms: list[Term], dt: float, told: Reset = HARD) -> Layer:
    """The layer of a node with a state, by forward Euler with `dt` seconds; `told` is the reset where the node does not say another.

    Raises
    ------
    DeployError
        For time constants shorter than `dt`, thresholds that fire without input, voltages that are reset above them.
    """
    kind = type(node).__name__

    def of(field: str) -> np.ndarray:
        return flat(getattr(node, field), shape)

    one, none = np.ones(1), np.zeros(1)
    if kind == "Threshold":
        made = Layer(name, kind, shape, terms, one, none, none, none, of("threshold"))
    elif kind in ("I", "IF"):
        made = Layer(name, kind, shape, terms, dt * of("r"), none, one, none)
    else:
        rate = _rate(name, "tau" if kind in ("LI", "LIF") else "tau_mem", of("tau" if kind in ("LI", "LIF") else "tau_mem"), dt)
        gain, keep_u = of("r") * rate, none
        if kind in ("CubaLI", "CubaLIF"):
            fast = _rate(name, "tau_syn", of("tau_syn"), dt)
            gain, keep_u = gain * (of("w_in") * fast), 1 - fast
        made = Layer(name, kind, shape, terms, gain, keep_u, 1 - rate, of("v_leak") * rate)
    if kind in ("IF", "LIF", "CubaLIF"):
        made.threshold, made.reset = of("v_threshold"), of("v_reset")
        _soften(made, reset_of(name, node, told))
    if made.threshold is not None and (made.threshold < made.reset).any():
        what = f"its threshold {made.threshold.min():g} is below {'its reset voltage' if made.reset.any() else '0'}"
        raise DeployError(name, f"{what}: it fires without input", "thresholds on chip are above the voltage that a spike leaves")
    made.gain, made.bias = near(made.gain), near(made.bias)
    return made


def _soften(made: Layer, reset: Reset) -> None:
    """Soft reset: what a spike takes from the voltage instead of NIR's reset, and how often in a timestep."""
    if reset.kind == ZERO:
        return
    assert made.threshold is not None
    if made.reset.any():
        what = f"resets to {made.reset.flat[0]:g} in the file, and by subtraction as told"
        raise DeployError(made.name, what, f"tell reset {ZERO!r}, or write v_reset 0")
    if (made.threshold <= 0).any():
        raise DeployError(made.name, "its threshold is 0, which subtracts nothing", f"tell reset {ZERO!r}")
    made.step, made.reset, made.levels = made.threshold, np.zeros(1), reset.levels or LEVELS_MAX
    if reset.kind == LATE:
        if (made.keep_v == 0).any():
            raise DeployError(made.name, "forgets its voltage, and would subtract from the next", f"tell reset {SUBTRACT!r}")
        made.step = made.threshold / made.keep_v  # what is taken before the leak, so that the threshold is missing behind it


def near(values: np.ndarray) -> np.ndarray:
    """Products such as ``r / tau`` without the last bit's error, where they mean a number that a chip can hold."""
    whole = np.round(values * GRAIN) / GRAIN
    return np.where(np.abs(whole - values) <= 1e-13 * np.abs(values), whole, values)
