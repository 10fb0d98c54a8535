"""Hints of NIR refusals lead somewhere: each is read, done as it says, and the import gets further, without going round in a circle."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import pytest

from spikegate.formats.nir.importer import from_nir, import_graph
from spikegate.graph.ir import DeployError

WEIGHT = (np.arange(48).reshape(6, 8) % 7 - 2.0) * 4


@dataclass
class Try:
    """A graph and what its import is told."""

    nodes: dict[str, Any]
    edges: list[tuple[str, str]]
    told: dict[str, Any] = field(default_factory=lambda: {"timesteps": 4, "calibrate": 0.3})
    exact: bool = False

    def go(self) -> None:
        graph = nir.NIRGraph(self.nodes, self.edges, type_check=False)
        if self.exact:
            from_nir(graph, self.told.get("timesteps"))
        else:
            import_graph(graph, **self.told)


def chain(neuron: Any = None, weight: np.ndarray = WEIGHT, **told: Any) -> Try:
    """Input, Linear, neurons, Output."""
    nodes = {"input": nir.Input(np.array([8])), "w": nir.Linear(weight), "n": neuron or nir.IF(np.ones(6), np.full(6, 30.0)),
             "output": nir.Output(np.array([6]))}  # fmt: skip
    made = Try(nodes, [("input", "w"), ("w", "n"), ("n", "output")])
    made.told |= told
    return made


def lif(tau: float) -> Any:
    return nir.LIF(np.full(6, tau), np.full(6, tau), np.zeros(6), np.full(6, 30.0))


def without(made: Try, key: str) -> Try:
    made.told.pop(key)
    return made


def with_nodes(made: Try, nodes: dict[str, Any], edges: list[tuple[str, str]], dropped: tuple[tuple[str, str], ...] = ()) -> Try:
    made.nodes |= nodes
    made.edges = [e for e in made.edges if e not in dropped] + edges
    return made


def in_exact(made: Try) -> Try:
    made.exact = True
    return made


# What is wrong in a graph, or in what its import is told.
WRONG: dict[str, Callable[[], Try]] = {
    "no timesteps": lambda: without(chain(), "timesteps"),
    "no whole timesteps": lambda: chain(timesteps=2.5),
    "no timestep in seconds": lambda: chain(lif(1e-3)),
    "dt of 0": lambda: chain(lif(2.0), dt=0.0),
    "fractions where integers are asked for": lambda: in_exact(chain(weight=WEIGHT / 3)),
    "a time constant that is no decay": lambda: in_exact(chain(lif(3.3))),
    "an edge twice": lambda: with_nodes(chain(), {}, [("w", "n")]),
    "two outputs": lambda: with_nodes(chain(), {"more": nir.Output(np.array([6]))}, [("n", "more")]),
    "two inputs": lambda: with_nodes(chain(), {"more": nir.Input(np.array([8]))}, [("more", "w")]),
    "a node that leads nowhere": lambda: with_nodes(chain(), {"more": nir.Linear(np.ones((2, 6)))}, [("n", "more")]),
    "samples of another shape": lambda: chain(calibrate=np.zeros((3, 9, 8), int)),
    "samples of fractions": lambda: chain(calibrate=np.full((3, 4, 8), 0.5)),
    "a rate above 1": lambda: chain(calibrate=7.0),
    "an unknown reset": lambda: chain(reset="half"),
    "levels without a soft reset": lambda: chain(levels=3),
    "levels beyond an event": lambda: chain(reset="subtract", levels=500),
    "a soft reset beside a voltage": lambda: chain(nir.IF(np.ones(6), np.full(6, 30.0), np.full(6, 2.0)), reset="subtract"),
    "a threshold that subtracts nothing": lambda: chain(nir.IF(np.ones(6), np.zeros(6)), reset="subtract"),
    "late, without a memory": lambda: chain(lif(1.0), reset="subtract-late"),
    "an integrator in the middle": lambda: with_nodes(
        chain(), {"i": nir.I(np.ones(6))}, [("w", "i"), ("i", "n")], (("w", "n"),)
    ),
    "a range upside down": lambda: with_nodes(chain(), {"input": nir.Input(np.array([8]), metadata={"low": 3, "high": 1})}, []),
    "broken numbers of a range": lambda: with_nodes(chain(), {"input": nir.Input(np.array([8]), metadata={"low": 0.5, "high": 1})}, []),
}  # fmt: skip


def told(**more: Any) -> Callable[[Try, re.Match[str]], None]:
    return lambda t, m: t.told.update(more)


def drop(kind: str) -> Callable[[Try, re.Match[str]], None]:
    """Leaves one node of a kind."""

    def done(t: Try, m: re.Match[str]) -> None:
        name = [n for n, node in t.nodes.items() if type(node).__name__ == kind][-1]
        t.nodes.pop(name)
        t.edges = [e for e in t.edges if name not in e]

    return done


def samples(t: Try, m: re.Match[str]) -> None:
    shape = tuple(int(v) for v in m[1].split(","))
    t.told["calibrate"] = np.ones((3, *shape), int)


def whole(t: Try, m: re.Match[str]) -> None:
    t.told["calibrate"] = np.full(t.told["calibrate"].shape, int(m[2]))


def integrator_last(t: Try, m: re.Match[str]) -> None:
    t.edges = [("input", "w"), ("w", "i"), ("i", "output")]
    t.nodes.pop("n")


def doubled(t: Try, m: re.Match[str]) -> None:
    t.edges = list(dict.fromkeys(t.edges))
    t.nodes["w"] = nir.Linear(2 * t.nodes["w"].weight)


def useless_out(t: Try, m: re.Match[str]) -> None:
    t.nodes.pop("more")
    t.edges = [e for e in t.edges if "more" not in e]


def in_range(t: Try, m: re.Match[str]) -> None:
    t.nodes["input"] = nir.Input(np.array([8]), metadata={"low": 0, "high": 1})


def rounding(t: Try, m: re.Match[str]) -> None:
    t.exact = False


DO: tuple[tuple[str, Callable[[Try, re.Match[str]], None]], ...] = (  # what a hint says -> the same, done
    (r"import_nir", rounding),
    (r"--dt|timestep in seconds", told(dt=1e-4)),
    (r"^give timesteps|give a whole number from 1", told(timesteps=4)),
    (r"leave one Input", drop("Input")),
    (r"leave one Output", drop("Output")),
    (r"double the weights", doubled),
    (r"give \[samples, ([\d, ]+)\]", samples),
    (r"give integers (-?\d+) to (-?\d+)", whole),
    (r"give 0 to 1", told(calibrate=0.5)),
    (r"tell reset '(\w+)'", lambda t, m: t.told.update(reset=m[1], levels=1)),
    (r"use reset '(\w+)'", lambda t, m: t.told.update(reset=m[1])),
    (r"^use (\w+),", lambda t, m: t.told.update(reset=m[1])),
    (r"give 1 to (\d+)", lambda t, m: t.told.update(levels=int(m[1]))),
    (r"before the Output alone", integrator_last),
    (r"take it out|remove it|connect", useless_out),
    (r"range of the host|whole numbers", in_range),
)


@pytest.mark.parametrize("name", WRONG)
def test_doing_what_the_hint_says_gets_further(name):
    made, seen = deepcopy(WRONG[name]()), []
    for _ in range(4):
        try:
            made.go()
        except DeployError as e:
            assert e.hint and (e.where, e.problem) not in seen, f"in a circle: {e}"
            seen.append((e.where, e.problem))
            do = next(((act, m) for pattern, act in DO if (m := re.search(pattern, e.hint))), None)
            assert do is not None, f"nobody can do what the hint says: {e.hint!r} ({e.problem})"
            do[0](made, do[1])
        else:
            assert seen, "was not refused"
            return
    raise AssertionError(f"four hints and no end: {seen}")


def test_a_hint_of_integers_is_kept_by_the_command_line():
    """What hints call options are options of `spikegate import nir`."""
    from spikegate.convert.from_nir import Args

    assert {"dt", "calibrate", "timesteps", "reset", "levels"} <= set(Args.__dataclass_fields__)
