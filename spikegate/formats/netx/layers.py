"""What a script sees of the layers of the drop-in `Network`: stock NetX's names and its (width, height, channels) order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from spikegate.formats.netx.pipeline import Pipeline
from spikegate.graph.ir import DeployError, Op
from spikegate.ops.block_input import BlockInput


def build(net_config: str, num_layers: int | None, skip_layers: int | None, input_message_bits: int | None,
          input_shape: tuple[int, ...] | None, reset_interval: int | None, reset_offset: int, spike_exp: int) -> Pipeline:
    """The pipeline with its maps' forms."""
    pipeline = Pipeline(net_config, num_layers, skip_layers, input_message_bits or 0, input_shape, reset_interval, reset_offset, spike_exp)
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


class Parameters(dict[str, Any]):
    """Constructor parameters of a synapse as stock's ``proc_params._parameters``: a script may change `weight_exp`, nothing else acts."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key != "weight_exp":
            raise DeployError(f"synapse parameter {key!r}", "does not act in the drop-in: the file's weights run",
                              "change weight_exp, or write other weights into the file")
        super().__setitem__(key, value)


class Closed:
    """What is not there of a layer, said by name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{type(self).__name__} has no {name!r}: the drop-in runs all layers in one process and opens ports, "
                             "state, threshold, decays and bias of neurons, and weights (docs/netx.md)")


class SynapseView(Closed):
    """Synapses of a layer: `shape`, `weights` (as the file holds them), `proc_params`; `s_in` where the layer is the first."""

    def __init__(self, weight: np.ndarray, bits: int, acts_as: type | None = None) -> None:
        self.shape = weight.shape
        self.weights = SimpleNamespace(init=weight, shape=weight.shape, get=lambda: weight)
        self.proc_params = SimpleNamespace(_parameters=Parameters(weights=weight, weight_exp=0, num_message_bits=bits))
        self._acts_as = acts_as

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Stock's class, so that isinstance() answers as there; `type` tells."""
        return self._acts_as or SynapseView

    @property
    def exponent(self) -> int:
        """What a script added to the exponent."""
        return int(self.proc_params._parameters["weight_exp"])


class NeuronView(Closed):
    """Neurons of a layer: `shape`, `s_out`, `a_in` of an input block, and Vars as the process that holds them names them."""

    s_out: Any
    a_in: Any

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


class LayerView(Closed):
    """One layer: `shape`, `inp` (the first one's), `out`, `block`, message bits, `neuron` and its synapses."""

    HEADER: ClassVar[str] = "|   Type   |  W  |  H  |  C  | ker | str | pad | dil | grp |delay|"

    def __init__(self, pipeline: Pipeline, k: int, input_message_bits: int, synapse: type | None = None) -> None:
        layer = pipeline.layers[k]
        self.op, self.k, self.name = layer.op, k, layer.name
        self.shape, self.in_shape = shape_of(layer.op), shape_of(layer.op, incoming=True)
        self.transform = getattr(layer.op, "transform", None)
        self.delayed = layer.delay is not None or layer.axon is not None
        self.input_message_bits = input_message_bits
        self.output_message_bits = 0 if layer.op.payload.binary else 16
        self.inp = self.out = None
        self.neuron = NeuronView(self.shape)
        parts = {"synapse": "weight", "synapse_rec": "weight_rec"}
        if isinstance(self, ComplexDense):
            parts = {"real_synapse": "weight", "imag_synapse": "weight_imag"}
        for name, field in parts.items():
            if isinstance(getattr(layer.op, field, None), np.ndarray):
                setattr(self, name, SynapseView(getattr(layer.op, field), input_message_bits, synapse))

    @property
    def block(self) -> str:
        return type(self).__name__

    def join(self, inp: Any, out: Any) -> None:
        """Give the layer its ports."""
        self.inp, self.out = inp, out
        self.neuron.s_out = out
        if inp is None:
            return
        if isinstance(self, Input):
            self.neuron.a_in = inp
        for name in ("synapse", "real_synapse", "imag_synapse"):
            if name in vars(self):
                getattr(self, name).s_in = inp

    @property
    def row(self) -> str:
        """Its line of the table that ``print(net)`` shows."""
        wide = self.shape if len(self.shape) == 3 else (1, 1, self.shape[0])
        title = "Dense" if isinstance(self, (RecurrentDense, ComplexDense)) else self.block
        cells = [f"{title:10s}", *(f"{n:5d}" for n in wide)]
        weight = getattr(self.op, "weight", None)
        if isinstance(weight, np.ndarray) and weight.ndim == 4:
            pairs = [weight.shape[:1:-1], *(tuple(getattr(self.op, key, (1, 1)))[::-1] for key in ("stride", "padding", "dilation"))]
            cells += [f"{a:2d},{b:2d}" for a, b in pairs]
            cells.append(f"{getattr(self.op, 'groups', 1):5d}")
        else:
            cells += [f"{'':5s}"] * 5
        return "|" + "|".join([*cells, f"{self.delayed!s:5s}"]) + "|"


class Input(LayerView):
    """Input block."""


class Dense(LayerView):
    """Dense block."""


class RecurrentDense(LayerView):
    """Dense block with feedback."""


class ComplexDense(LayerView):
    """Dense block of resonators."""


class Conv(LayerView):
    """Convolution."""


class ConvT(LayerView):
    """Transposed convolution."""


class Pool(LayerView):
    """Pooling."""


class Unpool(LayerView):
    """Unpooling."""


class Average(LayerView):
    """Sum of groups."""


BLOCKS: dict[str, type[LayerView]] = {
    "block_input": Input, "block_dense": Dense, "block_recurrent": RecurrentDense, "block_conv": Conv, "block_conv_t": ConvT,
    "block_pool": Pool, "block_unpool": Unpool, "block_average": Average,
}


def described(pipeline: Pipeline, dense: type | None = None, delayed: type | None = None) -> list[LayerView]:
    """A view of every layer; each gets the message bits of the one before. `dense`, `delayed`: classes that synapses answer to."""
    views: list[LayerView] = []
    bits = pipeline.message_bits
    for k, layer in enumerate(pipeline.layers):
        cls = ComplexDense if getattr(layer.neuron, "complex", False) else BLOCKS[layer.op.kind]
        late = layer.delay is not None
        views.append(cls(pipeline, k, bits, (delayed if late else dense) if cls in (Dense, RecurrentDense, ComplexDense) else None))
        bits = views[-1].output_message_bits
    return views
