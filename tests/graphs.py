"""Small graphs that the tests share."""

from __future__ import annotations

import numpy as np

from convert.ir import Graph, Payload, load_ops
from convert.neuron import Cuba
from convert.ops.conv import Conv
from convert.ops.dense import Dense
from convert.ops.exit_gate import NEVER, ExitGate
from convert.ops.inject import Inject
from convert.ops.readout import Readout
from convert.ops.spiking_attention import SpikingAttention
from convert.ops.token_gate import TokenGate

load_ops()
TOKENS, CHANNELS, CLASSES, TIMESTEPS = 9, 8, 3, 4


def halting_graph(seed: int = 0, *, gated: bool = True, theta: int = 1014, scores: int = 120) -> Graph:
    """Two blocks with attention, token gates, last-alive readout and exit gate on a 3 x 3 token grid.

    `scores` is the table's step: larger halts earlier; `theta` huge never halts; the same seed gives the same weights.
    """
    rng = np.random.default_rng(seed)
    g = Graph(timesteps=TIMESTEPS, input_shape=(TOKENS, CHANNELS), input_payload=Payload(0, 3))

    def linear(out: int, per: int, vth: int = 60) -> Conv:
        return Conv(
            weight=rng.integers(-30, 34, (out, per, 1, 1)) * 2, bias=rng.integers(-9, 9, out), grid=(3, 3), neuron=Cuba(4096, 2048, vth)
        )

    chain = "gate2"
    first: dict = {"alive": chain, "delayed": ["alive"]} if gated else {}
    g.add("inject", Inject((TOKENS, CHANNELS), 0, 3), x="input", **first)
    stream = ["inject"]
    for block in (1, 2):
        alive: dict = {"alive": chain, "delayed": ["alive"] if block == 1 else []} if gated else {}
        name = f"block{block}"
        for part in "qkv":
            g.add(f"{name}.{part}", linear(CHANNELS, CHANNELS), x=list(stream), **alive)
        attention = SpikingAttention(TOKENS, CHANNELS, 2, exponent=3, neuron=Cuba(4096, 2048, 15))
        g.add(f"{name}.attention", attention, q=f"{name}.q", k=f"{name}.k", v=f"{name}.v", **alive)
        g.add(f"{name}.proj", linear(CHANNELS, CHANNELS), x=f"{name}.attention", **alive)
        stream.append(f"{name}.proj")
        g.add(f"{name}.fc1", linear(2 * CHANNELS, CHANNELS), x=list(stream), **alive)
        g.add(f"{name}.fc2", linear(CHANNELS, 2 * CHANNELS), x=f"{name}.fc1", **alive)
        stream.append(f"{name}.fc2")
        if gated:
            gate = TokenGate(TOKENS, scores * np.arange(9), theta)
            g.add(f"gate{block}", gate, x=list(stream), chain=chain, delayed=["chain"] if block == 1 else [])
            chain = f"gate{block}"
    ends: dict = {"before": chain, "after": chain, "delayed": ["before"]} if gated else {}
    g.add(
        "readout",
        Readout(rng.integers(-20, 20, (CLASSES, TOKENS, CHANNELS)) * 2, rng.integers(-5, 5, CLASSES), TIMESTEPS),
        x=stream,
        **ends,
    )
    exit_gate = ExitGate(CLASSES, TIMESTEPS, np.full(TIMESTEPS, NEVER))
    g.add("exit", exit_gate, logits="readout", **({"alive": chain} if gated else {}))
    g.check()
    return g


def halting_input(samples: int = 11, seed: int = 1) -> np.ndarray:
    """Graded integers [samples, 9, 8], some tokens brighter than others so that they halt at different times."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (samples, TOKENS, CHANNELS))
    x[:, :, 0] = rng.integers(0, 4, (samples, TOKENS))
    return x.astype(np.int32)


def chain_graph(seed: int = 3, timesteps: int = 6) -> Graph:
    """A plain chain in stock layer types: two convolutions and a dense layer on a 5 x 4 map of 2 channels."""
    rng = np.random.default_rng(seed)
    g = Graph(timesteps=timesteps, input_shape=(20, 2), meta={"input_grid": [5, 4]})
    g.add(
        "conv1",
        Conv(
            weight=rng.integers(-20, 40, (6, 2, 3, 3)) * 2,
            bias=rng.integers(-20, 20, 6),
            grid=(5, 4),
            padding=1,
            neuron=Cuba(1024, 512, 90),
        ),
        x="input",
    )
    g.add(
        "conv2",
        Conv(
            weight=rng.integers(-20, 30, (4, 6, 1, 3)) * 2,
            bias=rng.integers(-20, 20, 4),
            grid=(5, 4),
            padding=(0, 1),
            neuron=Cuba(4096, 2048, 80),
        ),
        x="conv1",
    )
    g.add("dense", Dense(weight=rng.integers(-30, 40, (7, 80)) * 2, bias=rng.integers(-20, 20, 7), neuron=Cuba(4096, 400, 120)), x="conv2")
    g.check()
    return g
