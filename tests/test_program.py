"""Walking a stage's ops in compiled code gives what the ops' own `advance` gives: every output, event and activity."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.data.shipped import open_images
from spikegate.engine import integer, stage
from spikegate.engine.program import program_of
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import Graph, Payload
from spikegate.kernels import gather
from spikegate.neurons.cuba import Cuba, RegisterOverflow, Strict
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from spikegate.ops.lif import Lif

FOLDERS = sorted(p.parent for p in ZOO.glob("*/model.net"))
FIELDS = ("counts", "logits", "exit_step", "alive")


def both(monkeypatch, graph: Graph, x: np.ndarray, batch: int) -> tuple:
    """Records of a run with the interpreter and of one without it."""
    interpreted = integer.run(graph, x, batch=batch, spikes=True)
    with monkeypatch.context() as m:
        m.setattr(stage, "SMALL", 0)
        alone = integer.run(graph, x, batch=batch, spikes=True)
    return interpreted, alone


def same(interpreted, alone) -> None:
    for field in FIELDS:
        assert np.array_equal(getattr(interpreted, field), getattr(alone, field)), field
    for kind in ("spikes", "activity", "values"):
        a, b = getattr(interpreted, kind), getattr(alone, kind)
        assert a.keys() == b.keys()
        for name in a:
            assert np.array_equal(a[name], b[name]), (kind, name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
@pytest.mark.parametrize("batch", [1, 5])
def test_an_interpreted_run_of_a_zoo_net_gives_the_same_record(folder, batch, monkeypatch):
    graph = read_graph(folder / "model.net")
    manifest = read_manifest(folder)
    x = open_host(folder, graph, manifest).encode(open_images(folder, manifest, "test:12").x)
    monkeypatch.setattr(stage, "SMALL", 1 << 40)
    assert program_of(graph, list(graph.ops)).interpreted > 1
    same(*both(monkeypatch, graph, x, batch))


def chain(rng: np.random.Generator, channels: int, neuron: Cuba, high: int) -> Graph:
    """A map of so many channels through convolutions with a residual sum and a shortcut, then a dense layer."""
    graph = Graph(timesteps=3, input_shape=(30, channels), input_payload=Payload(0, high))

    def conv(out, per, k, **more):
        return Conv(rng.integers(-40, 40, (out, per, k, k)) * 2, rng.integers(-30, 30, out), (5, 6), neuron=neuron, **more)

    first = graph.add("first", conv(12, channels, 3, padding=1), x="input")
    second = graph.add("second", conv(12, 12, 1), x=first)
    third = graph.add("third", conv(12, 6, 3, padding=1, groups=2), x=[first, second])
    fourth = graph.add("fourth", conv(7, 12, 3), x=[first, second, third])
    held = graph.add("held", Lif((12, 7), Cuba(4096, 2048, 1)), x=fourth)
    graph.add("out", Dense(rng.integers(-9, 9, (5, 84)) * 2, rng.integers(-9, 9, 5), neuron), x=[fourth, held])
    return graph


@pytest.mark.parametrize("neuron", [Cuba(4096, 2048, 60), Cuba(4096, 4096, 60), Cuba(4096, 700, 90), Cuba(1024, 300, 200)], ids=str)
@pytest.mark.parametrize(("channels", "high"), [(2, 1), (9, 1), (3, 5), (4, 40)])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_interpreted_run_of_a_chain_gives_the_same_record(neuron, channels, high, batch, monkeypatch):
    rng = np.random.default_rng(channels + high)
    graph = chain(rng, channels, neuron, high)
    for density in (0.05, 0.9):
        x = ((rng.random((6, 3, 30, channels)) < density) * rng.integers(1, high + 1, (6, 3, 30, channels))).astype(np.int32)
        same(*both(monkeypatch, graph, x, batch))


def test_a_changed_graph_gets_a_new_table():
    rng = np.random.default_rng(0)
    graph = chain(rng, 3, Cuba(4096, 2048, 60), 1)
    x = rng.integers(0, 2, (2, 3, 30, 3)).astype(np.int32)
    before = integer.run(graph, x)
    assert program_of(graph, list(graph.ops)) is program_of(graph, list(graph.ops))
    graph.ops["first"] = dataclasses.replace(graph.ops["first"], neuron=Cuba(4096, 2048, 4000))
    after = integer.run(graph, x)
    assert before.counts[:, :, 0].sum() != after.counts[:, :, 0].sum()


def test_an_overflow_is_reported_as_ever(monkeypatch):
    rng = np.random.default_rng(0)
    graph = Graph(timesteps=14, input_shape=(8, 60))
    heavy = Conv(np.full((4, 60, 1, 1), 254), np.zeros(4, np.int64), (2, 4), neuron=Cuba(4096, 0, 4095))
    graph.add("a", Conv(rng.integers(-9, 9, (60, 60, 1, 1)) * 2, rng.integers(0, 9, 60), (2, 4)), x="input")
    graph.add("b", dataclasses.replace(heavy, neuron=Cuba(100, 0, 4095)), x="input")
    x = np.ones((1, 14, 8, 60), np.int32)
    monkeypatch.setattr(Strict, "raises", False)
    with pytest.warns(RuntimeWarning, match="24 bits"):
        interpreted, alone = both(monkeypatch, graph, x, 1)
    same(interpreted, alone)
    monkeypatch.setattr(Strict, "raises", True)
    with pytest.raises(RegisterOverflow):
        integer.run(graph, x)


def test_sums_beyond_17_bits_are_left_to_the_op(monkeypatch):
    """600 inputs of the largest weight: the interpreter's kernels hold no such sum."""
    graph = Graph(timesteps=3, input_shape=(2, 600))
    graph.add("wide", Conv(np.full((3, 600, 1, 1), 254), np.zeros(3, np.int64), (1, 2), neuron=Cuba(4096, 0, 4095)), x="input")
    graph.add("small", Conv(np.full((3, 3, 1, 1), 2), np.zeros(3, np.int64), (1, 2), neuron=Cuba(4096, 0, 1)), x="wide")
    monkeypatch.setattr(Strict, "raises", False)
    x = np.ones((2, 3, 2, 600), np.int32)
    x[1, :, :, 30:] = 0
    with pytest.warns(RuntimeWarning, match="bits"):
        interpreted, alone = both(monkeypatch, graph, x, 2)
    same(interpreted, alone)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_few_channels_are_coded(channels):
    x = np.random.default_rng(1).integers(0, 2, (2, 6, channels)).astype(np.int32)
    codes = np.empty((2, 6), np.int32)
    gather.coded(x, codes)
    assert np.array_equal(codes, (x << np.arange(channels)).sum(2))
