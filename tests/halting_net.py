"""A small net with everything that a deployment must get right: residual sources, attention, token halting, early exit."""

from __future__ import annotations

import numpy as np

from convert.ir import Graph, Payload
from convert.neuron import Cuba
from convert.ops.conv import Conv
from convert.ops.exit_gate import NEVER, ExitGate
from convert.ops.inject import Inject
from convert.ops.readout import Readout
from convert.ops.spiking_attention import SpikingAttention
from convert.ops.token_gate import TokenGate

TOKENS, CHANNELS, TIMESTEPS, CLASSES = 9, 8, 4, 3


def halting_net(seed: int = 0) -> Graph:
    """Two blocks on a grid of 3x3 tokens, 4 timesteps, 3 classes; samples end after 1 to 4 timesteps."""
    rng = np.random.default_rng(seed)
    graph = Graph(timesteps=TIMESTEPS, input_shape=(TOKENS, CHANNELS), input_payload=Payload(0, 3))

    def linear(out: int, per: int) -> Conv:
        weight = rng.integers(-30, 34, (out, per, 1, 1)) * 2
        return Conv(weight=weight, bias=rng.integers(-9, 9, out), grid=(3, 3), neuron=Cuba(4096, 2048, 60))

    table = np.array([60, 150, 280, 400, 500, 600, 700, 800])
    graph.add("inject", Inject((TOKENS, CHANNELS), 0, 3), x="input", alive="gate2", delayed=["alive"])
    stream, gate = ["inject"], "gate2"
    for block in (1, 2):
        late = ["alive"] if block == 1 else []
        for n in "qkv":
            graph.add(f"block{block}.{n}", linear(CHANNELS, CHANNELS), x=list(stream), alive=gate, delayed=late)
        attention = SpikingAttention(TOKENS, CHANNELS, 2, exponent=3, neuron=Cuba(4096, 2048, 15))
        qkv = {n: f"block{block}.{n}" for n in "qkv"}
        graph.add(f"block{block}.attn", attention, **qkv, alive=gate, delayed=late)
        graph.add(f"block{block}.proj", linear(CHANNELS, CHANNELS), x=f"block{block}.attn", alive=gate, delayed=late)
        stream.append(f"block{block}.proj")
        graph.add(f"block{block}.fc1", linear(2 * CHANNELS, CHANNELS), x=list(stream), alive=gate, delayed=late)
        graph.add(f"block{block}.fc2", linear(CHANNELS, 2 * CHANNELS), x=f"block{block}.fc1", alive=gate, delayed=late)
        stream.append(f"block{block}.fc2")
        graph.add(f"gate{block}", TokenGate(TOKENS, table, 1014), x=list(stream), chain=gate, delayed=["chain"] if block == 1 else [])
        gate = f"gate{block}"
    head = Readout(rng.integers(-20, 20, (CLASSES, TOKENS, CHANNELS)) * 2, rng.integers(-5, 5, CLASSES), TIMESTEPS)
    graph.add("readout", head, x=stream, before="gate2", after="gate2", delayed=["before"])
    margin = np.array([400, 300, 200, NEVER])
    graph.add("exit", ExitGate(CLASSES, TIMESTEPS, margin, "threshold_then_argmax"), logits="readout", alive="gate2")
    graph.check()
    return graph


def samples(n: int, seed: int = 1) -> np.ndarray:
    """Input integers for `halting_net`, int32 [n, tokens, channels]."""
    return np.random.default_rng(seed).integers(0, 4, (n, TOKENS, CHANNELS)).astype(np.int32)
