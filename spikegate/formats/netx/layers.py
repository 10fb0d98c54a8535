"""What a script sees of the layers of the drop-in `Network`: stock NetX's names and its (width, height, channels) order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from spikegate.formats.netx.pipeline import Pipeline
from spikegate.graph.ir import DeployError, Op
from spikegate.ops.block_input import BlockInput

BLOCKS = {
    "block_input": "Input", "block_dense": "Dense", "block_recurrent": "RecDense", "block_conv": "Conv", "block_conv_t": "ConvT",
    "block_pool": "Pool", "block_unpool": "Unpool", "block_average": "Average",
}


def build(net_config: str, num_layers: int | None, skip_layers: int | None, input_message_bits: int | None,
          input_shape: tuple[int, ...] | None, reset_interval: int | None, reset_offset: int, spike_exp: int, limit: int) -> Pipeline:
    """The pipeline with its maps' forms; a DeployError for more layers than a process has ports."""
    pipeline = Pipeline(net_config, num_layers, skip_layers, input_message_bits or 0, input_shape, reset_interval, reset_offset, spike_exp)
    if len(pipeline.layers) > limit:
        raise DeployError(str(net_config), f"has {len(pipeline.layers)} layers, {limit} at most", "use num_layers and skip_layers")
    if reset_interval is not None and reset_interval < 1:
        raise DeployError("reset_interval", f"{reset_interval} is no number of steps", "give 1 or more, or None")
    first = pipeline.layers[0].op
    if isinstance(first, BlockInput):  # scripts write what comes after the affine transform
        object.__setattr__(first, "transform", {"weight": first.weight, "bias": first.bias})
        object.__setattr__(first, "out_grid", tuple(pipeline.graph.meta["input_map"][1:]))
    return pipeline


def input_shape_of(pipeline: Pipeline, given: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """What stock NetX's attribute ``input_shape`` ends as: the shape before the first layer, or None where that is an input block."""
    if pipeline.immediate:
        return given
    return tuple(pipeline.graph.meta["input_map"][::-1]) if "input_map" in pipeline.graph.meta else given


def _grid(op: Op, incoming: bool) -> tuple[int, ...]:
    return tuple(getattr(op, "grid" if incoming else "out_grid", ()))


def shape_of(op: Op, incoming: bool = False) -> tuple[int, ...]:
    """Shape of a layer's output, or of its input, as stock NetX has it: (width, height, channels) or (neurons,)."""
    shape = tuple(getattr(op, "in_shape", op.out_shape)) if incoming else op.out_shape
    grid = _grid(op, incoming and not isinstance(op, BlockInput))
    return (grid[1], grid[0], shape[-1]) if len(grid) == 2 else shape


def to_lava(x: np.ndarray, op: Op) -> np.ndarray:
    """Output of a layer, our (positions, channels), as stock NetX sends it."""
    grid = _grid(op, False)
    return x.reshape(*grid, -1).transpose(1, 0, 2) if len(grid) == 2 else x


def from_lava(x: np.ndarray, op: Op, incoming: bool = False) -> np.ndarray:
    """What stock NetX receives, as our (positions, channels)."""
    x = np.asarray(x)
    grid = _grid(op, incoming)
    if len(grid) == 2 and x.ndim == 3:
        return x.transpose(1, 0, 2).reshape(grid[0] * grid[1], -1)
    return x


class Bias:
    """Stand-in for the Var ``neuron.bias_mant``: set `init` before the network runs."""

    def __init__(self, biases: dict[int, Any], k: int, value: Any) -> None:
        self._biases, self._k, self._value = biases, k, value

    @property
    def init(self) -> Any:
        return self._biases.get(self._k, self._value)

    @init.setter
    def init(self, value: Any) -> None:
        self._biases[self._k] = np.asarray(value).astype(np.int64)


class LayerView:
    """One layer: `shape`, `inp` (the first one's), `out`, `block`, message bits, `neuron` (`a_in` and `bias_mant` of an input block)."""

    HEADER: ClassVar[str] = "|   Type   |  W  |  H  |  C  | ker | str | pad | dil | grp |delay|"

    def __init__(self, pipeline: Pipeline, k: int, input_message_bits: int, biases: dict[int, Any]) -> None:
        layer = pipeline.layers[k]
        self.op, self.k, self.name = layer.op, k, layer.name
        self.shape, self.in_shape = shape_of(layer.op), shape_of(layer.op, incoming=True)
        self.block = BLOCKS[layer.op.kind]
        self.transform = getattr(layer.op, "transform", None)
        self.delayed = layer.delay is not None or layer.axon is not None
        self.input_message_bits = input_message_bits
        self.output_message_bits = 0 if layer.op.payload.binary else 16
        self.inp = self.out = None
        self.neuron = SimpleNamespace(shape=self.shape)
        if isinstance(layer.op, BlockInput):
            self.neuron.bias_mant = Bias(biases, k, layer.bias)

    def join(self, inp: Any, out: Any) -> None:
        """Give the layer its ports."""
        self.inp, self.out = inp, out
        self.neuron.s_out = out
        if inp is not None:
            self.synapse = SimpleNamespace(s_in=inp)
            if isinstance(self.op, BlockInput):
                self.neuron.a_in = inp

    @property
    def row(self) -> str:
        """Its line of the table that ``print(net)`` shows."""
        wide = self.shape if len(self.shape) == 3 else (1, 1, self.shape[0])
        cells = [f"{self.block:10s}", *(f"{n:5d}" for n in wide)]
        weight = getattr(self.op, "weight", None)
        if isinstance(weight, np.ndarray) and weight.ndim == 4:
            pairs = [weight.shape[:1:-1], *(tuple(getattr(self.op, key, (1, 1)))[::-1] for key in ("stride", "padding", "dilation"))]
            cells += [f"{a:2d},{b:2d}" for a, b in pairs]
            cells.append(f"{getattr(self.op, 'groups', 1):5d}")
        else:
            cells += [f"{'':5s}"] * 5
        return "|" + "|".join([*cells, f"{self.delayed!s:5s}"]) + "|"


def described(pipeline: Pipeline, biases: dict[int, Any]) -> list[LayerView]:
    """A view of every layer; each gets the message bits of the one before."""
    views: list[LayerView] = []
    bits = pipeline.message_bits
    for k in range(len(pipeline.layers)):
        views.append(LayerView(pipeline, k, bits, biases))
        bits = views[-1].output_message_bits
    return views
