"""Design rules of arrays: each field of an op that is an array has the axes that the op states for it, every other field has none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

Axes = dict[str, tuple[str, ...]]  # field -> a word for each axis
HINT = "a file may be damaged; export it again"


def array_problems(op: Any) -> Iterator[tuple[str, str]]:
    """(what is wrong, what to do) for the arrays of an op, by `Op.axes`.

    An axis is named by a word. The same word means the same length, in every array and in a field of that name; "1" is the length 1.
    No array is empty, but for those whose name in `Op.axes` ends with ``?``.
    """
    axes = {name.rstrip("?"): words for name, words in op.axes.items()}
    known = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)} | {"1": 1}
    lengths = {name: value for name, value in known.items() if isinstance(value, int | np.integer)}
    for name, value in known.items():
        shape, words = np.shape(value), axes.get(name)
        if words is None:
            if isinstance(value, np.ndarray):
                yield f"{name} is an array of shape {shape}, needs a number", HINT
            continue
        if not np.size(value) and f"{name}?" in op.axes and shape == (0,):
            continue
        if len(shape) != len(words):
            yield f"{name} has {len(shape)} axes {shape}, needs {len(words)}: [{', '.join(words)}]", HINT
            continue
        for word, length in zip(words, shape):
            if length == 0 or lengths.setdefault(word, length) != length:
                needed = "" if word == "1" else f" with {word} = {'at least 1' if length == 0 else lengths[word]}"
                yield f"{name} has shape {shape}, needs [{', '.join(words)}]{needed}", HINT
                break
    yield from _neuron_problems(getattr(op, "neuron", None))


def _neuron_problems(neuron: Any) -> Iterator[tuple[str, str]]:
    """Parameters of a neuron: numbers, or one for each channel where its class takes those."""
    for f in dataclasses.fields(neuron) if neuron is not None else ():
        shape, several = np.shape(getattr(neuron, f.name)), f.type == "Per"
        if len(shape) > several or 0 in shape:
            needed = "a number, or one for each channel" if several else "a number"
            yield f"{f.name} of the neuron has shape {shape}, needs {needed}", HINT
