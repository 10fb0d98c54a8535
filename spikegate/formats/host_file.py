"""embedding.onnx, written and read: a file is taken apart into whole numbers and made again; only what is equal then is run.

So no operation, stride, size or reference to another file reaches onnxruntime but those that we write ourselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.errors import DeployError, first_line
from spikegate.formats.host_conv import HostConv, host_bound
from spikegate.reading import limits
from spikegate.reading.numbers import integers
from spikegate.synapses.synapse import FLOAT_EXACT, out_grid

OPSET = 17
LARGEST = FLOAT_EXACT - 1
MOST_NODES = 500
LARGEST_SIDE = 1024  # pixels of an image
AGAIN = "export the run again: python convert/export.py"


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an embedding computes: ``clip`` of its convolutions, side by side along the channels.

    Attributes
    ----------
    image_shape : (channels, height, width); pixels : largest value of an image
    low, high : range of what is sent
    """

    convs: list[HostConv]
    low: int
    high: int
    image_shape: tuple[int, ...]
    pixels: int

    @property
    def bound(self) -> int:
        """Largest |partial sum| that any image can cause."""
        return max(host_bound(c.weight, c.bias, self.pixels) for c in self.convs)

    @property
    def values(self) -> int:
        """Numbers that one image takes while it is computed."""
        return sum(c.rows * math.prod(self.grid(c)) for c in self.convs)

    def grid(self, c: HostConv) -> tuple[int, int]:
        """Height and width of one convolution's map, before it is folded."""
        return out_grid((self.image_shape[1], self.image_shape[2]), (c.weight.shape[2], c.weight.shape[3]), c.stride, c.padding)

    def model(self) -> Any:
        """``onnx.ModelProto``, the same for the same numbers."""
        from onnx import TensorProto, helper, numpy_helper

        channels = sum(c.channels for c in self.convs)
        constants: dict[str, Any] = {"low": np.float32(self.low), "high": np.float32(self.high)}
        constants["flat"] = np.array([0, channels, -1], np.int64)
        nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
        sent: list[str] = []
        for i, c in enumerate(self.convs):
            more_nodes, name = _nodes(c, str(i or ""), constants)
            nodes, sent = nodes + more_nodes, [*sent, name]
        if len(sent) > 1:
            nodes.append(helper.make_node("Concat", sent, ["all"], axis=1))
        nodes += [
            helper.make_node("Clip", ["all" if len(sent) > 1 else sent[0], "low", "high"], ["clipped"]),
            helper.make_node("Reshape", ["clipped", "flat"], ["maps"]),
            helper.make_node("Transpose", ["maps"], ["tokens"], perm=[0, 2, 1]),
            helper.make_node("Cast", ["tokens"], ["embedding"], to=TensorProto.INT32),
        ]
        graph = helper.make_graph(
            nodes,
            "host embedding",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *self.image_shape])],
            [helper.make_tensor_value_info("embedding", TensorProto.INT32, ["batch", None, channels])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        for key, value in (("pixels", self.pixels), ("bound", self.bound)):
            entry = made.metadata_props.add()
            entry.key, entry.value = key, str(value)
        return made


def _nodes(c: HostConv, tag: str, constants: dict[str, Any]) -> tuple[list[Any], str]:
    """(nodes of one convolution, name of what it sends); their constants are entered."""
    from onnx import helper

    constants |= {
        f"weight{tag}": c.weight.astype(np.float32),
        f"bias{tag}": c.bias.astype(np.float32).reshape(-1, *c.bias.shape[1:] or (1, 1)),
        f"scale{tag}": np.float32(2.0**-c.shift),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", f"weight{tag}"], [f"product{tag}"], strides=[c.stride] * 2, pads=[c.padding] * 4),
        helper.make_node("Add", [f"product{tag}", f"bias{tag}"], [f"sum{tag}"]),
        helper.make_node("Mul", [f"sum{tag}", f"scale{tag}"], [f"scaled{tag}"]),
        helper.make_node("Floor", [f"scaled{tag}"], [f"whole{tag}"]),
    ]
    here = f"whole{tag}"
    if c.parts > 1:
        constants[f"share{tag}"] = np.float32(1 / c.parts)
        constants[f"places{tag}"] = np.repeat(np.arange(c.parts, dtype=np.float32), len(c.weight)).reshape(-1, 1, 1)
        nodes += [
            helper.make_node("Concat", [here] * c.parts, [f"copies{tag}"], axis=1),
            helper.make_node("Add", [f"copies{tag}", f"places{tag}"], [f"shifted{tag}"]),
            helper.make_node("Mul", [f"shifted{tag}", f"share{tag}"], [f"shared{tag}"]),
            helper.make_node("Floor", [f"shared{tag}"], [f"parts{tag}"]),
        ]
        here = f"parts{tag}"
    if any(c.silent):
        constants[f"silent{tag}"] = np.array([0, c.silent[0], 0, 0, 0, c.silent[1], 0, 0], np.int64)
        nodes.append(helper.make_node("Pad", [here, f"silent{tag}"], [f"wide{tag}"]))
        here = f"wide{tag}"
    if c.fold > 1:
        nodes.append(helper.make_node("DepthToSpace", [here], [f"laid{tag}"], blocksize=c.fold, mode="DCR"))
        here = f"laid{tag}"
    return nodes, here


def taken_apart(data: bytes, where: str) -> Embedding:
    """The embedding in an ONNX file of ours.

    Raises
    ------
    DeployError
        Anything else: other operations, strides, sizes or types, values in other files, numbers that are not exact in float32.
    """
    import onnx

    found = onnx.ModelProto()
    try:
        found.ParseFromString(data)
    except Exception as e:  # protobuf's DecodeError and what it raises for texts that are none
        raise DeployError(where, f"not a readable embedding ({first_line(e)})", AGAIN) from None
    for tensor in found.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise DeployError(where, f"keeps the values of {tensor.name!r} in another file", AGAIN)
    odd = [n.op_type for n in found.graph.node if n.op_type not in OPS or n.domain]
    if odd or len(found.graph.node) > MOST_NODES:
        raise DeployError(where, f"not a readable embedding (operation {odd[0]!r})" if odd else "has too many operations", AGAIN)
    try:
        read = _read(found, where)
        _check(read, where)
        same = _said(read.model()) == _said(found)
    except (LookupError, ValueError, TypeError, ArithmeticError) as e:  # TypeError: a text that is none comes as bytes
        raise DeployError(where, f"not a readable embedding (a part is missing or has another form: {e})", AGAIN) from None
    if not same:
        raise DeployError(where, "not a readable embedding (it differs from what these numbers are written as)", AGAIN)
    return read


OPS = ("Cast", "Conv", "Add", "Mul", "Floor", "Concat", "Pad", "DepthToSpace", "Clip", "Reshape", "Transpose")


def _said(model: Any) -> tuple[Any, ...]:
    """All that a model computes, in one form: older files have their tensors in another order, or the bias in the convolution."""
    from onnx import helper

    graph, nodes = model.graph, []
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            (bias,), product = node.input[2:], node.output[0].replace("sum", "product")
            plain, node = node, helper.make_node("Add", [product, bias], list(node.output))
            apart = helper.make_node("Conv", list(plain.input[:2]), [product])
            apart.attribute.extend(plain.attribute)
            nodes.append(apart)
        nodes.append(node)
    tensors = [(t.name, t.data_type, tuple(t.dims) or (1,), t.raw_data) for t in graph.initializer]
    tensors = [(n, kind, (*dims, 1, 1) if n.startswith("bias") and len(dims) == 1 else dims, raw) for n, kind, dims, raw in tensors]
    return (
        [n.SerializeToString(deterministic=True) for n in nodes], sorted(tensors), len(graph.sparse_initializer),
        [v.SerializeToString(deterministic=True) for v in (*graph.input, *graph.output)], model.ir_version,
        sorted((o.domain, o.version) for o in model.opset_import), sorted((p.key, p.value) for p in model.metadata_props),
        len(model.functions),
    )  # fmt: skip


def _read(found: Any, where: str) -> Embedding:
    """The numbers, wherever a file of ours has them; whether all the rest is ours shows when they are written again."""
    constants = {t.name: _constant(t, where) for t in found.graph.initializer}
    attributes: dict[str, Any] = {n.output[0]: {a.name: (list(a.ints) or a.i) for a in n.attribute} for n in found.graph.node}
    convs = []
    for tag in (str(i or "") for i in range(MOST_NODES)):
        if f"weight{tag}" not in constants:
            break
        bias, scale = constants[f"bias{tag}"], float(constants[f"scale{tag}"])
        share, silent = float(constants.get(f"share{tag}", np.float32(1))), constants.get(f"silent{tag}", np.zeros(8, int))
        conv = attributes[f"product{tag}" if f"product{tag}" in attributes else f"sum{tag}"]
        convs.append(HostConv(
            integers(constants[f"weight{tag}"], f"{where}: weight{tag}", low=-LARGEST, high=LARGEST),
            integers(bias[:, 0, 0] if bias.shape[1:] == (1, 1) else bias, f"{where}: bias{tag}", low=-LARGEST, high=LARGEST),
            _power(1 / scale), int(conv["strides"][0]), int(conv["pads"][0]),
            1 << _power(1 / share), (int(silent[1]), int(silent[5])),
            int(attributes[f"laid{tag}"]["blocksize"]) if f"laid{tag}" in attributes else 1,
        ))  # fmt: skip
    low, high = (int(integers(constants[k], f"{where}: {k}", low=-LARGEST, high=LARGEST)) for k in ("low", "high"))
    shape = tuple(int(d.dim_value) for d in found.graph.input[0].type.tensor_type.shape.dim[1:])
    pixels = {p.key: p.value for p in found.metadata_props}["pixels"]
    if not convs or not (pixels.isascii() and pixels.isdecimal() and len(pixels) < 4):
        raise ValueError("no weights, or no number of pixels")
    return Embedding(convs, low, high, shape, int(pixels))


def _power(value: float) -> int:
    """The exponent of a power of 2 from 1 on."""
    mantissa, exponent = math.frexp(value)
    if mantissa != 0.5 or not 1 <= exponent <= 60:
        raise ValueError(f"{value} is no power of 2")
    return exponent - 1


def _constant(tensor: Any, where: str) -> np.ndarray:
    """A tensor whose bytes are in the file, float32 or int64."""
    from onnx import TensorProto

    kinds: dict[int, np.dtype[Any]] = {TensorProto.FLOAT: np.dtype("<f4"), TensorProto.INT64: np.dtype("<i8")}
    if tensor.data_type not in kinds:
        raise DeployError(where, f"{tensor.name!r} has another type than an embedding's numbers", AGAIN)
    if any(n < 0 for n in tensor.dims) or math.prod(tensor.dims) * kinds[tensor.data_type].itemsize != len(tensor.raw_data):
        raise DeployError(where, f"{tensor.name!r} claims {list(tensor.dims)} numbers and has {len(tensor.raw_data)} bytes", AGAIN)
    values: np.ndarray = np.frombuffer(tensor.raw_data, kinds[tensor.data_type])
    return values.reshape(tuple(tensor.dims))


def _check(e: Embedding, where: str) -> None:
    """Sizes that a net of ours can have, and sums that float32 holds."""
    if len(e.image_shape) != 3 or not 1 <= e.image_shape[0] <= 4 or not all(1 <= n <= LARGEST_SIDE for n in e.image_shape[1:]):
        raise DeployError(where, f"takes images of {list(e.image_shape)}", AGAIN)
    for c in e.convs:
        kernel = c.weight.shape[1:]
        sizes = (*kernel, c.stride, c.fold, c.parts, len(c.weight))
        fit = (
            c.weight.ndim == 4 and min(sizes) >= 1 and kernel[0] == e.image_shape[0] and max(*kernel[1:], c.stride, c.fold) <= LARGEST_SIDE
            and 0 <= c.padding <= max(kernel[1:]) and c.parts <= 1 << 16 and min(c.silent) >= 0 and c.rows <= limits.NEURONS
        )  # fmt: skip
        grid = e.grid(c) if fit else (0, 0)
        if not fit or min(grid) < 1 or c.rows % c.fold**2 or c.bias.shape not in ((len(c.weight),), (len(c.weight), *grid)):
            raise DeployError(where, f"has weights {list(c.weight.shape)} with stride {c.stride}, which fit no image of it", AGAIN)
    if e.values > limits.NEURONS or not 1 <= e.pixels <= 255 or e.low > e.high:
        raise DeployError(where, f"sends {e.values} values from {e.low} to {e.high} of pixels up to {e.pixels}", AGAIN)
    if e.bound >= FLOAT_EXACT:
        raise DeployError(where, f"its sums can reach {e.bound}, float32 is exact below {FLOAT_EXACT}", AGAIN)
