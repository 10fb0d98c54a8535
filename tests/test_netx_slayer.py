"""Any chain that SLAYER exports gives SLAYER's own outputs, layer by layer; SPIKEGATE_CHAINS sets how many random chains are tried."""

from __future__ import annotations

import os

import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import Payload
from spikegate.neurons.cuba import Strict
from tests.slayer_chains import FAMILIES, WANTS, Chain

CHAINS = int(os.environ.get("SPIKEGATE_CHAINS", "240"))
EACH = 3  # chains with each thing that a family can have
WANTED = [(family, want, seed) for family, wants in WANTS.items() for want in wants for seed in range(EACH)]


def layer_outputs(graph, record) -> list[np.ndarray]:
    """The last op of each layer: its delay where it has one."""
    names = [n for n in graph.ops if f"{n}.delay" not in graph.ops]
    return [record.spikes[n] for n in names]


def check(chain: Chain, path) -> None:
    """Our outputs are SLAYER's, layer by layer."""
    chain.export(path)
    graph = read_graph(path, payload=Payload(-(1 << 20), 1 << 20) if chain.graded > 1 else Payload(0, 1))
    graph.timesteps = chain.timesteps
    ours = layer_outputs(graph, integer.run(graph, chain.fed, spikes=True))
    assert len(ours) == len(chain.outputs) == len(chain.computing)
    for k, (got, want, block) in enumerate(zip(ours, chain.outputs, chain.computing)):
        want = chain.scaled(want, block)
        assert np.array_equal(got.reshape(want.shape), want), f"{chain.family}, layer {k}: {type(block).__name__}"


@pytest.mark.parametrize("seed", range(CHAINS))
def test_random_chains_equal_slayer_layer_by_layer(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)
    check(Chain(seed, FAMILIES[seed % len(FAMILIES)]), tmp_path / "chain.net")


@pytest.mark.parametrize("family, want, seed", WANTED)
def test_every_block_that_slayer_exports_equals_it(family, want, seed, tmp_path, monkeypatch):
    """All layer types of all families, with groups, dilation, delays, a decay for each channel, input blocks and last layers."""
    monkeypatch.setattr(Strict, "raises", False)
    chain = Chain(1000 * seed + len(want), family, want=want)
    assert has(chain, set(want.split()))
    check(chain, tmp_path / "chain.net")


def has(chain: Chain, want: set[str]) -> bool:
    """Whether the chain is what was asked for."""
    first = chain.blocks["input" in want]
    synapse = getattr(first, "synapse", None)
    types = [type(b).__name__ for b in chain.blocks]
    late = getattr(first, "delay", None)
    there = {
        "grouped": lambda: synapse.groups > 1, "dilated": lambda: max(synapse.dilation) > 1, "late": lambda: bool(late.delay.any()),
        "each": lambda: not first.neuron.shared_param, "input": lambda: types[0] == "Input", "affine": lambda: types[-1] == "Affine",
        "bare": lambda: not chain.blocks[-1].dynamics, "output": lambda: types[-1] == "Output", "average": lambda: types[-1] == "Average",
        "pointwise": lambda: type(first).__name__ == "Dense" and len(chain.shape) == 3,
    }  # fmt: skip
    usual = {w: lambda w=w: type(first).__name__.lower() == w.lower() for w in ("conv", "convT", "pool", "unpool", "dense", "recurrent")}
    return all((there | usual)[w]() for w in want)


def test_the_chains_are_not_silent():
    spikes = [sum(np.count_nonzero(y) for y in Chain(seed, family).outputs) for seed, family in enumerate(FAMILIES)]
    assert all(spikes)
