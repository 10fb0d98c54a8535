"""The integer reference in chip time: one chip step per synaptic hop. Lava processes in chip time use the same parts.

`Entrance` injects the timesteps of all slots as the schedule says; `ChipStage` computes some units from what their delay lines deliver in
this chip step; `Reindexed` (in its own file) assigns the results to their timesteps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from spikegate.engine.arguments import checked
from spikegate.engine.chip_time.reindex import Reindexed
from spikegate.engine.chip_time.schedule import Schedule, Unit
from spikegate.engine.injector import Injector
from spikegate.engine.integer import Chunk, Signals, Stage, done_of
from spikegate.engine.record import Record
from spikegate.graph.ir import INPUT, DeployError, delayed

Arrivals = dict[str, Chunk]  # op (or `INPUT`) -> its latest output, under the header of the timestep that it belongs to


@dataclass
class Report:
    """Report of a unit for a chip step (from 1): its timesteps, events int64 [A, counters] by op, signals by name."""

    unit: str
    step: int
    chunk: Chunk
    counts: dict[str, np.ndarray]


class Fifo:
    """Gives back what was put in `steps` chip steps ago."""

    def __init__(self, steps: int) -> None:
        self.held: deque[Chunk | None] = deque([None] * steps)

    def shift(self, value: Chunk | None) -> Chunk | None:
        self.held.append(value)
        return self.held.popleft()


class ChipStage:
    """Computes the units `names` of a schedule for up to `width` slots; keeps their states and delay lines.

    A unit works in the chip step in which its strobe arrives: the header that entered phase - 1 chip steps before. It takes
    sample and timestep (and with timestep 1 its reset) from there, and checks that every line brings the same.
    """

    def __init__(self, schedule: Schedule, names: list[str], width: int) -> None:
        self.graph, self.units = schedule.graph, [schedule.units[n] for n in names]
        self.stages = {u.name: Stage(self.graph, list(u.ops), width) for u in self.units}
        self.strobes = {u.name: Fifo(u.phase - 1) for u in self.units}
        self.lines = {u.name: [(line, Fifo(line.steps)) for line in u.lines] for u in self.units}
        self.reported = {u.name: [o for o in u.ops if schedule.reporter[o] == u.name] for u in self.units}
        self.outs: Arrivals = {}
        self.count = 0

    def step(self, strobe: Chunk | None, arrived: Arrivals) -> Iterator[Report]:
        """One chip step; yields a report of each unit that computed.

        `strobe` is what enters now, with the host's signal; `arrived` are the outputs that other stages computed one chip step
        ago. Outputs of this stage's own units are kept here until then. `outs` then holds this chip step's outputs.
        """
        self.count += 1
        ready = {**self.outs, **arrived}
        if strobe is not None:
            ready[INPUT] = strobe
        self.outs = {}
        for unit in self.units:
            head = self.strobes[unit.name].shift(strobe)
            brought = [(line.source, line.back, fifo.shift(ready.get(line.source))) for line, fifo in self.lines[unit.name]]
            if head is None:
                continue
            chunk = self._gather(unit, head, brought)
            stage = self.stages[unit.name]
            stage.step(chunk)
            self.outs[unit.name] = Chunk(chunk.rows, chunk.sample, chunk.t, {unit.name: chunk.signals[unit.name]})
            yield Report(unit.name, self.count, chunk, {n: stage.counts[n] for n in self.reported[unit.name]})

    def _gather(self, unit: Unit, head: Chunk, brought: list[tuple[str, bool, Chunk | None]]) -> Chunk:
        signals: Signals = {}
        for source, back, value in brought:
            if back:
                signals[delayed(source)] = self._fed_back(unit, head, source, value)
            else:
                if value is None or not _same(value, head):
                    raise self._wrong_timestep(unit, source)
                signals[source] = value.signals[source]
        return Chunk(head.rows, head.sample, head.t, signals)

    def _fed_back(self, unit: Unit, head: Chunk, source: str, value: Chunk | None) -> np.ndarray:
        """A source's output of the timestep before; its initial one for rows at their first timestep."""
        out = self.graph.ops[source].initial(len(head.t))
        again = head.t > 1
        if again.any():
            if value is None or not np.isin(head.rows[again], value.rows).all():
                raise self._wrong_timestep(unit, source)
            at = np.searchsorted(value.rows, head.rows[again])
            if not _same(Chunk(value.rows[at], value.sample[at], value.t[at] + 1, {}), head, again):
                raise self._wrong_timestep(unit, source)
            out[again] = value.signals[source][at]
        return out

    def _wrong_timestep(self, unit: Unit, source: str) -> DeployError:
        return DeployError(unit.name, f"what {source} brings in chip step {self.count} belongs to another timestep",
                           "this is a fault of the schedule: report it with the graph; --timing algorithmic avoids it")


def _same(value: Chunk, head: Chunk, rows: np.ndarray | slice = slice(None)) -> bool:
    """Whether a header is that of these rows of another."""
    pairs = ((value.rows, head.rows), (value.sample, head.sample), (value.t, head.t))
    return all(np.array_equal(a, b[rows]) for a, b in pairs)


class Entrance:
    """Decides in each chip step what enters: every `interval` chip steps the next timestep of each slot, or its next sample."""

    def __init__(self, schedule: Schedule, inputs: np.ndarray, width: int) -> None:
        self.schedule, self.injector = schedule, Injector(schedule.graph, inputs, width)
        self.ended, self.entered = np.zeros(len(inputs), bool), np.zeros(len(inputs), bool)
        self.step, self.last = 0, 1

    def take_decision(self, ended: np.ndarray) -> None:
        """Take the exit decision of the chip step before: numbers of the samples that have ended."""
        self.ended[ended] = True

    def strobe(self) -> Chunk | None:
        """What enters in the next chip step; None where no timestep is due."""
        self.step += 1
        if self.injector.finished or (self.step - 1) % self.schedule.interval:
            return None
        if self.step > 1:
            self.injector.advance(self._over())
            if self.injector.finished:
                return None
        self.last = self.step
        chunk = self.injector.chunk()
        self.entered[chunk.sample] = True
        return Chunk(chunk.rows, chunk.sample, chunk.t, {INPUT: chunk.signals[INPUT]})

    def _over(self) -> np.ndarray:
        """Slots whose sample has no more timesteps to send, bool [A]."""
        over: np.ndarray = (self.injector.t >= self.schedule.graph.timesteps) | self.ended[self.injector.sample]
        return over

    @property
    def drained(self) -> bool:
        """Whether everything has entered and run through."""
        injector = self.injector
        empty = injector.finished or bool(self.entered.all() and self._over().all())
        return empty and self.step >= self.last + self.schedule.depth - 1


def run(
    schedule: Schedule,
    inputs: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    batch: int = 64,
    spikes: bool | Collection[str] = False,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """Run all samples in chip time; parameters as of `spikegate.engine.integer.run`.

    Returns
    -------
    The record of algorithmic timing, re-indexed; ``meta`` has the schedule's `facts`, ``chip_steps`` of each sample, and the
    events of what was under way when a sample ended (`Reindexed`).

    Raises
    ------
    DeployError
        For inputs that do not fit the net.
    """
    inputs, labels = checked(schedule.graph, inputs, labels, batch)
    entrance = Entrance(schedule, inputs, batch)
    decider = deciding(schedule)
    stage = ChipStage(schedule, list(schedule.units), len(entrance.injector.sample))
    results = Reindexed(schedule, len(inputs), spikes)
    while not entrance.drained:
        for report in stage.step(entrance.strobe(), {}):
            ended = results.add(report.unit, report.step, report.chunk, report.counts, report.chunk.signals)
            if progress is not None and ended:
                progress(ended)
        decided = stage.outs.get(decider)
        if decided is not None:
            entrance.take_decision(decided.sample[done_of(schedule.graph, decided.signals, decided.t)])
    return results.record(labels)


def deciding(schedule: Schedule) -> str:
    """The unit that decides when a sample is done: the exit gate, or the last op."""
    gates = schedule.graph.only("exit_gate")
    return schedule.reporter[gates[0] if gates else list(schedule.graph.ops)[-1]]
