"""The integer reference: runs a graph timestep by timestep. The Lava processes use the same two parts.

`Slots` know which sample and timestep each slot of the batch holds (an exit frees its slot at once);
`Stage` computes some ops for the slots' samples. Only occupied slots are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np

from spikegate.engine.arguments import checked
from spikegate.engine.injector import Injector as Injector
from spikegate.engine.injector import Slots, span_of
from spikegate.engine.record import Record
from spikegate.engine.recorder import Held
from spikegate.engine.recorder import Recorder as Recorder
from spikegate.engine.stage import Chunk as Chunk
from spikegate.engine.stage import Signals as Signals
from spikegate.engine.stage import Stage as Stage
from spikegate.graph.ir import Graph


def warm(graph: Graph) -> None:
    """Compile the kernels that the graph needs, or load them from their cache: processes forked later inherit them."""
    quiet = min(max(0, graph.input_payload.low), graph.input_payload.high)
    injector = Injector(graph, np.full((1, *graph.input_shape), quiet, np.int32), 1)
    Stage(graph, list(graph.ops), 1).step(injector.chunk())


def ending(graph: Graph) -> Callable[[Signals, np.ndarray], np.ndarray]:
    """`done_of` of a graph as a function (signals, t): its gate is looked up once."""
    gate = next(iter(graph.only("exit_gate")), None)
    return lambda signals, t: t >= graph.timesteps if gate is None else signals[gate][:, 0] > 0


def done_of(graph: Graph, signals: Signals, t: np.ndarray) -> np.ndarray:
    """Which rows are finished, bool [A]: by the exit gate, or after the last timestep where there is no gate."""
    return ending(graph)(signals, t)


def chunks(slots: Slots, stage: Stage) -> Iterator[tuple[Chunk, np.ndarray]]:
    """All chunks of the samples in these slots, computed by a stage that holds the whole net, and which of their rows end.

    A chunk's signals may be overwritten by the next.
    """
    stage.lasting = False
    done_in = ending(slots.graph)
    feedback: Signals | None = None
    while not slots.finished:
        chunk = slots.chunk(feedback)
        stage.step(chunk)
        done = done_in(chunk.signals, chunk.t)
        yield chunk, done
        stay = slots.advance(done)
        feedback = {s: chunk.signals[s][stay] for s, _, _ in slots.feedback}


def run(
    graph: Graph,
    inputs: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    batch: int = 64,
    spikes: bool | Collection[str] = False,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """Run all samples on the integer reference.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], or [N, T, *graph.input_shape]
    labels : int [N], optional
    batch : samples in flight; changes nothing but speed
    spikes : keep every op's output (N * T * neurons * 4 bytes), or that of the ops named
    progress : called with the number of samples that just ended

    Raises
    ------
    DeployError
        For inputs and labels that do not fit the net, and a batch below 1.
    """
    inputs, labels = checked(graph, inputs, labels, batch)
    injector = Injector(graph, inputs, batch, span_of(graph, min(batch, len(inputs))))
    stage = Stage(graph, list(graph.ops), len(injector.sample), injector.span)
    recorder = Recorder(graph, len(inputs), spikes)
    stage.sent, stage.activity = recorder.active, recorder.all_activity()
    held = Held(recorder)
    for chunk, done in chunks(injector, stage):
        held.add(chunk.sample, chunk.t, stage.events, chunk.signals, done)
        if progress is not None and done.any():
            progress(int(done.sum()))
    held.flush()
    return recorder.record(labels)
