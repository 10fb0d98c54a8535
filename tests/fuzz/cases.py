"""What a case of a campaign is, and the second simulator that is asked about nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikegate.engine import integer
from spikegate.graph.ir import Graph
from tests.test_witness import equal
from tests.witness import files, simulator

CORPUS = Path(__file__).parent / "corpus"
ASKED = 0.3  # share of cases in which the witness is asked
WORK = 2_000_000  # neurons x timesteps that a case is run with, and that the slow witness is asked about at most, in hundredths


class Differs(Exception):
    """Two programs read one file in two ways."""


@dataclass
class Case:
    """What was changed, what a user does with it, and whether it must be refused."""

    what: str
    main: Callable[[], object]
    must_refuse: bool = False


class Alone(Exception):
    """The second simulator, which knows the documents alone, does not take what our reader takes (a pair written as one number, say)."""


def witnessed(graph: Graph, x: np.ndarray, file: Path, ask: bool) -> None:
    """Run a net; where `ask` says so and the net is small, the second simulator must see the same. It reads the file by itself."""
    size = graph.timesteps * sum(int(np.prod(op.out_shape)) for op in graph.ops.values())
    if size > WORK:
        return
    ask = ask and size <= WORK // 100
    record = integer.run(graph, x[:1], spikes=ask)
    if not ask:
        return
    try:
        samples = simulator.run(files.read(file), x[:1])
    except (LookupError, ValueError, TypeError, AssertionError, ArithmeticError) as e:
        raise Alone(repr(e)) from e
    try:
        equal(record, samples, list(graph.ops))
    except AssertionError as e:
        raise Differs(str(e)[:300]) from e
