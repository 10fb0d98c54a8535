"""The speed benches compare equal work, keep what they measured, and their commands keep the house's manners. Nothing here is timed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import engine, interleaved, regress, scaling, stock
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from tests.graphs import chain_graph

ROOT = Path(__file__).parents[1]


def test_contestants_take_turns_and_ratios_are_of_the_same_turn():
    calls, clock = [], iter(range(100))
    times = interleaved.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, lambda: next(clock))
    assert calls == ["a", "b"] * 3 and times == {"a": [1, 1], "b": [1, 1]}
    assert interleaved.ratio({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 1.0]}, "a", "b") == 3.0


def test_a_target_is_met_on_its_own_side():
    assert interleaved.verdict("x", 2.0, 1.5)["met"] and not interleaved.verdict("x", 2.0, 1.5, most=True)["met"]


def test_parts_are_kept_beside_each_other(tmp_path):
    path = tmp_path / "new" / "x.json"
    interleaved.keep("x", "a", {"v": 1}, path)
    interleaved.keep("x", "b", {"v": 2}, path)
    assert json.loads(path.read_text()) == {"a": {"v": 1}, "b": {"v": 2}}


def test_the_token_chain_is_one_that_spikes_in_every_layer(tmp_path):
    case = next(c for c in stock.CASES if c.name == "tokens")
    graph = stock.graph_of(case, case.path(tmp_path))
    record = integer.run(graph, stock.inputs_of(case, graph, 2), spikes=True)
    assert [op.kind for op in graph.ops.values()] == ["conv"] * 6 + ["dense"]
    assert all(0.02 < v.mean() < 0.98 for v in record.spikes.values())


def test_outputs_are_compared_with_stocks_delay(tmp_path):
    case = next(c for c in stock.CASES if c.name == "tokens")
    ours = np.random.default_rng(0).integers(0, 2, (3, 4, 10))

    class Late:
        layers = 7

        def outputs(self):
            return np.concatenate([np.zeros((7, 10), int), ours.reshape(12, 10)])[:12, None]

    assert stock.compared(case, tmp_path, Late(), ours, ours) == (50, 0)
    ours[0, 2, 3] ^= 1
    late = Late()
    late.layers = 6
    assert stock.compared(case, tmp_path, late, ours, ours)[1] > 0


def test_the_scaling_net_grows_in_events_and_its_first_block_spikes():
    few, many = (scaling.net(tokens=n, channels=32, timesteps=2, depth=2, density=0.2) for n in (9, 25))
    found = []
    for graph in (few, many):
        x = (np.random.default_rng(0).random((2, 2, *graph.input_shape)) < 0.2).astype(np.int32)
        record = integer.run(graph, x, spikes=True)
        assert all(0 < v.mean() < 0.9 for n, v in record.spikes.items() if n.startswith("b0."))
        found.append(record.chip_events.mean())
    assert found[1] > 2 * found[0]


def test_the_engines_contestants_add_up_the_same_sums():
    row = engine.measured((9, 16, 32), 0.3, 2, 1)  # raises where sums differ
    assert row["synops"] > 0 and set(row["gsynops"]) == {"loop", "events", "product", "engine"}


@pytest.mark.skipif(importlib.util.find_spec("spikingjelly") is None, reason="spikingjelly is not installed (extra spikingjelly)")
def test_the_float_twin_is_the_net_without_halting():
    from bench.twin import FloatTwin, agreement
    from bench.zoo_nets import load

    net = load("stas-digits", 24)
    assert agreement(FloatTwin(net.graph).eval(), net.graph, net.embedded) > 0.95
    with pytest.raises(DeployError, match="another kind"):
        FloatTwin(chain_graph())


@pytest.mark.parametrize("name", ["stas-digits", "dts_vit-digits"])
def test_the_run_without_a_ledger_is_the_same_run(monkeypatch, name):
    from bench.uncounted import uncounted
    from bench.zoo_nets import load
    from spikegate.engine import stage

    monkeypatch.setattr(stage, "SMALL", 0)  # op by op: to compile the interpreter once more takes long
    net = load(name, 24)
    whole = integer.run(net.graph, net.embedded)
    with uncounted():
        bare = integer.run(net.graph, net.embedded)
        injector = integer.Injector(net.graph, net.embedded, 24)
        alone = integer.Stage(net.graph, list(net.graph.ops), 24)
        alone.step(injector.chunk())
        assert not alone.events.any()
    again = integer.run(net.graph, net.embedded)
    assert np.array_equal(bare.logits, whole.logits) and np.array_equal(bare.exit_step, whole.exit_step)
    assert np.array_equal(bare.alive, whole.alive)
    assert not bare.counts.any() and not bare.activity and np.array_equal(again.counts, whole.counts) and again.activity


def test_a_regression_is_what_exceeds_the_tolerance():
    rows = regress.compared({"a": 3.0, "b": 3.0}, {"a": 2.1, "b": 1.9}, 1.5)
    assert [r["worse"] for r in rows] == [False, True]


def test_the_kept_figures_hold_what_the_regression_check_reads(tmp_path):
    with pytest.raises(DeployError, match="lacks kept figures"):
        regress.kept(tmp_path)
    assert all(v > 0 for v in regress.kept(interleaved.RESULTS).values())


@pytest.mark.parametrize("args, wanted", [
    (("netx", "vgg"), "vgg"), (("inference", "--contestants", "brian"), "brian"), (("inference", "vgg"), "vgg"),
    (("halting", "spikformer-digits"), "no gates"), (("engine", "--densities", "2"), "densities"), (("scaling", "width"), "width"),
    (("paper", "vit"), "vit"), (("pricing", "vgg"), "vgg"), (("pricing", "--repeats", "0"), "less than 1"),
    (("startup", "--repeats", "0"), "repeats"), (("regress", "--tolerance", "0.5"), "tolerance"),
])  # fmt: skip
def test_mistakes_are_named_without_a_traceback(args, wanted, tmp_path):
    name, *more = args
    output = () if name == "regress" else ("--output", str(tmp_path / "x.json"))
    done = subprocess.run([sys.executable, ROOT / "bench" / f"{name}.py", *more, *output], capture_output=True, text=True)
    assert done.returncode == 1 and wanted in done.stderr and "hint" in done.stderr and "Traceback" not in done.stderr
