"""What the trained net computes in torch, as a `Record`: the first of the three targets that `deploy/compare.py` sets side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikegate.engine.counted import Counter
from spikegate.engine.integer import Recorder, done_of
from spikegate.engine.record import Record
from spikegate.graph.ir import INPUT, Graph, delayed
from spikegate.train import devices
from spikegate.train.layers.exit_gate import Exit
from spikegate.train.layers.readout import Head
from spikegate.train.models.net import Net


def trace_net(
    net: Net, images: np.ndarray, batch: int = 256, *, labels: np.ndarray | None = None, spikes: bool | Collection[str] = True,
    counts: bool = False, progress: Callable[[int], None] | None = None,
) -> Record:
    """Run uint8 images [N, channels, height, width] through the deployed net, on its device, and record alive masks, logits, exits.

    Torch computes every timestep of every sample; what lies after a sample's exit is left out, as on chip. `spikes` as of
    `integer.run`. With `counts` the ops count their events from the signals, else the counters stay zero (``meta["counts"]`` is False).
    """
    net.set_phase("deployed")
    net.eval()
    graph = net.graph()
    recorder = Recorder(graph, len(images), spikes)
    counter = Counter(graph) if counts else None
    device = next(net.parameters()).device
    head = next(n for n, t in net.named.items() if isinstance(t, Head))
    exits = [n for n in graph.ops if graph.ops[n].kind == "exit_gate"]
    with torch.no_grad():
        for start in range(0, len(images), batch):
            x = torch.from_numpy(images[start : start + batch]).to(device)
            out = net(x)
            final = out.logits.div(net.twin(head).log_scale.exp()).round().long().cpu().numpy()
            _trace_batch(net, recorder, counter, x, np.arange(start, start + len(x)), out.exit_step.cpu().numpy(), final, head, exits)
            if progress is not None:
                progress(len(x))
    return recorder.record(labels, **({} if counts else {"counts": False}))


def _trace_batch(
    net: Net, recorder: Recorder, counter: Counter | None, x: torch.Tensor, sample: np.ndarray, exit_step: np.ndarray, final: np.ndarray,
    head: str, exits: list[str],
) -> None:
    first, before = 1, {s: net.twin(s).initial(len(x))[0].cpu().numpy() for s in recorder.graph.delayed_sources()}
    for signals in net.run(x):
        steps = signals[head].shape[0]
        arrays = {n: s.cpu().numpy() for n, s in signals.items() if n in recorder.graph.ops}
        given = signals[INPUT].cpu().numpy()
        for k in range(steps):
            t = first + k
            now = {}
            for name, value in arrays.items():
                if net.twin(name).once:
                    now[name] = value if t == 1 else np.zeros_like(value)
                else:
                    now[name] = value[k]
            for name in set(recorder.graph.ops) - set(now):  # worked once, in an earlier chunk
                now[name] = np.zeros((len(x), *recorder.graph.ops[name].out_shape))
            ends = exit_step == t
            now[head] = np.where(ends[:, None], final, now[head])
            for name in exits:
                now[name] = np.stack([ends, now[head].argmax(1)], 1)
            now |= {delayed(s): v for s, v in before.items()}
            before = {s: now[s] for s in before}
            rows = exit_step >= t
            if not rows.any():
                return
            stamp = np.full(int(rows.sum()), t)
            ints = {n: np.rint(v[rows]).astype(np.int32) for n, v in now.items()}
            recorder.signals(sample[rows], stamp, ints)
            if counter is not None:
                sent = given[k] if given.ndim > 1 + len(recorder.graph.input_shape) else given if t == 1 else np.zeros_like(given)
                ints[INPUT] = np.rint(sent[rows]).astype(np.int32)
                recorder.counted(sample[rows], stamp, slice(None), counter.events(ints, stamp))
            recorder.ended(sample[rows], stamp, done_of(recorder.graph, ints, stamp))
        first += steps


def trace(run: Path, images: np.ndarray, graph: Graph | None = None, *, device: str = "cpu", **more: Any) -> Record:
    """`trace_net` on the finished run in folder `run`, with its options. What the export calibrated, margins of the exit gate and the
    gates of a pruned net, is taken from its `graph`.

    Raises
    ------
    DeployError
        No finished run, a device that is not there, a graph that was not made from this run.
    """
    from spikegate.train.models.rewired import rewired
    from spikegate.train.restore import load_run

    where = devices.resolve(device)
    devices.prepare(where)
    net = load_run(run)[1]
    if graph is not None:
        if set(graph.ops) - set(net.named):
            net = rewired(net, graph)
        gates = graph.only("exit_gate")
        set_margin(net, graph.ops[gates[0]].margin if gates else None)  # type: ignore[attr-defined]
    return trace_net(net.to(where), images, **more)


def set_margin(net: Net, margin: np.ndarray | None) -> None:
    """Give the net's exit gate the exported margins."""
    for twin in net.named.values():
        if isinstance(twin, Exit) and margin is not None:
            twin.margin.copy_(torch.from_numpy(np.asarray(margin, np.int64)))
