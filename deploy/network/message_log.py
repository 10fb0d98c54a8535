"""Every message on every port, on request: who sent it to whom, for which sample and timestep, with how many events and bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.files import atomic

COLUMNS = ("message", "from", "port", "to", "sample", "timestep", "events", "bytes")


@dataclass(frozen=True)
class Sent:
    """A message: its number on its port, then for each of its (sample, timestep) rows int64 [4]: sample, timestep, events, bytes."""

    number: int
    sender: str
    port: str
    receivers: tuple[str, ...]
    header: int  # bytes of the header
    rows: np.ndarray


class Log:
    """The sending side: kept by a process until its next report."""

    def __init__(self) -> None:
        self.held: list[Sent] = []
        self.numbers: dict[str, int] = {}

    def add(self, sender: str, port: str, receivers: list[str], layout: Any, message: np.ndarray) -> None:
        """Note a message; one without samples, which ends a run or fills a chip step, is left out."""
        for rows in layout.described(message):
            number = self.numbers[port] = self.numbers.get(port, -1) + 1
            self.held.append(Sent(number, sender, port, tuple(receivers), layout.head, rows))

    def take(self) -> list[Sent]:
        """What was noted since the last call."""
        held, self.held = self.held, []
        return held

    def begin(self) -> None:
        """A run begins: messages are counted from 0."""
        self.numbers.clear()


@dataclass(frozen=True)
class PortTotal:
    """What a port sent in a run. `silent`: (sample, timestep) rows without any event; a gate's are those for which it was closed."""

    sender: str
    port: str
    receivers: tuple[str, ...]
    messages: int
    rows: int
    silent: int
    events: int
    bytes: int  # headers included


@dataclass
class Messages:
    """All messages of a run."""

    sent: list[Sent] = field(default_factory=list)

    def order(self, processes: list[str]) -> None:
        """Sort by sender, in the order of `processes`, then by port and number."""
        place = {name: k for k, name in enumerate(processes)}
        self.sent.sort(key=lambda m: (place[m.sender], m.port, m.number))

    def ports(self) -> list[PortTotal]:
        """Totals of each port."""
        found: dict[tuple[str, str, tuple[str, ...]], list[Sent]] = {}
        for message in self.sent:
            found.setdefault((message.sender, message.port, message.receivers), []).append(message)
        totals = []
        for key, messages in found.items():
            rows = np.concatenate([m.rows for m in messages])
            size = int(rows[:, 3].sum()) + sum(m.header for m in messages)
            totals.append(PortTotal(*key, len(messages), len(rows), int((rows[:, 2] == 0).sum()), int(rows[:, 2].sum()), size))
        return totals

    def lines(self) -> Iterator[tuple[Any, ...]]:
        """One for each message and (sample, timestep), in the order of `COLUMNS`; bytes are the row's payload, without the header."""
        for m in sorted(self.sent, key=lambda m: (m.number, m.rows[0, 1])):
            for row in m.rows.tolist():
                yield (m.number, m.sender, m.port, " ".join(m.receivers), *row)

    def save(self, path: Path) -> None:
        """Write the lines as CSV."""
        with atomic(path) as part, part.open("w", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(self.lines())
