"""Runs embedding.onnx node by node in 64-bit numbers, as docs/format.md describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def encode(path: Path, images: np.ndarray) -> np.ndarray:
    """What the host sends for images uint8 [N, channels, height, width]: int64 [N, positions, channels]."""
    graph = onnx.load(path).graph
    values: dict[str, Any] = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    values[graph.input[0].name] = images
    for node in graph.node:
        given = [values[name] for name in node.input]
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = NODES[node.op_type](given, settings)
    return values[graph.output[0].name]


def conv(given: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    x, weight = given[:2]
    (sy, sx), (top, left, bottom, right) = settings["strides"], settings["pads"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kh, kw = weight.shape[2:]
    rows, columns = (x.shape[2] - kh) // sy + 1, (x.shape[3] - kw) // sx + 1
    out = np.zeros((len(x), len(weight), rows, columns))
    for row in range(rows):
        for column in range(columns):
            patch = x[:, :, row * sy : row * sy + kh, column * sx : column * sx + kw]
            out[:, :, row, column] = np.einsum("nchw,ochw->no", patch, weight.astype(np.float64))
    return out + given[2].reshape(-1, 1, 1) if len(given) > 2 else out


def cast(given: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    if settings["to"] == onnx.TensorProto.INT32:
        assert (given[0] == np.round(given[0])).all()
        return given[0].astype(np.int64)
    return given[0].astype(np.float64)


def pad(given: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    ends = given[1]
    return np.pad(given[0], list(zip(ends[: len(ends) // 2], ends[len(ends) // 2 :])))


def depth_to_space(given: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    x, f = given[0], settings["blocksize"]
    n, channels, height, width = x.shape
    out = np.zeros((n, channels // f**2, height * f, width * f))
    for dy in range(f):
        for dx in range(f):
            first = (dy * f + dx) * (channels // f**2)
            out[:, :, dy::f, dx::f] = x[:, first : first + channels // f**2]
    return out


def reshape(given: list[np.ndarray], settings: dict[str, Any]) -> np.ndarray:
    return given[0].reshape([given[0].shape[i] if n == 0 else n for i, n in enumerate(given[1].tolist())])


NODES: dict[str, Any] = {
    "Conv": conv, "Cast": cast, "Pad": pad, "DepthToSpace": depth_to_space, "Reshape": reshape,
    "Add": lambda given, _: given[0] + given[1],
    "Mul": lambda given, _: given[0] * given[1].astype(np.float64),
    "Floor": lambda given, _: np.floor(given[0]),
    "Clip": lambda given, _: np.clip(given[0], given[1], given[2]),
    "Concat": lambda given, settings: np.concatenate(given, settings["axis"]),
    "Transpose": lambda given, settings: given[0].transpose(settings["perm"]),
}  # fmt: skip
