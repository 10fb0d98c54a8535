"""Small graphs that the tests share."""

from __future__ import annotations

import numpy as np

from spikegate.graph.ir import Graph, Payload, load_ops
from spikegate.neurons.cuba import Cuba
from spikegate.ops.biased import Biased
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.readout import Readout
from spikegate.ops.rectangle_gate import RectangleGate
from spikegate.ops.relay import Relay
from spikegate.ops.spiking_attention import SpikingAttention
from spikegate.ops.token_gate import TokenGate
from spikegate.ops.token_merge import TokenMerge
from spikegate.ops.token_move import TokenMove

load_ops()
TOKENS, CHANNELS, CLASSES, TIMESTEPS = 9, 8, 3, 4


def halting_graph(
    seed: int = 0,
    *,
    gated: bool = True,
    theta: int = 1014,
    scores: int = 120,
    order: str = "serial",
    delta: int | None = None,
    spiking: bool = False,
    leaving: bool = False,
) -> Graph:
    """Two blocks with attention, token gates, last-alive readout and exit gate on a 3 x 3 token grid.

    `scores` is the table's step: larger halts earlier; `theta` huge never halts; the same seed gives the same weights.
    `order` is "serial" or "rectangle"; with `delta` tokens merge; with `spiking` the embedding fires in every timestep
    (a relay silences dead tokens), without it an inject replays the host's integers; `leaving`: its layers halt with their tokens.
    """
    rng = np.random.default_rng(seed)
    g = Graph(timesteps=TIMESTEPS, input_shape=(TOKENS, CHANNELS), input_payload=Payload(0, 3))

    def linear(out: int, per: int, vth: int = 60, kernel: int = 1) -> Conv:
        return Conv(
            weight=rng.integers(-30, 34, (out, per, kernel, kernel)) * 2, bias=rng.integers(-9, 9, out), grid=(3, 3), padding=kernel // 2,
            neuron=Cuba(4096, 2048, vth),
        )  # fmt: skip

    def later(slot: str, source: str) -> dict:
        """Wire a slot to `source`; before `source` is there it means the timestep before."""
        return {slot: source, "delayed": [] if source in g.ops else [slot]} if source else {}

    last = ("gate2" if order == "serial" else "gate0") if gated else ""
    raw, high, prefix = ["input"], 3, ""
    if leaving:
        encode = Biased((TOKENS, CHANNELS), 0, 3, Cuba(4096, 2048, 2), grid=(3, 3))
        g.add("sps.encode", encode, x="input", **later("alive", last))
        g.add("sps.rpe", linear(CHANNELS, CHANNELS, kernel=3), x="sps.encode", **later("alive", last))
        raw, high, prefix = ["sps.encode", "sps.rpe"], 2, "sps."
    if spiking:
        g.add("sps.replay", Inject((TOKENS, CHANNELS), 0, 3), x="input")
        g.add("sps.encode", Lif((TOKENS, CHANNELS), Cuba(4096, 2048, 1)), x="sps.replay")
        g.add("sps.rpe", linear(CHANNELS, CHANNELS, kernel=3), x="sps.encode")
        raw, high, prefix = ["sps.encode", "sps.rpe"], 2, "sps."
    credit = last
    if delta is not None:
        credit = g.add(f"{prefix}merge", TokenMerge((3, 3), CHANNELS, delta, theta), x=raw, **later("chain", last))
        raw = [*raw, g.add(f"{prefix}move", TokenMove((3, 3), CHANNELS, high), x=raw, after=credit)]
        high *= 2
    ends = {"before": credit, "after": last, "delayed": ["before"] if credit == last else []} if gated else {}
    if leaving:
        stream = raw
    elif not spiking:
        stream = [g.add("inject", Inject((TOKENS, CHANNELS), 0, high), x=raw, **later("alive", credit))]
    elif credit:
        stream = [g.add("sps.relay", Relay((TOKENS, CHANNELS), high), x=raw, **later("alive", credit))]
    else:
        stream = raw
    table = scores * np.arange(high + 6)
    if gated and order == "rectangle":
        credit = g.add("gate0", TokenGate(TOKENS, table, theta), x=stream, **later("chain", credit))
    for block in (1, 2):
        alive, name = later("alive", credit), f"block{block}"
        for part in "qkv":
            g.add(f"{name}.{part}", linear(CHANNELS, CHANNELS), x=stream, **alive)
        attention = SpikingAttention(TOKENS, CHANNELS, 2, exponent=3, neuron=Cuba(4096, 2048, 15))
        g.add(f"{name}.attention", attention, q=f"{name}.q", k=f"{name}.k", v=f"{name}.v", **alive)
        stream = [*stream, g.add(f"{name}.proj", linear(CHANNELS, CHANNELS), x=f"{name}.attention", **alive)]
        g.add(f"{name}.fc1", linear(2 * CHANNELS, CHANNELS), x=stream, **alive)
        stream = [*stream, g.add(f"{name}.fc2", linear(CHANNELS, 2 * CHANNELS), x=f"{name}.fc1", **alive)]
        if gated and (order == "serial" or block < 2):
            gate = TokenGate if order == "serial" else RectangleGate
            credit = g.add(f"gate{block}", gate(TOKENS, table, theta), x=stream, **later("chain", credit))
    head = Readout(rng.integers(-20, 20, (CLASSES, TOKENS, CHANNELS)) * 2, rng.integers(-5, 5, CLASSES), TIMESTEPS)
    g.add("readout", head, x=stream, **ends)
    exit_gate = ExitGate(CLASSES, TIMESTEPS, np.full(TIMESTEPS, NEVER))
    g.add("exit", exit_gate, logits="readout", **({"alive": last} if gated else {}))
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
