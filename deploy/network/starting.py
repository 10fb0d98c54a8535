"""Starts the Lava processes of a network, and ends them."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from spikegate.deploy.network import teardown
from spikegate.deploy.network.patience import STOPPED, Patience, sight
from spikegate.deploy.network.watchdog import SERVICE, Pulses
from spikegate.deploy.network.watching import MEMORY_HINT, OWN_SIGNAL_S, Actors, by_ending_signal, dead
from spikegate.errors import DeployError

PROTOCOLS = ("async", "loihi")
CLOSE_S = 5.0  # for an orderly end; then processes are killed
START_S = 60.0  # for all processes to be there, while nobody works on it
LIMITS = {
    errno.EMFILE: ("needs more open files than this process may have", "raise the limit (ulimit -n), or use --mapping chip"),
    errno.ENFILE: ("needs more open files than the machine has", "end other programs, or use --mapping chip"),
    errno.EAGAIN: ("needs more processes than this user may have", "raise the limit (ulimit -u), or use --mapping chip"),
    errno.ENOMEM: ("needs more memory than the system gives", "use a smaller --batch or --mapping chip"),
    errno.ENOSPC: ("needs more shared memory than the system has", "use a smaller --batch or --mapping chip"),
}


@contextlib.contextmanager
def named_limits() -> Iterator[None]:
    """What the system refuses while a network starts becomes a DeployError that names it."""
    try:
        yield
    except OSError as e:
        known = LIMITS.get(e.errno or 0)
        what, hint = known or (f"cannot be started ({e.strerror or e})", "see the system's log (dmesg)")
        raise DeployError("network", what, hint) from e


class Running:
    """The processes of a network, from their start until `stop` or `kill`; also ended when this object goes, and at exit.

    Parameters
    ----------
    processes : Lava's process objects by name, connected
    first : name of the one that Lava compiles from
    size : messages that a channel holds

    Raises
    ------
    DeployError
        Naming the process that died, failed or did not start, or the system's limit that was met.
    """

    def __init__(self, processes: dict[str, Any], first: str, protocol: str, size: int, pulses: Pulses) -> None:
        from spikegate.deploy.lava import lava_import as lava
        from spikegate.deploy.lava import lifeline
        from spikegate.deploy.lava.channel import DirectBuilder
        from spikegate.deploy.lava.runtime import WatchedRuntime

        wanted = lava.AsyncProtocol if protocol == "async" else lava.LoihiProtocol

        class Choice(lava.RunConfig):
            def select(self, process, models):
                return next(m for m in models if m.implements_protocol is wanted)

        executable = processes[first].compile(Choice(), {"pypy_channel_size": size})
        executable.channel_builders = [DirectBuilder.instead_of(b) for b in executable.channel_builders]
        self.runtime = WatchedRuntime(executable)
        self._end = weakref.finalize(self, teardown.kill, self.runtime, os.getpid())
        executable.assign_runtime_to_all_processes(self.runtime)
        try:
            with named_limits():
                lifeline.lasting(lambda: self.runtime.begin(SERVICE))
                self.actors: Actors = dict(zip(self.runtime.starting.values(), self.runtime._messaging_infrastructure.actors))
                self._ready()
                pulses.service(self.actors[SERVICE].pid)
                self.runtime.start(lava.RunSteps(1, blocking=False) if protocol == "async" else lava.RunContinuous())
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> None:
        patience = Patience(START_S)

        def look(missing: list[str]) -> None:
            found = dead(self.actors, "while the network started")
            if found is not None:
                if by_ending_signal(self.actors):
                    time.sleep(OWN_SIGNAL_S)
                raise found
            verdict = patience.look(time.monotonic(), {n: sight(a.pid) for n, a in self.actors.items()}, len(missing))
            if verdict is not None:
                stopped = verdict[0] == STOPPED
                name, what = (verdict[1], "was stopped by a signal") if stopped else (missing[0], f"is not ready after {START_S:g} s")
                raise DeployError(f"process {name}", f"{what} while the network started", MEMORY_HINT)

        def failed(name: str, trace: str) -> DeployError:
            problem = trace.strip().splitlines()[-1]
            return DeployError(f"process {name}", f"failed while the network started: {problem}", f"the place in the code:\n{trace}")

        self.runtime.ready(failed, look)

    def stop(self, jobs: Any) -> None:
        """End in order: tell the injector, wait for all a limited time; what is left then is killed."""

        def orderly() -> None:
            with contextlib.suppress(Exception):  # whatever is left over is killed
                jobs.send(None)
                self.runtime.wait()
                self.runtime.stop()

        ending = threading.Thread(target=orderly, daemon=True)
        ending.start()
        try:
            ending.join(CLOSE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill what is left; may be called again."""
        self._end()
