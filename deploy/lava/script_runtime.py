"""Lava's own runtime, in a script that runs the drop-in `Network`: its memory has no names, and its processes die with the script.

Stock Lava keeps its channels in named segments of ``/dev/shm``, and its processes wait for ever for a script that was killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from spikegate.deploy.lava.lava_import import MessageInfrastructureFactory, SystemProcess
from spikegate.deploy.lava.lifeline import follow
from spikegate.deploy.lava.runtime import Infrastructure


class ScriptChild(SystemProcess):
    """A process of a script. It hears the signals that Lava's own would hear."""

    tied = True

    def run(self) -> None:
        if self.tied:
            follow(self._parent_pid)
        super().run()


class ScriptInfrastructure(Infrastructure):
    """What Lava makes processes and channels with, called as its runtime calls its own."""

    def build_actor(self, target_fn: Callable[..., Any], builder: Any, exception_q: Any = None) -> ScriptChild:  # type: ignore[override]
        """Start a process. One made in a thread is not tied to the script: to the kernel its parent is the thread, which may end first."""
        child = ScriptChild(target=target_fn, args=(), kwargs={"builder": builder, "exception_q": exception_q})
        child.tied = threading.current_thread() is threading.main_thread()
        child.start()
        self._actors.append(child)
        return child


def leave_nothing() -> None:
    """From now on every runtime of Lava in this program is made so."""
    MessageInfrastructureFactory.create = staticmethod(lambda factory_type: ScriptInfrastructure())
