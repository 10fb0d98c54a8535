"""Which ops share a Lava process, and which signals the processes send to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spikegate.deploy.network.joining import joined
from spikegate.deploy.network.messages import Layout
from spikegate.deploy.network.staging import stages
from spikegate.graph.ir import INPUT, DeployError, Graph, Payload, delayed

MAPPINGS = ("op", "block", "chip")
INJECTOR = "injector"
MASKS = "timestep_gates"
DONE = "done"
PORTS = 8  # output ports of a process, at most: one for each set of signals that some process reads


@dataclass
class Port:
    """An output port: what its messages hold, and the processes that receive them."""

    layout: Any  # Layout, or chip_mapping.Frames
    receivers: list[str]


@dataclass
class Plan:
    """One process: its ops, the processes that it receives from, its ports; whether it decides when samples end, whether it reports."""

    name: str
    ops: list[str]
    senders: list[str]
    ports: list[Port] = field(default_factory=list)  # without the one that brings the exit process's decision to the injector
    span: int = 1  # most timesteps of a slot in a message
    exits: bool = False
    reports: bool = True

    @property
    def layout(self) -> Any:
        """Of the first port's messages."""
        return self.ports[0].layout

    def port_to(self, receiver: str) -> int:
        """Number of the port that a process receives from."""
        return next(k for k, port in enumerate(self.ports) if receiver in port.receivers)


def partition(graph: Graph, mapping: str, most: int = 1, rows: int = 0) -> dict[str, list[str]]:
    """Ops of each process, in graph order.

    ``op``: one process per op. ``block``: every gate of tokens is a process of its own, and so is the exit; all timestep gates, which read
    nothing but the timestep, share one; the blocks between two gates share a process, in up to `most` processes (`joining`). A block is
    the ops with the same name before the first dot; so are the ops before the first one. A block whose later ops need what another
    process makes of its earlier ones (a gate in its midst) goes on as a block of its own, ``<block>.2`` and so on. ``chip``: the whole
    net, gates inside, in one process, or in up to `most` with equal shares of the work (`staging`).

    Raises
    ------
    DeployError
        For an unknown mapping.
    """
    if mapping not in MAPPINGS:
        raise DeployError("mapping", f"{mapping!r} is unknown", f"use one of {', '.join(MAPPINGS)}")
    if mapping == "chip":
        parts = stages(graph, most, rows)
        return order(graph, {f"chip{k}" if len(parts) > 1 else "chip": names for k, names in enumerate(parts, 1)})
    wanted: dict[str, str] = {}
    in_blocks = False
    for name, op in graph.ops.items():
        if mapping == "op":
            group = name
        elif op.kind == "readout":
            group = "readout"
        elif op.kind == "timestep_gate":
            group = MASKS
        elif op.gates_tokens or op.kind == "exit_gate":
            group = name
        elif "." in name:
            group, in_blocks = name.split(".")[0], True
        else:
            group = name if in_blocks else "embedding"
        while group in (INJECTOR, INPUT):
            group += "_"
        wanted[name] = group
    groups = order(graph, _split(graph, wanted))
    return groups if mapping == "op" else joined(graph, groups, most)


def _split(graph: Graph, wanted: dict[str, str]) -> dict[str, list[str]]:
    """Ops by process: each op in the last process of its group, or in a new one where that would close a cycle."""
    groups: dict[str, list[str]] = {}
    home: dict[str, str] = {}
    parts: dict[str, int] = {}
    upstream: dict[str, set[str]] = {}

    def waits_for(process: str, other: str, seen: set[str]) -> bool:
        seen.add(process)
        return process == other or any(p not in seen and waits_for(p, other, seen) for p in upstream[process])

    for name, group in wanted.items():
        sources = {home[e.source] for e in graph.edges if e.target == name and not e.delay and e.source != INPUT}
        process = group if parts.get(group, 1) == 1 else f"{group}.{parts[group]}"
        if process in groups and any(waits_for(s, process, set()) for s in sources - {process}):
            parts[group] = parts.get(group, 1) + 1
            process = f"{group}.{parts[group]}"
        home[name] = process
        groups.setdefault(process, []).append(name)
        upstream.setdefault(process, set()).update(sources - {process})
    return groups


def exit_process(graph: Graph, groups: dict[str, list[str]]) -> str:
    """The process that decides when a sample is done: the exit gate's, or the last op's where there is no exit gate."""
    gates = graph.only("exit_gate")
    last = gates[0] if gates else list(graph.ops)[-1]
    return next(p for p, names in groups.items() if last in names)


def needed_signals(graph: Graph, groups: dict[str, list[str]]) -> dict[str, dict[str, set[str]]]:
    """process -> sender -> signals that it needs from that sender. The feedback to the injector is not among them."""
    home = {n: p for p, names in groups.items() for n in names}
    needs: dict[str, dict[str, set[str]]] = {p: {} for p in groups}
    for edge in graph.edges:
        target = home[edge.target]
        if edge.delay:
            needs[target].setdefault(INJECTOR, set()).add(delayed(edge.source))
        elif edge.source == INPUT:
            needs[target].setdefault(INJECTOR, set()).add(INPUT)
        elif home[edge.source] != target:
            needs[target].setdefault(home[edge.source], set()).add(edge.source)
    last = exit_process(graph, groups)
    for source in graph.delayed_sources():
        if home[source] != last:
            needs[last].setdefault(home[source], set()).add(source)
    for p in groups:
        if not needs[p]:
            needs[p][INJECTOR] = set()
    return needs


def order(graph: Graph, groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """The groups so that each comes after those it receives from; a DeployError names the processes of a cycle."""
    needs = needed_signals(graph, groups)
    left, placed = dict(groups), {INJECTOR}
    ordered: dict[str, list[str]] = {}
    while left:
        ready = [p for p in left if needs[p].keys() <= placed]
        if not ready:
            raise DeployError(
                f"process {next(iter(left))}", f"{', '.join(left)} wait for each other within one timestep",
                "use mapping op or chip, or name the ops of each block so that a block does not read what comes after it",
            )
        for p in ready:
            ordered[p] = left.pop(p)
            placed.add(p)
    return ordered


def plan(graph: Graph, mapping: str, slots: int, span: int = 1, most: int = 1, thrifty: bool = True) -> dict[str, Plan]:
    """All processes, the injector first; each after those it receives from (except the injector, which receives from the exit process).

    `thrifty`: a further process of mapping "chip" must also save more than its messages cost.
    """
    groups = partition(graph, mapping, most, slots * span if thrifty else 0)
    needs, last = needed_signals(graph, groups), exit_process(graph, groups)
    plans = {INJECTOR: Plan(INJECTOR, [], [last], span=span)}
    for p, names in groups.items():
        plans[p] = Plan(p, names, sorted(needs[p]), span=span, exits=p == last)
    for sender, its in plans.items():
        wanted = {p: frozenset(needs[p][sender]) for p in needs if sender in needs[p]}
        sets = sorted(set(wanted.values()), key=sorted)
        if len(sets) > PORTS:  # then all receive everything
            sets = [frozenset().union(*sets)]
            wanted = dict.fromkeys(wanted, sets[0])
        for signals in sets:
            described = {s: _described(graph, s) for s in sorted(signals)}
            its.ports.append(Port(Layout(sender, slots, described, span), [p for p in wanted if wanted[p] == signals]))
    return plans


def _described(graph: Graph, signal: str) -> tuple[tuple[int, ...], Payload]:
    source = signal.removeprefix(delayed(""))
    return graph.shape_of(source), graph.payload_of(source)


def feedback_layout(graph: Graph, sender: str, slots: int, span: int = 1) -> Layout:
    """Messages from the exit process to the injector: which samples are done, and the feedback for the next timestep."""
    signals: dict[str, tuple[tuple[int, ...], Payload]] = {DONE: ((), Payload(0, 1))}
    for source in graph.delayed_sources():
        signals[source] = (graph.shape_of(source), graph.payload_of(source))
    return Layout(sender, slots, signals, span)
