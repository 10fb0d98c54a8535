"""When each op computes on a chip: one chip step per synaptic hop, delay lines for shorter paths, and what cannot be pipelined.

An op of phase p computes timestep t in chip step ``(t - 1) * interval + p``: what enters in one chip step is there p - 1 hops later.
`pipelined` starts timesteps as close to each other as feedback allows; `wait` starts one when the last op has finished the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from spikegate.graph.ir import INPUT, DeployError, Edge, Graph
from spikegate.ops.exit_gate import NEVER

SCHEDULES = ("pipelined", "wait")
WIRING = ("current", "route")  # no neurons: each reader has a copy and computes it in its own chip step


@dataclass(frozen=True)
class Line:
    """Delay line of `steps` chip steps from `source` to a unit; `back`: for the next timestep."""

    source: str
    steps: int
    back: bool = False


@dataclass(frozen=True)
class Unit:
    """Ops that compute in the same chip step: an op with neurons (or a gate), after the wiring that it reads, in graph order."""

    name: str
    ops: tuple[str, ...]
    phase: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Decision:
    """Something that `gate` decides in one timestep and `reader` applies in the next.

    `slack` counts the chip steps that it arrives early if a timestep enters every chip step; negative: too late by so many.
    """

    gate: str
    reader: str
    slack: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """Phases of a graph's units, and the chip steps from one timestep's start to the next (`interval`)."""

    graph: Graph
    name: str
    interval: int
    units: dict[str, Unit]

    @cached_property
    def depth(self) -> int:
        """Chip steps from a timestep's start to its end."""
        return max(u.phase for u in self.units.values())

    def chip_steps(self, timesteps: np.ndarray) -> np.ndarray:
        """Chip steps from the start to the end of samples that run so many timesteps."""
        return (timesteps - 1) * self.interval + self.depth

    def period(self, timesteps: np.ndarray) -> np.ndarray:
        """Chip steps from a sample's start to that of the next in its slot.

        An early end is known `depth` chip steps after its timestep began; what has entered until then runs through.
        """
        known = timesteps - 1 + -(-self.depth // self.interval)
        return np.where(timesteps < self.graph.timesteps, np.minimum(known, self.graph.timesteps), timesteps) * self.interval

    @cached_property
    def reporter(self) -> dict[str, str]:
        """Op -> the unit that reports it: its own, or the first of those that have a copy of it."""
        found: dict[str, str] = {}
        for unit in self.units.values():
            for op in unit.ops:
                found.setdefault(op, unit.name)
        return found

    def delays(self) -> dict[str, dict[str, int]]:
        """Delay lines by source: longest delay in chip steps, values held at once (`cells`) and their `bits`.

        Readers of one source share its line. It holds as many timesteps as start while a value waits.
        """
        longest: dict[str, int] = {}
        for unit in self.units.values():
            for line in unit.lines:
                longest[line.source] = max(longest.get(line.source, 0), line.steps)
        out = {}
        for source, steps in longest.items():
            if steps:
                cells = -(-steps // self.interval) * int(np.prod(self.graph.shape_of(source)))
                out[source] = {"steps": steps, "cells": cells, "bits": cells * self.graph.payload_of(source).bits}
        return out

    def facts(self) -> dict[str, Any]:
        """What a run's record says of its timing."""
        lines = self.delays().values()
        return {
            "timing": "loihi", "schedule": self.name, "interval": self.interval, "depth": self.depth,
            "delay_steps": max((d["steps"] for d in lines), default=0), "delay_cells": sum(d["cells"] for d in lines),
            "delay_bits": sum(d["bits"] for d in lines),
        }


def schedule(graph: Graph, wanted: str) -> Schedule:
    """The schedule `wanted` of a graph.

    Raises
    ------
    DeployError
        Unknown schedule, or `pipelined` for a net whose halting is not pipeline-safe: it names gate, reader and slack.
    """
    if wanted not in SCHEDULES:
        raise DeployError("--schedule", f"no schedule {wanted!r}", f"use one of {', '.join(SCHEDULES)}")
    phase = phases(graph)
    depth = max(phase[n] for n in phase if not _folded(graph, n))
    interval = depth
    if wanted == "pipelined":
        _refuse_unsafe(graph, phase, depth)
        interval = _interval(decisions(graph, phase))
    units = {n: _unit(graph, n, phase, interval) for n in graph.ops if not _folded(graph, n)}
    return Schedule(graph, wanted, interval, units)


def pipeline_safe(graph: Graph) -> bool:
    """Whether `pipelined` is possible."""
    try:
        schedule(graph, "pipelined")
    except DeployError:
        return False
    return True


def phases(graph: Graph) -> dict[str, int]:
    """Chip step, from 1, in which each op computes the first timestep: one more than the longest path to it. Wiring costs no step."""
    out: dict[str, int] = {}
    for name in graph.ops:
        sources = (e.source for edges in graph.sources(name).values() for e in edges if not e.delay)
        out[name] = max((_ready(graph, out, s) for s in sources), default=1)
    return out


def _folded(graph: Graph, name: str) -> bool:
    return name != INPUT and graph.ops[name].kind in WIRING and bool(graph.consumers(name))


def _ready(graph: Graph, phase: dict[str, int], source: str) -> int:
    """First chip step in which a source's first output can be used."""
    return 1 if source == INPUT else phase[source] + (not _folded(graph, source))


def _inputs(graph: Graph, name: str) -> tuple[list[str], list[Edge]]:
    """(the wiring that an op reads, what comes into it and into the op from outside)."""
    wiring: set[str] = set()
    outside: list[Edge] = []
    todo = [name]
    while todo:
        for edges in graph.sources(todo.pop()).values():
            for e in edges:
                if not _folded(graph, e.source):
                    outside.append(e)
                elif e.delay:
                    raise DeployError(e.source, f"is wiring that {e.target} reads a timestep later", "feed back what has neurons")
                elif e.source not in wiring:
                    wiring.add(e.source)
                    todo.append(e.source)
    return [n for n in graph.ops if n in wiring], outside


def _unit(graph: Graph, name: str, phase: dict[str, int], interval: int) -> Unit:
    wiring, outside = _inputs(graph, name)
    pairs = dict.fromkeys((e.source, bool(e.delay)) for e in outside)
    lines = tuple(Line(s, phase[name] + back * interval - _ready(graph, phase, s), back) for s, back in pairs)
    return Unit(name, (*wiring, name), phase[name], lines)


def decisions(graph: Graph, phase: dict[str, int]) -> list[Decision]:
    """What acts a timestep later, the latest first."""
    found = set()
    for name in graph.ops:
        if not _folded(graph, name):
            for e in _inputs(graph, name)[1]:
                if e.delay:
                    found.add(Decision(e.source, name, phase[name] - phase[e.source]))
    return sorted(found, key=lambda d: (d.slack, d.gate, d.reader))


def _interval(late: list[Decision]) -> int:
    return max([1, *(1 - d.slack for d in late)])


def _refuse_unsafe(graph: Graph, phase: dict[str, int], depth: int) -> None:
    late = decisions(graph, phase)
    interval = _interval(late)
    if interval > 1 and 2 * interval > depth:
        worst = late[0]
        raise DeployError(
            "--schedule pipelined",
            f"{worst.gate} decides in chip step {phase[worst.gate]} of a timestep what {worst.reader} applies in chip step "
            f"{phase[worst.reader]} of the next: slack {worst.slack}, so a timestep could start every {interval} chip steps, and one "
            f"takes {depth}",
            "use --schedule wait, or train with the rectangle order of halting",
        )
    for name in exits_by_margin(graph):
        raise DeployError(
            "--schedule pipelined",
            f"{name} decides in chip step {phase[name]} of a timestep whether {INPUT} sends the next: slack {1 - phase[name]}, "
            "so timesteps that it means to save have begun",
            "use --schedule wait, or export without exits",
        )


def exits_by_margin(graph: Graph) -> list[str]:
    """Exit gates that can end a sample early because a class leads; that no token lives is no such decision.

    What enters after the last token died carries nothing of it, and runs through.
    """
    found = []
    for name in graph.only("exit_gate"):
        op: Any = graph.ops[name]
        if op.policy != "fixed_window" and op.classes > 1 and (op.margin[: graph.timesteps - 1] < NEVER).any():
            found.append(name)
    return found
