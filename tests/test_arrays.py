"""Arrays of another rank or length than an op needs: refused by name, for every array of every op, before anything is computed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pytest

from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import DeployError, Graph, Op, Payload, load_ops
from spikegate.neurons.cuba import Cuba
from tests.test_ops import cases, play

OPS = load_ops()
FREE = {"kh", "kw", "heads", "counts", "biases"}  # another kernel is another layer, and a table may say more than is asked


@dataclass(frozen=True, eq=False)
class Source(Op):
    """Anything that sends values of a shape."""

    kind = "source"
    slots = ()
    shape: tuple[int, ...]
    range: Payload

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def payload(self) -> Payload:
        return self.range


def around(op: Op, steps: list[dict[str, Any]]) -> Graph:
    """A graph in which every slot of the op's example is fed."""
    graph = Graph(timesteps=len(steps))
    fed = {}
    for slot, value in steps[0].items():
        names = []
        for i, x in enumerate(value if isinstance(value, tuple) else (value,)):
            span = [int(f([np.min(s[slot][i] if isinstance(value, tuple) else s[slot]) for s in steps])) for f in (min, max)]
            top = max(int(np.max(s[slot][i] if isinstance(value, tuple) else s[slot])) for s in steps)
            names.append(graph.add(f"{slot}{i}", Source(x.shape[1:], Payload(min(0, span[0]), max(1, top)))))
        fed[slot] = names if len(names) > 1 else names[0]
    graph.add("op", op, **fed)
    return graph


def found(op: Op, steps: list[dict[str, Any]]) -> set[str]:
    """What is wrong with the op in its graph."""
    try:
        around(op, steps).check()
    except DeployError as e:
        lines = [part.split("\n")[0] for part in str(e).split("\n  - ")]
        return {re.sub(r" \([^()]*\)$", "", line.removeprefix("op: ")) for line in lines if line.startswith("op: ")}
    return set()


def arrays(op: Op) -> dict[str, np.ndarray]:
    return {f.name: v for f in dataclasses.fields(op) if isinstance(v := getattr(op, f.name), np.ndarray)}  # type: ignore[arg-type]


def words(op: Op, name: str) -> tuple[str, ...]:
    return op.axes.get(name) or op.axes[f"{name}?"]


def odd_ranks(value: np.ndarray) -> dict[str, np.ndarray]:
    """The array with an axis more or less, wherever one can be put or taken."""
    more = {f"axis of 1 before {i}": np.expand_dims(value, i) for i in range(value.ndim + 1)}
    more |= {f"axis of 2 before {i}": np.stack([value, value], i) for i in range(value.ndim + 1)}
    return more | {f"without axis {i}": np.array(value.take(0, i)) for i in range(value.ndim) if value.shape[i]}


@pytest.mark.parametrize("kind", OPS)
def test_every_array_states_its_axes(kind):
    for op, _ in OPS[kind].examples(np.random.default_rng(7)):
        assert {n.rstrip("?") for n in op.axes} == set(arrays(op))
        assert set(op.axes) >= {n for n, v in arrays(op).items() if v.size and f"{n}?" not in op.axes}


@pytest.mark.parametrize("op, steps", cases(ends=False))
def test_an_axis_more_or_less_is_refused_by_name(op, steps):
    known = found(op, steps)
    for name, value in arrays(op).items():
        for change, other in odd_ranks(value).items():
            new = found(dataclasses.replace(op, **{name: other}), steps) - known
            assert new and all(w.startswith(name) and str(other.shape) in w for w in new), f"{name} {change}: {new}"


@pytest.mark.parametrize("op, steps", cases(ends=False))
def test_another_length_is_refused_or_is_another_layer(op, steps):
    """What follows from the lengths, such as a larger kernel, runs and sends what it says that it sends."""
    known = found(op, steps)
    for name, value in arrays(op).items():
        for axis, word in enumerate(words(op, name) if value.size else ()):
            for by in (1, -1, -value.shape[axis]):
                many = [min(k, value.shape[axis] - 1) for k in range(value.shape[axis] + by)]
                other = dataclasses.replace(op, **{name: value.take(np.array(many, int), axis)})
                new, where = found(other, steps) - known, f"{name}, {word} {value.shape[axis]} {by:+d}"
                if not new:
                    assert word in FREE and getattr(other, name).size, where
                    assert all(y.shape[1:] == other.out_shape for y in play(other, steps)[0]), where
                told = (*arrays(op), "input", "credit", "feedback", "made for", "decay")
                assert word in FREE or all(any(n in w for n in told) for w in new), (where, new)


@pytest.mark.parametrize("op, steps", cases(ends=False))
def test_a_number_that_is_an_array_is_refused_by_name(op, steps):
    for part, holder in (("", op), ("neuron", getattr(op, "neuron", None))):
        for f in dataclasses.fields(holder) if holder is not None else ():  # type: ignore[arg-type]
            value = getattr(holder, f.name)
            if isinstance(value, int | np.integer) and f.type in ("int", "Per"):
                for shape in ((1, 1), (0,)) if f.type == "Per" else ((1,), (2, 2), (0,)):
                    odd: Any = dataclasses.replace(holder, **{f.name: np.full(shape, value)})  # type: ignore[type-var]
                    new = found(dataclasses.replace(op, neuron=odd) if part else odd, steps)
                    assert any(w.startswith(f.name) and str(shape) in w for w in new), (f.name, shape, new)


@pytest.mark.parametrize("op", [pytest.param(c.values[0], id=c.id) for c in cases(ends=False) if c.values[0].axes])
def test_a_file_with_such_an_array_is_refused(op, tmp_path, monkeypatch):
    """One command's way: the reader names file, op and array."""
    if op.kind in ("conv", "dense"):
        op = dataclasses.replace(op, neuron=Cuba(4096, 2048, 100, "subtract", 100, 1))  # not one of stock's layers
    graph = Graph(timesteps=3)
    graph.ops["odd"] = op
    with monkeypatch.context() as m:
        m.setattr(Graph, "check", lambda self: None)  # the op alone has no sources; its fields are the matter here
        write_graph(graph, tmp_path / "op.net")
    for name, value in arrays(op).items():
        with h5py.File(tmp_path / "op.net", "r+") as f:
            group = f["graph/ops/00000"]
            del group[name]
            group[name] = value[..., None].astype(np.int32)
        with pytest.raises(DeployError, match=f"odd: {name} has"):
            read_graph(tmp_path / "op.net")
        with h5py.File(tmp_path / "op.net", "r+") as f:
            del f[f"graph/ops/00000/{name}"]
            f[f"graph/ops/00000/{name}"] = value.astype(np.int32)
