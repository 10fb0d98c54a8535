"""How long a network may go on without progress, on a machine of any load.

A wall clock alone takes a busy machine for a hang. So time counts as lost only where it shows that nobody works: all processes asleep,
none using its processor. A process that does use it is given so many seconds of processor time instead.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from os import sysconf

STOPPED_S = 3.0  # of being stopped by a signal
MOST_S = 1.0  # what a look counts, at most: the one who looks may have been kept waiting, or stopped together with the others
IDLE_SHARE = 0.1  # a process that uses less of a processor does not work
ASLEEP = "SItTZX"  # states of the kernel in which a process does not wait for a processor or a disk
TICKS = sysconf("SC_CLK_TCK")

STOPPED, STUCK, BUSY = "stopped", "stuck", "busy"


@dataclass(frozen=True)
class Sight:
    """A process at a moment: the kernel's letter for its state, processor time used so far in s."""

    state: str
    used_s: float


def sight(pid: int) -> Sight:
    """What the kernel says about a process; of one that is gone, or where there is no /proc, that it sleeps."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return Sight(fields[0], (int(fields[11]) + int(fields[12])) / TICKS)
    return Sight("S", 0.0)


class Patience:
    """Looks at processes again and again, and says when one will not go on.

    Parameters
    ----------
    patience_s : of sleep of all, or of processor time of one, without any progress
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._stopped: dict[str, float] = {}
        self._asleep_s = 0.0
        self._since: dict[str, float] = {}  # processor time of each at the last progress
        self._last: tuple[float, dict[str, Sight]] | None = None
        self._marks: object = None

    def look(self, now: float, sights: dict[str, Sight], marks: object, waiting: bool = True,
             workers: frozenset[str] | None = None) -> tuple[str, str] | None:
        """None, or what is wrong and the process: (`STOPPED`, its name), (`STUCK`, "") where all sleep, (`BUSY`, its name).

        Parameters
        ----------
        now : s on a monotonic clock
        sights : every process, by name
        marks : changes whenever a process makes progress
        waiting : whether the parent waits for the processes; time is not counted where they wait for it
        workers : those whose processor time counts, None for all
        """
        passed, before = (0.0, sights) if self._last is None else (min(now - self._last[0], MOST_S), self._last[1])
        self._last = now, sights
        fresh = marks != self._marks
        if fresh:
            self._marks, self._asleep_s = marks, 0.0
            self._since = {name: seen.used_s for name, seen in sights.items()}
        for name, seen in sights.items():
            self._stopped[name] = self._stopped.get(name, 0.0) + passed if seen.state == "T" else 0.0
            if self._stopped[name] >= min(STOPPED_S, self.patience_s):
                return STOPPED, name
        if not waiting:
            return None
        if not fresh and not any(self._works(seen, before.get(name, seen), passed) for name, seen in sights.items()):
            self._asleep_s += passed
        if self._asleep_s >= self.patience_s:
            return STUCK, ""
        spent = {n: s.used_s - self._since.get(n, s.used_s) for n, s in sights.items() if workers is None or n in workers}
        busiest = max(spent, key=spent.__getitem__, default="")
        return (BUSY, busiest) if spent and spent[busiest] >= self.patience_s else None

    @staticmethod
    def _works(seen: Sight, before: Sight, passed: float) -> bool:
        """Whether a process uses a processor, or waits for one or for a disk."""
        return seen.state not in ASLEEP or seen.used_s - before.used_s > IDLE_SHARE * passed
