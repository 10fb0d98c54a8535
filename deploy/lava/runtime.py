"""Lava's runtime with children that die with their parent, shared memory without names, and a start that can be watched.

Compiler, process models, runtime service and their protocol stay Lava's.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from spikegate.deploy.lava.lava_import import (
    ActorType,
    CspRecvPort,
    CspSendPort,
    MultiProcessing,
    Proto,
    PyPyChannel,
    Runtime,
    SystemProcess,
)
from spikegate.deploy.lava.lifeline import ENDING, follow, hear_signals
from spikegate.deploy.lava.shared_memory import Shared

LOOK_S = 0.1  # between two looks at processes that start


class Child(SystemProcess):
    """A process of the network. It is killed when its parent ends."""

    def run(self) -> None:
        follow(self._parent_pid)
        hear_signals()
        gc.freeze()  # or collecting would write to, and so copy, all memory that it shares with the parent
        super().run()


class CommandChannel(PyPyChannel):
    """Lava's own channel, between runtime, service and processes, in shared memory without a name."""

    def __init__(self, infrastructure: Any, src_name: str, dst_name: str, shape: tuple[int, ...], dtype: Any, size: int,
                 *watchdogs: Any) -> None:
        nbytes = int(self.nbytes(shape, dtype))
        shared: Shared = infrastructure.smm
        ends = shared.create_shared_memory(nbytes * size), Proto(shape=shape, dtype=dtype, nbytes=nbytes), size
        both = *ends, shared.semaphore(), shared.semaphore()
        self._src_port = CspSendPort(src_name, *both, *watchdogs[:2])
        self._dst_port = CspRecvPort(dst_name, *both, *watchdogs[2:])


class Infrastructure(MultiProcessing):
    """What Lava makes processes and channels with."""

    def start(self) -> None:
        self._smm = Shared()

    def build_actor(self, target_fn: Callable[..., Any], builder: Any, exception_q: Any = None) -> Child:
        """Start a process; signals that end a program reach it once it can act on them."""
        child = Child(target=target_fn, args=(builder, exception_q))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            child.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._actors.append(child)
        return child

    def channel_class(self, channel_type: Any) -> type[CommandChannel]:
        return CommandChannel


def _begin(builder: Any, answer: Connection) -> None:
    """In the child: build the process model, say so, and run it."""
    try:
        model = builder.build()
    except Exception:
        answer.send(traceback.format_exc())
        os._exit(1)
    answer.send(None)
    answer.close()
    model.start()


class WatchedRuntime(Runtime):
    """Runtime of an executable whose processes start under the eyes of a function."""

    def __init__(self, executable: Any) -> None:
        super().__init__(executable, ActorType.MultiProcessing)
        self.starting: dict[Connection, str] = {}  # where each process says that it is ready -> its name

    def begin(self, service: str) -> None:
        """Make channels and processes, which then start; `service` names Lava's own process."""
        self._build_watchdog_manager()
        self._messaging_infrastructure = Infrastructure()
        self._messaging_infrastructure.start()
        self._build_channels()
        self._build_sync_channels()
        for process, builder in self._executable.proc_builders.items():
            process._runtime = self
            self._born(process.name, builder)
        for builder in self._executable.runtime_service_builders.values():
            self._born(service, builder)
        self._start_ports()

    def _born(self, name: str, builder: Any) -> None:
        here, there = Pipe(duplex=False)
        self._messaging_infrastructure.build_actor(_begin, builder, there)
        there.close()
        self.starting[here] = name

    def ready(self, failed: Callable[[str, str], Exception], look: Callable[[list[str]], None]) -> None:
        """Wait for all processes to be ready.

        Parameters
        ----------
        failed : makes the error to raise from a process's name and its traceback
        look : is called again and again with the names of those that are not ready, and raises if that is for ever
        """
        while self.starting:
            answered = wait([*self.starting], LOOK_S)
            for pipe in answered:
                assert isinstance(pipe, Connection)
                try:
                    trace = pipe.recv()
                except (EOFError, OSError):  # it died, as `look` finds
                    continue
                name = self.starting.pop(pipe)
                pipe.close()
                if trace is not None:
                    raise failed(name, trace)
            if self.starting:
                look([*self.starting.values()])
        self._is_initialized = True
