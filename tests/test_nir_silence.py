"""NIR import is never silently different: what it takes equals NIR's equations, or is said to be approximate, or is refused by name."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.engine.integer import run
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.formats.nir.exporter import to_nir
from spikegate.formats.nir.importer import from_nir, import_graph, read_nir
from tests.nir_checking import APPROXIMATE, EXACT, REFUSED, compared
from tests.nir_equations import interpret, scores, unfold
from tests.nir_graphs import Maker
from tests.test_nir import net

TYPES = {
    "Input", "Output", "Flatten", "Affine", "Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Scale", "Delay", "Threshold", "I",
    "IF", "LI", "LIF", "CubaLI", "CubaLIF",
}  # fmt: skip


def graph(nodes, *edges):
    """A graph from {name: node}; without edges a chain in this order."""
    names = list(nodes)
    return nir.NIRGraph(nodes, list(edges) or list(pairwise(names)), type_check=False)


def inp(*shape):
    return nir.Input(np.array(shape))


def out(*shape):
    return nir.Output(np.array(shape))


def lif(*shape, theta=60.0, tau=2.0):
    return nir.LIF(*(np.full(shape, v) for v in (tau, tau, 0.0, theta)))


def full(value, *shape):
    return np.full(shape, float(value))


def spikes(rng, *shape):
    return rng.integers(0, 2, shape).astype(np.int32)


def examples(rng):
    """(graph, input shape, nodes that hold their input): small nets of all kinds whose numbers are the chip's."""

    def w(*shape):
        return (rng.integers(-9, 16, shape) * 2).astype(float)

    def b(n):
        return rng.integers(-8, 20, n).astype(float)

    two = np.array([2, 2])
    nodes = {"in": inp(6), "fa": nir.Affine(w(5, 6), b(5)), "a": lif(5), "fb": nir.Linear(w(4, 5)), "b": lif(4)}
    yield graph({**nodes, "out": out(4)}), (6,), ()
    conv = nir.Conv2d((4, 6), w(3, 2, 3, 3), 1, 1, 1, 1, b(3))
    head = {"flat": nir.Flatten(np.array([3, 2, 3]), 0, -1), "fc": nir.Affine(w(4, 18), b(4)), "sum": nir.I(np.ones(4)), "out": out(4)}
    pool = {"in": inp(2, 4, 6), "conv": conv, "a": lif(3, 4, 6, theta=20.0), "pool": nir.SumPool2d(two, two, 0 * two)}
    yield graph({**pool, **head}), (2, 4, 6), ()
    nodes = {"in": inp(4), "f": nir.Linear(w(5, 4)), "a": lif(5, theta=12.0), "g": nir.Affine(w(5, 5), b(5)), "b": lif(5, theta=20.0)}
    skip = [("in", "f"), ("f", "a"), ("a", "g"), ("g", "b"), ("a", "b"), ("b", "last"), ("a", "last"), ("last", "out")]
    yield graph({**nodes, "last": nir.Linear(w(3, 5)), "out": out(3)}, *skip), (4,), ()
    cuba = nir.CubaLIF(*(full(v, 5) for v in (2, 4, 4, 0, 40)), w_in=full(2, 5))
    inside = {"i": inp(5), "n": cuba, "rec": nir.Affine(w(5, 5), b(5)), "o": out(5)}
    inner = graph(inside, ("i", "n"), ("n", "rec"), ("rec", "n"), ("n", "o"))
    nodes = {"in": inp(3), "f": nir.Affine(w(5, 3), b(5)), "layer": inner, "g": nir.Linear(w(4, 5)), "b": lif(4)}
    yield graph({**nodes, "out": out(4)}), (3,), ()
    nodes = {"in": inp(2, 9), "c": nir.Conv1d(9, w(4, 2, 3), 2, 1, 1, 1, b(4)), "a": nir.IF(full(1, 4, 5), full(20, 4, 5))}
    nodes |= {"late": nir.Delay(np.array(2.0)), "s": nir.Scale(np.array(4.0)), "t": nir.Threshold(full(2, 4, 5))}
    nodes |= {"flat": nir.Flatten(np.array([4, 5]), 0, -1), "fc": nir.Linear(w(3, 20)), "li": nir.LI(*(full(v, 3) for v in (2, 2, 0)))}
    yield graph({**nodes, "out": out(3)}), (2, 9), ()
    last = nir.CubaLI(*(full(v) for v in (2, 2, 2, 0)), full(2))
    nodes = {"in": inp(4), "f": nir.Linear(w(6, 4)), "a": lif(), "g": nir.Linear(w(3, 6)), "b": last}
    yield graph({**nodes, "out": out(3)}), (4,), ()
    nodes = {"in": inp(2, 4, 4), "c": nir.Conv2d(None, w(2, 2, 3, 3), 1, "same", 1, 1, b(2)), "a": lif(2, 4, 4)}
    nodes["p"] = nir.AvgPool2d(two, two, 0 * two)
    edges = [("in", "c"), ("c", "a"), ("a", "p"), ("p", "b"), ("b", "out"), ("b", "back"), ("back", "b")]
    nodes |= {"b": nir.IF(full(1, 2, 2, 2), full(0.5, 2, 2, 2)), "back": nir.Scale(np.array(-0.5)), "out": out(2, 2, 2)}
    yield graph(nodes, *edges), (2, 4, 4), ()
    yield to_nir(net(rng)), (4, 6, 4), ("replay",)


def mutants(g):
    """(what was done, graph): every node and edge away, or there twice."""
    for name in g.nodes:
        rest = {n: k for n, k in g.nodes.items() if n != name}
        yield f"without {name}", graph(rest, *[e for e in g.edges if name not in e] or [("", "")])
        twins = [(f"{name}2" if a == name else a, f"{name}2" if b == name else b) for a, b in g.edges if name in (a, b)]
        yield f"{name} twice", graph({**g.nodes, f"{name}2": g.nodes[name]}, *g.edges, *twins)
        if len(rest) > 2:
            bridge = [(a, c) for a, b in g.edges if b == name for d, c in g.edges if d == name]
            yield f"past {name}", graph(rest, *[e for e in g.edges if name not in e], *bridge)
    for edge in g.edges:
        yield f"without {edge}", graph(g.nodes, *[e for e in g.edges if e != edge] or [("", "")])
        yield f"{edge} twice", graph(g.nodes, *g.edges, edge)
        yield f"{edge} turned", graph(g.nodes, *[e for e in g.edges if e != edge], edge[::-1])


@pytest.mark.parametrize("number", range(8))
def test_every_node_and_edge_counts(rng, number):
    g, shape, held = list(examples(rng))[number]
    x = spikes(rng, 4, 3, *shape)
    if held:
        x = np.repeat(rng.integers(-200, 200, (4, 1, *shape)).astype(np.int32), 3, 1)
    assert compared(g, x, 3, held=held) in ((EXACT,) if number != 7 else (APPROXIMATE,))
    kinds = Counter()
    for what, mutant in mutants(g):
        try:
            kinds[compared(mutant, x, 3, held=held)] += 1
        except AssertionError as e:
            pytest.fail(f"{what}: {e}")
    assert kinds[REFUSED] > len(g.edges) and sum(kinds.values()) > 4 * len(g.edges)


def test_a_thousand_random_graphs():
    counts, seen = Counter(), set()

    @settings(max_examples=1000, deadline=None, database=None, derandomize=True)
    @given(st.integers(0, 2**40))
    def check(seed):
        maker = Maker(np.random.default_rng(seed), exact=seed % 4 != 3)
        g = maker.graph()
        found = compared(g, maker.inputs(), maker.timesteps, maker.dt)
        counts[found] += 1
        if found == EXACT:
            seen.update(type(k).__name__ for k in unfold(g)[0].values())

    check()
    assert counts[EXACT] > 400 and counts[REFUSED] < 250, counts
    assert seen == TYPES


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_for_a_whole_layer_is_the_same_as_full_arrays(rng, shape):
    """snnTorch writes it."""
    c1, c2 = (rng.integers(-30, 40, s) * 2.0 for s in ((4, 2, 3, 3), (4, 4, 3, 3)))
    fc = rng.integers(-30, 40, (20, 140)) * 2.0 - 10

    def made(size):
        first = {"in": inp(2, 5, 7), "c1": nir.Conv2d((5, 7), c1, 1, 1, 1, 1, np.zeros(4)), "a": lif(*size((4, 5, 7)))}
        second = {"c2": nir.Conv2d((5, 7), c2, 1, 1, 1, 1, np.zeros(4)), "b": lif(*size((4, 5, 7)))}
        last = {"flat": nir.Flatten(np.array([4, 5, 7]), 0, -1), "fc": nir.Linear(fc), "d": lif(*size((20,)))}
        return graph({**first, **second, **last, "out": out(20)})

    x = spikes(rng, 4, 6, 2, 5, 7).reshape(4, 6, 2, 35).swapaxes(2, 3)
    whole, one = (run(from_nir(made(size), 6), x).logits for size in (lambda s: s, lambda s: shape))
    assert np.array_equal(whole, one) and whole.any()


def test_layers_behind_the_last_neurons_are_the_answer(rng):
    first = {"in": inp(6), "fc": nir.Affine(full(40, 5, 6), full(5, 5)), "lif": lif(5)}
    g = graph({**first, "fc2": nir.Affine(full(2, 4, 5), np.arange(4.0)), "out": out(4)})
    x = spikes(rng, 8, 4, 6)
    assert compared(g, x, 4) == EXACT
    made = from_nir(g, 4)
    assert list(made.ops) == ["lif", "fc2", "out"] and made.input_shape == (6,) and run(made, x).logits.shape == (8, 4)


def test_a_net_without_neurons_runs(rng):
    g = graph({"in": inp(6), "fc": nir.Affine(full(40, 4, 6), np.arange(4.0)), "out": out(4)})
    assert compared(g, spikes(rng, 8, 4, 6), 4) == EXACT
    with pytest.raises(DeployError, match="0 outputs"):
        from_nir(nir.NIRGraph({"in": inp(3)}, [], type_check=False), 4)


@pytest.mark.parametrize(
    "outs, taps, what",
    [
        ({"out": 5}, [("a", "out")], r"fb \(Linear\), b \(LIF\): leads to no output"),
        ({"o1": 5, "o2": 7}, [("a", "o1"), ("b", "o2")], r"2 outputs \(o1, o2\)"),
        ({"out": 5}, [("a", "out"), ("b", "out")], r"adds up signals of different shapes: a \(5,\), b \(7,\)"),
    ],
)
def test_outputs_are_honoured(outs, taps, what):
    nodes = {"in": inp(6), "fa": nir.Linear(full(40, 5, 6)), "a": lif(5), "fb": nir.Linear(full(40, 7, 5)), "b": lif(7)}
    nodes |= {o: out(k) for o, k in outs.items()}
    with pytest.raises(DeployError, match=what):
        from_nir(graph(nodes, ("in", "fa"), ("fa", "a"), ("a", "fb"), ("fb", "b"), *taps), 4)


def test_a_bias_before_cubalif_goes_through_the_current():
    cuba = nir.CubaLIF(full(4, 1), full(8, 1), full(8, 1), full(0, 1), full(60, 1), w_in=full(4, 1))
    g = graph({"in": inp(1), "fc": nir.Affine(np.zeros((1, 1)), full(20, 1)), "lif": cuba, "out": out(1)})
    x = np.zeros((1, 20, 1), np.int32)
    made, report = import_graph(g, timesteps=20)
    assert not report.exact and report.layers[0].notes == ["the chip rounds the leak towards zero"]
    ours = run(made, x.reshape(1, 20, *made.input_shape), spikes=True).spikes["lif"].ravel()
    assert ours.any() and ours.tolist() == interpret(g, x)[0].ravel().tolist()


@pytest.mark.parametrize("value", [2.0**32, 2.0**40, 1e300])
def test_numbers_beyond_the_registers_are_refused_not_wrapped(value):
    g = graph({"in": inp(2), "fc": nir.Affine(full(2, 3, 2), full(value, 3)), "a": lif(3), "out": out(3)})
    with pytest.raises(DeployError, match="a: "):
        from_nir(g, 4)


def test_cycles_that_nir_leaves_open_are_refused(rng):
    nodes = {"in": inp(3), "f": nir.Linear(full(20, 3, 3)), "a": lif(3), "g": nir.Linear(full(20, 3, 3)), "b": lif(3), "out": out(3)}
    chain = [("in", "f"), ("f", "a"), ("a", "g"), ("g", "b"), ("b", "out")]
    with pytest.raises(DeployError, match=r"several layers \(a, b\); NIR does not say which edge waits"):
        from_nir(graph(nodes, *chain, ("b", "f")), 4)
    waits = {**nodes, "wait": nir.Delay(np.array([1.0]))}
    assert compared(graph(waits, *chain, ("b", "wait"), ("wait", "f")), spikes(rng, 4, 4, 3), 4) == EXACT
    with pytest.raises(DeployError, match="leads back to itself without neurons"):
        from_nir(graph({**nodes, "s": nir.Scale(full(1, 3))}, *chain, ("f", "s"), ("s", "f")), 4)
    with pytest.raises(DeployError, match="a: sends its voltage to g"):
        from_nir(graph({**nodes, "a": nir.LI(full(2, 3), full(2, 3), full(0, 3))}, *chain), 4)


def test_the_answer_is_in_nirs_order(rng):
    """A map's spikes are flattened channels first, whatever order the chip keeps them in."""
    conv = nir.Conv2d((3, 4), (rng.integers(-9, 20, (2, 2, 3, 3)) * 2).astype(float), 1, 1, 1, 1, np.zeros(2))
    g = graph({"in": inp(2, 3, 4), "c": conv, "a": lif(2, 3, 4, theta=30.0), "out": out(2, 3, 4)})
    x = spikes(rng, 5, 3, 2, 3, 4)
    made = from_nir(g, 3)
    ours = run(made, x.reshape(5, 3, 2, 12).swapaxes(2, 3)).logits
    assert np.array_equal(ours, scores(g, interpret(g, x)[0]).reshape(5, -1)) and len(set(ours.ravel())) > 2


def written(path, g, change):
    """The graph as a file in which `change` has its way with the HDF5 tree of nodes."""
    nir.write(path, g)
    with h5py.File(path, "a") as f:
        change(f["node/nodes"])
    return path


def put(nodes, name, value):
    del nodes[name]
    nodes[name] = value


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda n: n["fc"].__delitem__("weight"), "fc: is no node that nir can make .*weight"),
        (lambda n: put(n, "a/type", "Odd"), "a: is no node that nir can make"),
        (lambda n: put(n, "a/r", np.ones(4)), "a: is no node that nir can make .*same shape"),
        (lambda n: put(n, "in/shape", np.array([np.nan])), "in: says shape"),
        (lambda n: put(n, "in/shape", np.array([2, 3, 4, 5])), r"in: has shape \(2, 3, 4, 5\)"),
        (lambda n: put(n, "out/shape", np.array([9])), r"out: says shape \(9,\), gets \(3,\)"),
        (lambda n: put(n, "fc/weight", np.ones((3, 4))), r"fc: takes 4 features, gets \(2,\)"),
        (lambda n: put(n, "fc/bias", np.full(3, np.inf)), "fc: bias has values that are not finite"),
    ],
)
def test_damaged_nodes_are_refused_by_name(tmp_path, change, what):
    g = graph({"in": inp(2), "fc": nir.Affine(full(2, 3, 2), full(0, 3)), "a": lif(3, theta=3.0), "out": out(3)})
    assert read_nir(written(tmp_path / "net.nir", g, lambda n: None), 3).ops["a"].kind == "dense"
    with pytest.raises(DeployError, match=f"^{what}"):
        read_nir(written(tmp_path / "net.nir", g, change), 3)


def test_one_number_beside_arrays_is_read_as_if_it_were_an_array(tmp_path):
    """nir 1.0.8 cannot make such nodes; older writers did."""
    g = graph({"in": inp(2), "fc": nir.Linear(full(2, 3, 2)), "a": lif(3, theta=3.0), "out": out(3)})
    whole, mixed = (
        read_nir(written(tmp_path / "net.nir", g, c), 3).ops["a"] for c in (lambda n: None, lambda n: put(n, "a/tau", np.array(2.0)))
    )
    assert whole.neuron == mixed.neuron and np.array_equal(whole.weight, mixed.weight)


def test_an_input_with_a_batch_of_one_is_read_without_it(rng):
    """snnTorch writes the sample's batch axis into the file, and Flatten counts it."""
    conv = nir.Conv2d(None, (rng.integers(-9, 20, (2, 2, 3, 3)) * 2).astype(float), 1, 0, 1, 1, np.zeros(2))
    fc = nir.Linear((rng.integers(-9, 20, (3, 8)) * 2).astype(float))

    def made(batch):
        flat = nir.Flatten(None, batch, -1)
        nodes = {"in": inp(*[1] * batch, 2, 4, 4), "c": conv, "a": lif(theta=30.0), "flat": flat, "fc": fc, "b": lif(theta=8.0)}
        return from_nir(graph({**nodes, "out": out(*[1] * batch, 3)}), 3)

    x = spikes(rng, 5, 3, 16, 2)
    assert np.array_equal(run(made(0), x).logits, run(made(1), x).logits)


def test_random_graphs_are_kept_by_files_of_ours(tmp_path):
    for seed in range(60):
        maker = Maker(np.random.default_rng(seed))
        try:
            made, _ = import_graph(maker.graph(), timesteps=maker.timesteps, dt=maker.dt)
        except DeployError:
            continue
        write_graph(made, tmp_path / "model.net")
        x = spikes(maker.rng, 2, maker.timesteps, *made.input_shape)
        assert np.array_equal(run(made, x).logits, run(read_graph(tmp_path / "model.net"), x).logits)
