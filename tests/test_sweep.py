"""What-if: each setting does what it says to the net and nothing else, and the command writes and refuses by name."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.hw_sim import sweep
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.splitting import finer, split
from spikegate.hw_sim.chip.workload import unrun
from spikegate.hw_sim.variants import margins, with_credit, with_margin, with_timesteps
from spikegate.hw_sim.what_if import more_cores
from spikegate.ops.exit_gate import NEVER
from spikegate.ops.timestep_gate import TimestepGate
from tests.graphs import halting_graph, halting_input

LOIHI2 = load_chip("loihi2")
X = halting_input()


@pytest.mark.parametrize("kind", [{}, {"order": "rectangle"}, {"delta": 2}])
def test_credit_moves_deaths_and_nothing_else(kind):
    graph = halting_graph(**kind)
    runs = [integer.run(with_credit(graph, f), X) for f in (0.3, 1.0, 3.0)]
    tokens = [r.mean_tokens for r in runs]
    assert tokens[0] < tokens[1] < tokens[2]
    assert np.array_equal(runs[1].counts, integer.run(graph, X).counts)
    if not kind:
        forever = integer.run(with_credit(graph, 1e4), X)
        assert forever.mean_tokens == 1 and np.array_equal(forever.logits, integer.run(halting_graph(gated=False), X).logits)
    changed = with_credit(graph, 0.3)
    assert {n for n in graph.ops if graph.ops[n] is not changed.ops[n]} == {n for n, op in graph.ops.items() if op.gates_tokens}


def test_margins_are_factors_of_the_calibrated_ones_or_quantiles_of_leads():
    graph = halting_graph(gated=False)
    full = integer.run(graph, X, spikes=True)
    labels, found = zip(*margins(graph, full, None))
    exits = [integer.run(with_margin(graph, m), X).mean_timesteps for m in found]
    assert labels[-1] == "never" and exits == sorted(exits) and exits[0] < exits[-1] == graph.timesteps
    z = np.sort(full.spikes["readout"][:, 0], 1)
    half = dict(zip(labels, found))["quantile 0.5"]
    assert (integer.run(with_margin(graph, half), X).exit_step == 1).tolist() == (z[:, -1] - z[:, -2] >= half[0]).tolist()
    calibrated = with_margin(graph, np.array([NEVER, 40, 60, NEVER]))
    assert [(n, m.tolist()) for n, m in margins(calibrated, full, [0.5])] == [
        ("x 0.5", [NEVER, 20, 30, NEVER]), ("never", [NEVER] * 4)]


@pytest.mark.parametrize("timesteps", [1, 2, 3])
def test_fewer_timesteps_are_the_first_ones(timesteps):
    graph = halting_graph(order="rectangle")
    graph.ops = {"mask": TimestepGate(np.array([1, 0, 1, 1])), **graph.ops}
    graph.edges.append(dataclasses.replace(graph.edges[0], source="mask", target="block1.fc1", slot="open", delay=0))
    graph.check()
    full, cut = integer.run(graph, X, spikes=True), integer.run(with_timesteps(graph, timesteps), X, spikes=True)
    assert cut.exit_step.max() == timesteps
    for name in graph.ops:
        if name not in ("readout", "exit"):  # the head adds what is left at once, the gate ends earlier
            assert np.array_equal(cut.spikes[name], full.spikes[name][:, :timesteps]), name


@pytest.mark.parametrize("factor", [2, 5])
def test_finer_cuts_hold_every_neuron_on_more_cores(factor):
    for group in unrun(halting_graph()).groups:
        plain = split(group, LOIHI2)
        cut = finer(plain, factor * plain.cores)
        assert cut.neurons.sum() == group.neurons and cut.cores >= min(factor * plain.cores, group.positions * group.channels)
        assert cut.words <= plain.words or group.kind == "token_gate"
    work = unrun(halting_graph())
    one = more_cores(work, LOIHI2, factor, "block1.fc1")
    changed = {c.group.name for c in one.cuts if c.cores > 1}
    assert changed == {"block1.fc1"} and more_cores(work, LOIHI2, factor, None).cores > one.cores


def command(monkeypatch, capsys, *args: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["sweep.py", *map(str, args)])
    code = 0
    try:
        cli.run(sweep.main)
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


PAIR = ("zoo:stas-digits", "--against", "zoo:spikformer-digits")
ROWS = {"credit": ["x 0.5", "x 1"], "timesteps": ["1", "4"], "bits": ["8", "4"], "cores": ["x 1", "x 4"]}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("over", ROWS)
def test_every_sweep_on_a_zoo_net(over, tmp_path, monkeypatch, capsys):
    values = [v.removeprefix("x ") for v in ROWS[over]]
    common = ("zoo:stas-digits", "--over", over, "--images", 24, "--output", tmp_path)
    code, out, _ = command(monkeypatch, capsys, *common, "--values", *values, "--json")
    figures = json.loads(out)
    assert code == 0 and figures == json.loads((tmp_path / f"sweep-{over}.json").read_text())
    first, last = figures["rows"]
    assert [r["value"] for r in figures["rows"]] == ROWS[over] and first["schedule"] == "wait"
    assert first["chip_steps"] == pytest.approx(first["mean_timesteps"] * 17)
    same = ("accuracy", "chip_events", "chip_pj", "mean_tokens")
    assert all(first[k] == last[k] for k in same) == (over in ("bits", "cores"))
    if over == "credit":
        assert first["mean_tokens"] < last["mean_tokens"] and first["chip_pj"]["paper45"] < last["chip_pj"]["paper45"]
    if over == "bits":
        assert last["memory_words"] < first["memory_words"]
    if over == "cores":
        assert last["cores"] > 3 * first["cores"] and last["latency_s"] < first["latency_s"]
        assert last["placed_pj"]["loihi1-davies"] > first["placed_pj"]["loihi1-davies"], "more cores take more packets"


@pytest.mark.timeout(120)
def test_two_nets_side_by_side_and_as_text(tmp_path, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, *PAIR, "--images", 24, "--output", tmp_path)
    rows = {r["value"]: r for r in json.loads((tmp_path / "sweep-runs.json").read_text())["rows"]}
    assert code == 0 and len(rows) == 2 and all(name in out for name in rows)
    assert [r["schedule"] for r in rows.values()] == ["wait", "pipelined"] and "estimates" in out
    code, out, _ = command(monkeypatch, capsys, "zoo:stas-digits", "--over", "bits", "--images", 8, "--output", tmp_path)
    assert code == 0 and "accuracy with fewer bits is not known" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["zoo:spikformer-digits", "--over", "credit"], "no token halts"),
        (["zoo:stas-digits", "--images", "999"], "asks for 999 images, test has 360"),
        (["zoo:stas-digits", "--values", "9"], "4 timesteps"),
        (["zoo:stas-digits", "--over", "credit", "--values", "-1"], "above 0"),
        (["zoo:stas-digits", "--over", "cores", "--op", "nothing"], "'nothing'"),
        (["zoo:stas-digits", "--over", "credit", "--op", "block1.fc1"], "--over credit"),
        (["zoo:stas-digits", "--costs", "synops"], "no table with prices"),
        (["no/such/run"], "no such"),
    ],
)
def test_what_cannot_be_swept_is_refused(args, said, monkeypatch, capsys, tmp_path):
    images = [] if "--images" in args else ["--images", "4"]
    code, _, err = command(monkeypatch, capsys, *args, *images, "--output", tmp_path)
    assert code == 1 and said in err and "hint" in err and not list(Path(tmp_path).iterdir())


def test_runs_of_different_data_are_not_compared(monkeypatch, tmp_path, capsys):
    from spikegate.hw_sim import what_if

    honest = what_if.open_net

    def other(given, *more):
        net = honest(given, *more)
        return net if "stas" in str(given) else dataclasses.replace(net, manifest=net.manifest | {"data": {"name": "other"}})

    monkeypatch.setattr(what_if, "open_net", other)
    code, _, err = command(monkeypatch, capsys, *PAIR, "--images", 4, "--output", tmp_path)
    assert code == 1 and "different data" in err


def test_a_net_without_an_exit_gate():
    graph = halting_graph(gated=False)
    graph.ops.pop("exit")
    graph.edges = [e for e in graph.edges if e.target != "exit"]
    with pytest.raises(DeployError, match="no exit gate"):
        with_margin(graph, np.full(4, 3))
