"""Any chain that SLAYER exports gives SLAYER's own outputs, layer by layer; SPIKEGATE_CHAINS sets how many random chains are tried."""

from __future__ import annotations

import os

import numpy as np
import pytest

from convert import engine
from convert.ir import Payload
from convert.netx import read_graph
from convert.neuron import Strict
from tests.slayer_chains import FAMILIES, Chain

CHAINS = int(os.environ.get("SPIKEGATE_CHAINS", "36"))


def layer_outputs(graph, record) -> list[np.ndarray]:
    """The last op of each layer: its delay where it has one."""
    names = [n for n in graph.ops if f"{n}.delay" not in graph.ops]
    return [record.spikes[n] for n in names]


@pytest.mark.parametrize("seed", range(CHAINS))
def test_random_chains_equal_slayer_layer_by_layer(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)
    chain = Chain(seed, FAMILIES[seed % len(FAMILIES)])
    chain.export(tmp_path / "chain.net")
    graph = read_graph(tmp_path / "chain.net", payload=Payload(-(1 << 20), 1 << 20) if chain.family == "sigma_delta" else Payload(0, 1))
    graph.timesteps = chain.timesteps
    x = chain.input * (4096 if chain.family == "sigma_delta" else 1)
    ours = layer_outputs(graph, engine.run(graph, x, spikes=True))
    assert len(ours) == len(chain.outputs)
    for k, (got, want) in enumerate(zip(ours, chain.outputs)):
        assert np.array_equal(got, chain.scaled(want)), f"{chain.family}, layer {k}: {type(chain.blocks[k]).__name__}"


def test_the_chains_are_not_silent():
    spikes = [sum(np.count_nonzero(y) for y in Chain(seed, family).outputs) for seed, family in enumerate(FAMILIES)]
    assert all(spikes)
