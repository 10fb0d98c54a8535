"""How the mapping ``block`` lets blocks share a process: what lies between two gates is cut into no more processes than help."""

from __future__ import annotations

from spikegate.deploy.network.staging import work_of
from spikegate.graph.ir import Graph

Groups = dict[str, list[str]]


def joined(graph: Graph, groups: Groups, most: int) -> Groups:
    """Neighbouring blocks as one process, ``<first>+<second>`` or ``<first>..<last>``; gates and exit stay processes of their own.

    `groups` come after what they receive from, and so do the result's. Where fewer runs of blocks lie between gates than `most`, the one
    with the most work is cut at the border between blocks that makes the longer part shortest.
    """
    work = {name: sum(work_of(graph, n) for n in ops) for name, ops in groups.items()}
    runs: list[list[str]] = [[]]
    for name, ops in groups.items():
        if _decides(graph, ops):
            runs += [[name], []]
        else:
            runs[-1].append(name)
    runs = [run for run in runs if run]
    while sum(not _decides(graph, groups[run[0]]) for run in runs) < most and max(map(len, runs)) > 1:
        at = max((k for k, run in enumerate(runs) if len(run) > 1), key=lambda k: _total(work, runs[k]))
        run = runs[at]
        cut = min(range(1, len(run)), key=lambda k: max(_total(work, run[:k]), _total(work, run[k:])))
        runs[at : at + 1] = [run[:cut], run[cut:]]
    place = {n: i for i, n in enumerate(graph.ops)}
    return {_named(run): sorted((op for name in run for op in groups[name]), key=place.__getitem__) for run in runs}


def _decides(graph: Graph, ops: list[str]) -> bool:
    """Whether a group is a gate or the exit."""
    return all(graph.ops[n].gates_tokens or graph.ops[n].kind in ("exit_gate", "timestep_gate") for n in ops)


def _total(work: dict[str, float], run: list[str]) -> float:
    return sum(work[name] for name in run)


def _named(run: list[str]) -> str:
    return "+".join(run) if len(run) < 3 else f"{run[0]}..{run[-1]}"
