"""The non-spiking input embedding as ONNX on the host: integer-exact in float32, proven by its bound."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.synapses.synapse import FLOAT_EXACT, conv_current, out_grid

OPSET = 17


def host_bound(weight: np.ndarray, bias: np.ndarray, pixels: int) -> int:
    """Largest |partial sum| that any image with values 0..pixels can cause."""
    edge = np.abs(bias.astype(np.int64)).reshape(len(bias), -1).max(1)
    return int((np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1) * pixels + edge).max())


@dataclass(frozen=True, eq=False)
class HostConv:
    r"""One convolution of pixels, ``y = floor((W * x + b) 2^-shift)``, and how it is laid into the map that is sent.

    With `parts` m, y goes out as ``floor((y + j) / m)`` for j = 0 .. m - 1, one after the other along the channels: they add up to
    y again (Hermite's identity). Then come `silent` channels of zeros, (before, after). With `fold` f the channels are laid over
    f x f positions each: channel ``(dy f + dx) n + c`` of position (Y, X) becomes channel c of position (Y f + dy, X f + dx), which
    `spikegate.ops.route` undoes on chip.

    Attributes
    ----------
    weight : int [out, in, kh, kw]; bias : int [out], or [out, height, width] (an offset of the pixels meets the padding's zeros)
    parts : a power of 2
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    stride: int
    padding: int
    parts: int = 1
    silent: tuple[int, int] = (0, 0)
    fold: int = 1

    @property
    def rows(self) -> int:
        """Channels before they are folded."""
        return len(self.weight) * self.parts + sum(self.silent)

    @property
    def channels(self) -> int:
        """Channels that are sent."""
        return self.rows // self.fold**2

    def encode(self, images: np.ndarray) -> np.ndarray:
        """What it sends for images uint8 [N, in, height, width], whole numbers [N, positions, channels]; the ONNX file does the same."""
        size, n = (images.shape[2], images.shape[3]), len(images)
        pixels = images.reshape(n, images.shape[1], -1).transpose(0, 2, 1)
        sums = conv_current(pixels, self.weight, size, self.stride, self.padding, 1)
        y = np.floor((sums + self.bias.reshape(len(self.weight), -1).T) * 2.0**-self.shift)
        y = np.concatenate([np.floor((y + j) / self.parts) for j in range(self.parts)], -1)
        y = np.pad(y, ((0, 0), (0, 0), self.silent))
        h, w = out_grid(size, self.weight.shape[2:], self.stride, self.padding)
        y = y.reshape(n, h, w, self.fold, self.fold, -1).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(n, h * w * self.fold**2, -1)


def write_host(
    path: Path,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    shift: int,
    low: int,
    high: int,
    stride: int,
    padding: int,
    image_shape: tuple[int, int, int],
    pixels: int,
    more: Sequence[HostConv] = (),
) -> int:
    r"""Write ``clip(floor((W * x + b) 2^-shift), low, high)`` for uint8 images as ONNX; returns the proven bound.

    Parameters
    ----------
    weight, bias, shift, stride, padding : see `HostConv`
    image_shape : (channels, height, width); pixels : largest value of an image
    more : further convolutions, whose channels come after; folded, they have as many positions

    Raises
    ------
    DeployError
        If a partial sum could reach 2^24, where float32 stops to be exact.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    convs = [HostConv(weight, bias, shift, stride, padding), *more]
    bound = max(host_bound(c.weight, c.bias, pixels) for c in convs)
    if bound >= FLOAT_EXACT:
        raise DeployError(
            "embedding", f"its sums can reach {bound}, float32 is exact below {FLOAT_EXACT}", "lower the stem's weights or its fan-in"
        )
    channels = sum(c.channels for c in convs)
    constants = {"low": np.float32(low), "high": np.float32(high), "flat": np.array([0, channels, -1], np.int64)}
    nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
    sent: list[str] = []
    for i, c in enumerate(convs):
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
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *image_shape])],
        [helper.make_tensor_value_info("embedding", TensorProto.INT32, ["batch", None, channels])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    for key, value in (("pixels", pixels), ("bound", bound)):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.checker.check_model(model)
    with atomic(path) as part:
        onnx.save(model, part)
    return bound


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


class Host:
    """Runs an exported embedding in onnxruntime (one thread, CPU)."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        if not Path(path).is_file():
            raise DeployError(str(path), "no such file", "export the run again: python convert/export.py")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                self.pixels = int(self.session.get_modelmeta().custom_metadata_map["pixels"])
        except Exception as e:  # onnxruntime raises many types for a damaged file
            raise DeployError(str(path), f"not a readable embedding ({str(e).splitlines()[0]})", "export the run again") from None
        self.image_shape = tuple(self.session.get_inputs()[0].shape[1:])

    def encode(self, images: np.ndarray, chunk: int = 256) -> np.ndarray:
        """Embed uint8 images [N, channels, height, width]; returns int32 [N, positions, channels].

        Raises
        ------
        DeployError
            For anything but uint8 images of the trained shape and value range.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise DeployError(
                "images",
                f"are {images.dtype} {list(images.shape)}, the embedding takes uint8 [N, {', '.join(map(str, self.image_shape))}]",
                "use the data set that the net was trained on",
            )
        if images.size and int(images.max()) > self.pixels:
            raise DeployError("images", f"hold values up to {int(images.max())}, trained on 0..{self.pixels}", "rescale the images")
        parts: list[np.ndarray] = [self.session.run(None, {"image": images[i : i + chunk]})[0] for i in range(0, len(images), chunk)]
        sent: np.ndarray = np.concatenate(parts)
        return sent.astype(np.int32)
