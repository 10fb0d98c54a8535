"""Energy of foreign NetX files: graded events are multiplications, counted by brute force here, priced or named as unpriced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.deploy.netx_run import run_netx
from spikegate.engine import integer
from spikegate.engine.graded import count, multiplying
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import COUNTERS, INPUT, DeployError, Payload
from spikegate.hw_sim import foreign
from spikegate.hw_sim.energy.cost_tables import load_table
from tests.slayer_chains import Chain

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True, timeout=100)


def by_hand(weight: np.ndarray, x: np.ndarray) -> tuple[int, int]:
    """(multiplications, accumulates) of a dense layer, one event and synapse after the other."""
    found = [0, 0]
    for sample in x.reshape(-1, x.shape[-1]):
        for i, value in enumerate(sample):
            for w in weight[:, i]:
                if value and w:
                    found[int(value == 1)] += 1
    return found[0], found[1]


def dense_chain(tmp_path, family: str) -> tuple[Chain, Path]:
    path = tmp_path / f"{family}.net"
    chain = next(c for c in (Chain(s, family) for s in range(99)) if len(c.shape) == 1 and len(c.flat) == 2 and "recurrent" not in c.flat)
    chain.export(path)
    return chain, path


def test_multiplications_are_counted_event_by_event(tmp_path):
    chain, path = dense_chain(tmp_path, "sigma_delta")
    graph = read_graph(path, payload=Payload(-4096, 4096))
    graph.timesteps = chain.timesteps
    x = np.random.default_rng(0).choice(np.array([-4096, 0, 0, 1, 4096], np.int32), chain.input.shape)
    spikes = {INPUT: x, **integer.run(graph, x, spikes=True).spikes}
    got, first, second = count(graph, x), *list(graph.ops)[:2]
    assert multiplying(graph) == [first, second] == list(got)
    for name, source in ((first, INPUT), (second, first)):
        multiplications, accumulates = by_hand(graph.ops[name].weight, spikes[source])
        assert got[name] == {"multiplications": multiplications, "accumulates": accumulates} and multiplications


def test_a_recurrent_layer_counts_its_feedback(tmp_path):
    chain = next(c for c in (Chain(s, "cuba", want="recurrent") for s in range(50)) if len(c.flat) == 1)
    chain.export(tmp_path / "any.net")
    graph = read_graph(tmp_path / "any.net", payload=Payload(-9, 9))
    graph.timesteps = chain.timesteps
    ((name, op),) = graph.ops.items()
    x = chain.input * 3
    own = integer.run(graph, x, spikes=True).spikes[name]
    back = np.concatenate([np.zeros_like(own[:, :1]), own[:, :-1]], 1)
    sums = [by_hand(op.weight, x), by_hand(op.weight_rec, back)]
    assert list(count(graph, x).values()) == [{"multiplications": sums[0][0], "accumulates": sums[0][1] + sums[1][1]}] and back.any()


@pytest.mark.parametrize("family", ["cuba", "sigma_delta"])
def test_the_commands_price_a_foreign_run(tmp_path, family):
    chain, path = dense_chain(tmp_path, family)
    np.save(tmp_path / "x.npy", chain.input * (4096 if family == "sigma_delta" else 1))
    run_netx(path, tmp_path / "x.npy", target="int", output=tmp_path / "run", as_json=True)
    done = run("hw_sim/estimate.py", tmp_path / "run", "--costs", "paper45", "loihi1-davies", "--json")
    assert done.returncode == 0, done.stderr
    found, record = json.loads(done.stdout), foreign.read(tmp_path / "run")[1]
    papers, davies = found["tables"]["paper45"], found["tables"]["loihi1-davies"]
    graded = json.loads((tmp_path / "run/result.json").read_text())["graded"]
    number = sum(v["multiplications"] for v in graded.values()) / len(record.counts)
    assert papers["components_pj"]["multiplications"] == pytest.approx(4.6 * number) and not papers["partial"]
    if family == "cuba":
        synops = record.counts[..., COUNTERS.index("synop")].sum() / len(record.counts)
        assert number == 0 and not davies["partial"] and papers["total_pj"] == pytest.approx(0.9 * synops)
    else:
        accumulates = sum(v["accumulates"] for v in graded.values()) / len(record.counts)
        assert number and papers["total_pj"] == pytest.approx(4.6 * number + 0.9 * accumulates)
        assert davies["partial"] and davies["unpriced"] == {"graded_mac": pytest.approx(number)}
    with cli.console.capture() as said:
        foreign.run(tmp_path / "run", [load_table("loihi1-davies")], None)
    assert ("partial" in said.get() and "no price for graded_mac" in said.get()) == (family == "sigma_delta")


def test_what_cannot_be_priced_is_said(tmp_path):
    chain, path = dense_chain(tmp_path, "sigma_delta")
    np.save(tmp_path / "x.npy", chain.input * 4096)
    run_netx(path, tmp_path / "x.npy", target="int", output=tmp_path / "run", as_json=True)
    for words, said in (((path,), "recorded events"), ((tmp_path / "run", "--chip", "loihi2"), "--chip")):
        done = run("hw_sim/estimate.py", *words)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    result = tmp_path / "run/result.json"
    facts = json.loads(result.read_text())
    result.write_text(json.dumps({k: v for k, v in facts.items() if k != "graded"}))
    with pytest.raises(DeployError, match="before multiplications were counted"):
        foreign.run(tmp_path / "run", [load_table("paper45")], None)
    result.write_text(json.dumps({**facts, "samples": 99}))
    with pytest.raises(DeployError, match="of two runs"):
        foreign.read(tmp_path / "run")
