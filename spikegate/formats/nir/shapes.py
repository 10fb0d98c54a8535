"""What each NIR node sends, worked out from the Input on; a node whose own word differs is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.linear import Shape, size_of
from spikegate.formats.nir.reading import FIELDS, Flat


def whole_pair(name: str, what: str, value: Any, least: int) -> tuple[int, int]:
    """(rows, columns) of a size in a file."""
    given = np.asarray(value)
    whole = given.dtype.kind in "iuf" and np.isfinite(given).all() and (given == np.round(given)).all()
    if given.size not in (1, 2) or not whole or (given < least).any():
        raise DeployError(name, f"{what} is {given.tolist()}", f"give one or two whole numbers of at least {least}")
    rows, columns = np.broadcast_to(given.ravel(), 2)
    return int(rows), int(columns)


def whole(name: str, what: str, value: Any, least: int) -> int:
    """One whole number in a file."""
    if np.asarray(value).size != 1:
        raise DeployError(name, f"{what} is {np.asarray(value).tolist()}", f"give one whole number of at least {least}")
    return whole_pair(name, what, value, least)[0]


def declared(name: str, node: Any) -> Shape:
    """The shape that an Input or Output states."""
    value = next(iter(node.output_type.values()), None)
    if value is None:
        raise DeployError(name, "does not say its shape", "write it with nir 1.0.8")
    shape = sizes(name, value) or (1,)
    if len(shape) > 4 or min(shape) < 1 or (len(shape) == 4 and shape[0] != 1):
        raise DeployError(name, f"has shape {shape}", "give features, (channels, length) or (channels, height, width)")
    return shape


def sizes(name: str, value: Any) -> Shape:
    """A shape in a file, of whole numbers."""
    given = np.atleast_1d(value)
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not np.isfinite(given).all() or (given != np.round(given)).any():
        raise DeployError(name, f"says shape {given.tolist()}", "write the file again")
    return tuple(int(v) for v in given)


def batched(flat: Flat) -> bool:
    """Whether the Input's shape begins with a batch of 1, as snnTorch writes it: its readers take one axis less."""
    name = flat.only("Input")[0]
    shape, readers = declared(name, flat.nodes[name]), flat.after(name)
    while len(readers) == 1 and readers[0] in flat.joints:
        readers = flat.after(readers[0])
    axes = {"Affine": 2, "Linear": 2, "Conv1d": 3, "Conv2d": 4}
    return len(shape) == 4 or (shape[0] == 1 and bool(readers) and all(axes.get(flat.kind(r)) == len(shape) for r in readers))


def shapes(flat: Flat) -> dict[str, Shape]:
    """Shape of what every node sends, without a batch; a cycle takes the shape that enters it."""
    batch = int(batched(flat))
    found: dict[str, Shape] = {n: declared(n, flat.nodes[n])[batch:] for n in flat.only("Input")}
    waiting = [n for n in flat.nodes if n not in found]
    while waiting:
        ready = [n for n in waiting if any(s in found for s in flat.before(n))]
        if not ready:
            break
        full = [n for n in ready if all(s in found for s in flat.before(n))]
        for name in full or ready[:1]:  # on a cycle the edges that are known say enough; the others are compared below
            given = next(found[s] for s in flat.before(name) if s in found)
            found[name] = _sent(name, flat, given, batch)
            waiting.remove(name)
    for a, b in flat.edges:
        if a in found and b in found:
            entering = {s: found[s] for s in flat.before(b) if s in found}
            if len(set(entering.values())) > 1:
                told = ", ".join(f"{s} {shape}" for s, shape in entering.items())
                raise DeployError(b, f"adds up signals of different shapes: {told}", "sources that add up need equal shapes")
    return found


def _sent(name: str, flat: Flat, given: Shape, batch: int) -> Shape:
    node, kind = flat.nodes[name], flat.kind(name)
    if kind in ("Affine", "Linear"):
        return _product(name, np.asarray(node.weight), given)
    if kind in ("Conv1d", "Conv2d"):
        return _conv(name, node, given, 1 if kind == "Conv1d" else 2)
    if kind in ("SumPool2d", "AvgPool2d"):
        return _pool(name, node, given)
    if kind == "Flatten":
        return _flat(name, node, given, batch)
    if kind in ("Output", "Input"):
        said = declared(name, node)
        if size_of(said) != size_of(given) or [v for v in said if v != 1] != [v for v in given if v != 1]:
            raise DeployError(name, f"says shape {said}, gets {given}", "mend the shape that the file states")
        return given
    for f in FIELDS[kind]:
        values = np.asarray(getattr(node, f))
        if values.size != 1 and (values.ndim != len(given) or any(a not in (1, b) for a, b in zip(values.shape, given))):
            raise DeployError(name, f"{f} has shape {values.shape}, the signal {given}", "give one number, or one for each neuron")
    return given


def _product(name: str, weight: np.ndarray, given: Shape) -> Shape:
    if weight.ndim != 2:
        raise DeployError(name, f"its weights have {weight.ndim} axes", "give a matrix [outputs, inputs]")
    if given != (weight.shape[1],):
        raise DeployError(name, f"takes {weight.shape[1]} features, gets {given}", "put a Flatten before it, or mend the sizes")
    return (weight.shape[0],)


def _conv(name: str, node: Any, given: Shape, axes: int) -> Shape:
    weight = np.asarray(node.weight)
    if weight.ndim != axes + 2 or len(given) != axes + 1:
        raise DeployError(name, f"has weights of shape {weight.shape} for a signal of shape {given}", "mend the shapes")
    groups = whole(name, "groups", node.groups, 1)
    if groups < 1 or weight.shape[0] % groups or weight.shape[1] * groups != given[0]:
        what = f"its weights take {weight.shape[1] * groups} channels in {groups} groups, the signal has {given[0]}"
        raise DeployError(name, what, "mend channels or groups")
    if np.asarray(node.bias).shape != (weight.shape[0],):
        raise DeployError(name, f"bias has shape {np.asarray(node.bias).shape} for {weight.shape[0]} channels", "give one for each channel")
    if node.input_shape is not None and sizes(name, node.input_shape) != given[1:]:
        raise DeployError(name, f"says input_shape {node.input_shape}, gets {given[1:]}", "mend the shape that the file states")
    kernel, stride, (before, after), dilation = geometry(name, node, axes)
    size = tuple((g + 2 * p - d * (k - 1) - 1) // s + 1 for g, p, d, k, s in zip(given[1:], before, dilation, kernel, stride))
    if after != before:
        size = given[1:]
    if min(size) < 1:
        raise DeployError(name, f"its kernel {kernel} does not fit into {given[1:]}", "mend kernel, padding or input shape")
    return weight.shape[0], *size


def geometry(name: str, node: Any, axes: int) -> tuple[Shape, Shape, tuple[Shape, Shape], Shape]:
    """(kernel, stride, (padding before, padding after), dilation) of a convolution, each with one number for each axis."""
    def pair(what: str, value: Any, least: int) -> Shape:
        if np.asarray(value).size > axes:
            raise DeployError(name, f"{what} has {np.asarray(value).size} numbers", f"give one for each of {axes} axes")
        return whole_pair(name, what, value, least)[-axes:]

    kernel = tuple(np.asarray(node.weight).shape[2:])
    stride, dilation = pair("stride", node.stride, 1), pair("dilation", node.dilation, 1)
    if not isinstance(node.padding, str):
        padding = pair("padding", node.padding, 0)
        return kernel, stride, (padding, padding), dilation
    if node.padding == "valid":
        return kernel, stride, ((0,) * axes, (0,) * axes), dilation
    if node.padding != "same" or max(stride) > 1:
        raise DeployError(name, f"padding {node.padding!r} with stride {stride}", "give the padding in numbers")
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    return kernel, stride, (tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)), dilation


def _pool(name: str, node: Any, given: Shape) -> Shape:
    if len(given) != 3:
        raise DeployError(name, f"pools a signal of shape {given}", "it takes (channels, height, width)")
    kernel, stride = (whole_pair(name, f, getattr(node, f), 1) for f in ("kernel_size", "stride"))
    padding = whole_pair(name, "padding", node.padding, 0)
    size = tuple((g + 2 * p - k) // s + 1 for g, p, k, s in zip(given[1:], padding, kernel, stride))
    if min(size) < 1:
        raise DeployError(name, f"its windows {kernel} do not fit into {given[1:]}", "mend the sizes")
    return given[0], *size


def _flat(name: str, node: Any, given: Shape, batch: int) -> Shape:
    said = node.input_type.get("input") if node.input_type else None
    if said is not None:
        told = sizes(name, said)
        if told not in (given, (1, *given)[1 - batch :]):
            raise DeployError(name, f"says input {told}, gets {given}", "mend the shape in the file")
    first, last = (whole(name, f, getattr(node, f), -4) for f in ("start_dim", "end_dim"))
    first, last = (v if v < 0 else max(0, v - batch) for v in (first, last))
    first, last = (v + len(given) if v < 0 else v for v in (first, last))
    if first == len(given) == 1:  # start_dim 1 of a vector: nothing to do
        return given
    if not 0 <= first <= last < len(given):
        raise DeployError(name, f"flattens axes {first} to {last} of {given}", "count axes without the batch")
    return *given[:first], size_of(given[first : last + 1]), *given[last + 1 :]
