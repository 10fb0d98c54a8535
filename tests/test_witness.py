"""The engine against a simulator that was written from the documents: spikes, credits, logits, exits and every counter."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import COUNTERS, Edge, Graph, Op, Sources, load_ops
from spikegate.neurons.cuba import Strict
from tests.edge_cases import edges
from tests.graphs import halting_graph, halting_input
from tests.random_graphs import KINDS, ORDERS, random_graph
from tests.witness import embedding, files, simulator

HERE = Path(__file__).parent
ROOT = HERE.parent
ZOO = sorted(p.parent.name for p in ROOT.glob("zoo/*/model.net"))
OPS = load_ops()
OTHERWISE = {"re": "real", "im": "imag", "r": "refractory", "merged": ""}  # what the engine calls or holds otherwise


def equal(record, samples: list[simulator.Sample], names: list[str]) -> None:
    """Everything that both report, sample by sample."""
    assert simulator.COUNTERS == COUNTERS
    for i, sample in enumerate(samples):
        steps = len(sample.counts)
        assert record.exit_step[i] == steps, f"sample {i} ends at {record.exit_step[i]}, the witness at {steps}"
        for name in names:
            for t in range(steps):
                assert np.array_equal(record.spikes[name][i, t], sample.spikes[t][name]), f"sample {i}, {name}, timestep {t + 1}"
            assert not record.spikes[name][i, steps:].any()
        counts = np.array(sample.counts)
        for t, o, c in np.argwhere(counts != record.counts[i, :steps]):
            raise AssertionError(
                f"sample {i}, {names[o]}, timestep {t + 1}, {COUNTERS[c]}: {record.counts[i, t, o, c]}, the witness has {counts[t, o, c]}"
            )
        assert not record.counts[i, steps:].any()
        for t in range(steps):
            assert np.array_equal(record.alive[i, t], np.stack(np.broadcast_arrays(*sample.alive[t])))
        assert not record.alive[i, steps:].any()
        assert np.array_equal(record.logits[i], sample.logits)


def compare(graph: Graph, path: Path, x: np.ndarray, **more) -> list[simulator.Sample]:
    """Both on the same file and inputs."""
    record = integer.run(graph, x, spikes=True, **more)
    samples = simulator.run(files.read(path), x)
    equal(record, samples, list(graph.ops))
    return samples


def test_the_witness_shares_no_code_with_the_engine():
    allowed = {"__future__", "numpy", "h5py", "json", "onnx", "pathlib", "typing", "dataclasses", "collections"}
    sources = sorted((HERE / "witness").glob("*.py"))
    assert len(sources) > 5
    for source in sources:
        assert len(source.read_text().splitlines()) < 300
        for node in ast.walk(ast.parse(source.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [str(node.module)]
            if isinstance(node, ast.Name | ast.Attribute):
                assert getattr(node, "id", getattr(node, "attr", "")) not in ("__import__", "import_module", "importlib", "exec", "eval")
            for name in names:
                assert name.split(".")[0] in allowed or name.startswith("tests.witness"), f"{source.name} imports {name}"


def test_the_witness_knows_every_op():
    for kind in OPS:
        assert simulator.function(kind), kind


def images_for(name: str, shape: tuple[int, ...], n: int) -> np.ndarray:
    """Images of the net's own data: digits come with scikit-learn, others with the net, or are drawn."""
    if name.endswith("-digits"):
        from sklearn.datasets import load_digits

        chosen = np.random.default_rng(len(name)).choice(1797, n, replace=False)
        return load_digits().images[chosen, None].astype(np.uint8)
    kept = ROOT / "zoo" / name / "test.npz"
    if kept.is_file():
        with np.load(kept) as f:
            return f[next(k for k in f.files if f[k].ndim >= 3)][:n].reshape(n, *shape).astype(np.uint8)
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (n, *shape[:1], 7, 7)).astype(np.uint8)
    bright = coarse.repeat(4, 2).repeat(4, 3)
    return np.where(rng.random(bright.shape) < 0.5, bright, 0).astype(np.uint8)


@pytest.mark.parametrize("name", ZOO)
def test_zoo_nets(name):
    folder = ROOT / "zoo" / name
    manifest, graph = read_manifest(folder), read_graph(folder / "model.net")
    images = images_for(name, tuple(manifest["image_shape"]), 8 if name.endswith("-digits") else 2)
    if images.ndim == 5:  # frames of an event camera go to the chip as they are
        sent = images.reshape(*images.shape[:3], -1).swapaxes(2, 3)
    else:
        sent = embedding.encode(folder / "embedding.onnx", images)
    assert np.array_equal(sent, open_host(folder, graph, manifest).encode(images))
    samples = compare(graph, folder / "model.net", sent.astype(np.int32), batch=3)
    busy = [n for n in graph.ops if any(y[n].any() for s in samples for y in s.spikes)]
    assert len(busy) > 0.7 * len(graph.ops), "there is little to compare"


def batch_of(inputs) -> int:
    if not inputs:
        return 2
    first = next(iter(inputs.values()))
    return len(first[0] if isinstance(first, tuple) else first)


def cases():
    for kind, cls in OPS.items():
        for seed in (7, 8, 9):
            for i, (op, steps) in enumerate(cls.examples(np.random.default_rng(seed))):
                yield pytest.param(op, steps, id=f"{kind}-{i}-{seed}")
    for i, (op, steps) in enumerate(edges(np.random.default_rng(7))):
        yield pytest.param(op, steps, id=f"{op.kind}-edge{i}-7")


def written(op: Op, path: Path, monkeypatch) -> files.Op:
    """The op as the witness reads it from a file."""
    monkeypatch.setattr(Graph, "check", lambda self: None)  # the op alone has no sources
    graph = Graph(timesteps=1)
    graph.ops["op"] = op
    if op.kind in ("conv", "dense"):
        graph.input_shape = (op.grid[0] * op.grid[1], op.weight.shape[1] * op.groups) if op.kind == "conv" else (op.weight.shape[1],)
        graph.edges.append(Edge("input", "op", "x"))
    write_graph(graph, path)
    return files.read(path).ops[0]


def at_once(op: Op, steps, rows: int) -> list[tuple[np.ndarray, dict]]:
    """Output and counters of each timestep from one call of `advance` for all of them."""
    span = len(steps)

    def joined(slot: str, i: int | None) -> np.ndarray:
        arrays = [s[slot] if i is None else s[slot][i] for s in steps]
        return np.stack(arrays, 1).reshape(rows * span, *arrays[0].shape[1:])

    inputs = {
        slot: Sources(joined(slot, i) for i in range(len(v))) if isinstance(v, tuple) else joined(slot, None)
        for slot, v in steps[0].items()
    }
    out, events = op.advance(op.state(rows), inputs, np.tile(np.arange(1, span + 1), rows), span)
    events = {k: np.broadcast_to(v, rows * span) for k, v in events.items()}
    return [(out[k::span], {name: v[k::span] for name, v in events.items()}) for k in range(span)]


@pytest.mark.parametrize("op, steps", cases())
def test_every_example_of_every_op(op, steps, tmp_path, monkeypatch):
    """Outputs and counters of `step` with `events`, and of `advance`, timestep by timestep and all at once."""
    theirs = written(op, tmp_path / "op.net", monkeypatch)
    rows = batch_of(steps[0])
    states, plain, fast = [{} for _ in range(rows)], op.state(rows), op.state(rows)
    together = at_once(op, steps, rows)
    for k, inputs in enumerate(steps):
        t = np.full(rows, k + 1)
        out = op.step(plain, inputs, t)
        ways = [(out, op.events(inputs, out, t)), op.advance(fast, inputs, t), together[k]]
        for row in range(rows):
            slots = {s: [a[row].astype(np.int64) for a in (v if isinstance(v, tuple) else (v,))] for s, v in inputs.items()}
            expected, counts = simulator.step(theirs, states[row], slots, k + 1)
            for name, value in states[row].items():
                for state in (plain, fast):
                    found = state.get(OTHERWISE.get(name, name))
                    assert found is None or np.array_equal(found[row], value), f"state {name} after timestep {k + 1}"
            for y, events in ways:
                assert np.array_equal(y[row], expected)
                for counter in COUNTERS[:-1]:
                    found = int(np.broadcast_to(events.get(counter, 0), rows)[row])
                    assert found == counts.get(counter, 0), f"{counter} at timestep {k + 1}"


@pytest.mark.parametrize("more", [
    {}, {"scores": 500}, {"order": "rectangle"}, {"delta": 2}, {"delta": 9, "scores": 300}, {"delta": 4, "order": "rectangle"},
    {"spiking": True}, {"spiking": True, "delta": 3}, {"spiking": True, "delta": 9, "order": "rectangle", "scores": 250}, {"gated": False},
])  # fmt: skip
def test_halting_and_merging(more, tmp_path):
    graph, x = halting_graph(**more), halting_input()
    write_graph(graph, tmp_path / "g.net")
    compare(graph, tmp_path / "g.net", x, batch=4)


def test_a_gate_without_chain_starts_every_timestep_with_full_credit(tmp_path):
    graph, x = halting_graph(order="rectangle", scores=300), halting_input()
    graph.edges = [e for e in graph.edges if (e.target, e.slot) != ("gate1", "chain")]
    write_graph(graph, tmp_path / "g.net")
    samples = compare(graph, tmp_path / "g.net", x)
    assert any(s.spikes[t]["gate1"].any() and not s.spikes[t]["gate1"].all() for s in samples for t in range(len(s.spikes)))


def test_random_graphs_hold_every_op():
    kinds = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        chosen = [str(k) for k in rng.choice(KINDS, 10)]
        end = ("readout", "dense", "average", "recurrent", "sigma")[seed % 5]
        ways = {"merge": bool(seed % 2), "masks": bool(seed % 3), "signed": bool(seed % 7), "feedback": bool(seed % 4)}
        kinds |= {op.kind for op in random_graph(seed, ORDERS[seed // 5 % 5], chosen, end, **ways).ops.values()}
    assert kinds == set(OPS)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1), order=st.sampled_from(ORDERS), kinds=st.lists(st.sampled_from(KINDS), min_size=3, max_size=12),
    end=st.sampled_from(["readout", "readout", "dense", "average", "recurrent", "sigma"]), merge=st.booleans(), masks=st.booleans(),
    signed=st.booleans(), feedback=st.booleans(), stepwise=st.booleans(), batch=st.integers(1, 4),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")
def test_random_graphs(seed, order, kinds, end, merge, masks, signed, feedback, stepwise, batch):
    graph = random_graph(seed, order, kinds, end, merge=merge, masks=masks, signed=signed, feedback=feedback)
    rng = np.random.default_rng(seed)
    shape = (3, graph.timesteps, *graph.input_shape) if stepwise and graph.timesteps > 1 else (3, *graph.input_shape)
    x = rng.integers(graph.input_payload.low, graph.input_payload.high + 1, shape).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.net"
        write_graph(graph, path)
        Strict.raises = False
        try:
            compare(graph, path, x, batch=batch)
        finally:
            Strict.raises = True
