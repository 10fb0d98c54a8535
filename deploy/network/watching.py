"""A thread beside a run: it ends the run when a process of it dies, stops or hangs."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from spikegate.deploy.network.patience import Patience, sight
from spikegate.deploy.network.watchdog import Pulses, how_it_died
from spikegate.errors import DeployError

TICK_S = 0.25  # between two looks
GRACE_S = 1.0  # for the parent to read what processes reported before; it may be in the midst of a message that never ends
OWN_SIGNAL_S = 0.5  # a signal to all processes reaches the parent a moment later
MEMORY_HINT = "if you did not end it: the machine may be out of memory (dmesg); try a smaller --batch or --mapping chip"
Actors = dict[str, Any]  # name -> process object


class Watch(threading.Thread):
    """Watches until `over`; what it finds is in `found`.

    Parameters
    ----------
    pulses, actors : of all processes
    hanging : makes the error for a `Patience` verdict
    waiting : whether the parent waits for the processes (and not they for it)
    """

    def __init__(self, pulses: Pulses, actors: Actors, patience_s: float, hanging: Callable[[str, str], DeployError],
                 waiting: Callable[[], bool]) -> None:
        super().__init__(name="spikegate-watch", daemon=True)
        self.pulses, self.actors, self.hanging, self.waiting = pulses, actors, hanging, waiting
        self.patience = Patience(patience_s)
        self.found: DeployError | None = None
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        try:
            while self.found is None:
                if self._over.wait(TICK_S):
                    return
                found = dead(self.actors) or self._look()
                if found is None or self._over.wait(OWN_SIGNAL_S if by_ending_signal(self.actors) else 0):
                    continue
                self.found = found
        except Exception as e:  # the process objects are closed, or what nobody foresaw: the run must not wait for ever
            self.found = DeployError("network", f"cannot be watched any more ({type(e).__name__}: {e})", "make a new one")
        if not self._over.wait(GRACE_S):
            for actor in self.actors.values():  # which closes the pipe that the parent reads
                with contextlib.suppress(ValueError, OSError):
                    actor.kill()

    def _look(self) -> DeployError | None:
        sights = {name: sight(actor.pid) for name, actor in self.actors.items()}
        marks = self.pulses.table.tobytes()
        verdict = self.patience.look(time.monotonic(), sights, marks, self.waiting(), frozenset(self.pulses.names))
        return None if verdict is None else self.hanging(*verdict)


def dead(actors: Actors, when: str = "during the run") -> DeployError | None:
    """A process that has ended."""
    for name, actor in actors.items():
        if not actor.is_alive():
            mp.Process.join(actor, 1)
            return DeployError(f"process {name}", f"{how_it_died(actor.exitcode)} {when}", MEMORY_HINT)
    return None


def by_ending_signal(actors: Actors) -> bool:
    """Whether a process was ended by a signal that may have been meant for all."""
    return any(actor.exitcode in (-signal.SIGTERM, -signal.SIGHUP) for actor in actors.values())
