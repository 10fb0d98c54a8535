"""Lava channels for messages of any length up to a port's shape, without a thread at either end.

Lava's own channel copies a port's whole shape for every message, and a thread of its own at each end takes part in each of them. Here a
process waits for the semaphores itself and only the bytes sent are copied, which makes a message several times cheaper. Processes,
ports, compiler and runtime stay Lava's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.deploy.lava.lava_import import Channel, ChannelBuilderMp, CspRecvPort, CspSendPort, Proto

LENGTH = 8  # bytes in front of a message that hold its length


def _places(port: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and bytes of the messages that a channel has room for: uint64 [size], uint8 [size, nbytes]."""
    each = LENGTH + -(-port._nbytes // LENGTH) * LENGTH
    whole = np.ndarray((port._size, each), np.uint8, port._shm.buf[: port._size * each])
    return whole[:, :LENGTH].view(np.uint64)[:, 0], whole[:, LENGTH:]


class SendPort(CspSendPort):
    """The end that sends."""

    _idx: int

    def start(self) -> None:
        self._lengths, self._places = _places(self)
        self._free = self._size  # places known to be free

    def probe(self) -> bool:
        """Whether `send` would not wait."""
        if self._free == 0 and self._ack.acquire(False):
            self._free = 1
        return self._free > 0

    def send(self, data: np.ndarray) -> None:
        """Send a vector, uint8 [at most the port's length]; waits while the channel is full."""
        if data.ndim != 1 or len(data) > self._nbytes:
            raise ValueError(f"a message of shape {data.shape} does not fit the port's {self._nbytes} bytes")
        if self._free:
            self._free -= 1
        else:
            self._ack.acquire()
        self._places[self._idx, : len(data)] = data
        self._lengths[self._idx] = len(data)
        self._idx = (self._idx + 1) % self._size
        self._req.release()


class RecvPort(CspRecvPort):
    """The end that receives."""

    _idx: int

    def start(self) -> None:
        self._lengths, self._places = _places(self)

    def probe(self) -> bool:
        """Whether `recv` would not wait."""
        ready = self._req.acquire(False)
        if ready:
            self._req.release()
        return ready

    def peek(self) -> np.ndarray:
        """The next message, which stays in the channel; waits for it."""
        self._req.acquire()
        self._req.release()
        return self._places[self._idx, : int(self._lengths[self._idx])].copy()

    def recv(self) -> np.ndarray:
        """The next message, uint8 [its length]; waits for it."""
        self._req.acquire()
        message = self._places[self._idx, : int(self._lengths[self._idx])].copy()
        self._idx = (self._idx + 1) % self._size
        self._ack.release()
        return message


class DirectChannel(Channel):
    """Both ends; parameters as of Lava's ``PyPyChannel``."""

    def __init__(self, infrastructure: Any, src_name: str, dst_name: str, shape: tuple[int, ...], size: int, watchdogs: Any) -> None:
        nbytes = int(np.prod(shape))
        made = infrastructure.smm
        memory = made.create_shared_memory(size * (LENGTH + -(-nbytes // LENGTH) * LENGTH))
        shared = memory, Proto(shape=shape, dtype=np.uint8, nbytes=nbytes), size, made.semaphore(), made.semaphore()
        self._ends = SendPort(src_name, *shared, *watchdogs[:2]), RecvPort(dst_name, *shared, *watchdogs[2:])

    @property
    def src_port(self) -> Any:
        return self._ends[0]

    @property
    def dst_port(self) -> Any:
        return self._ends[1]


class DirectBuilder(ChannelBuilderMp):
    """Builds a `DirectChannel` where Lava's compiler has planned a channel between two Python processes."""

    @classmethod
    def instead_of(cls, builder: ChannelBuilderMp) -> DirectBuilder:
        """The builder for the same two ports."""
        ends = builder.src_process, builder.dst_process
        return cls(builder.channel_type, *ends, builder.src_port_initializer, builder.dst_port_initializer)

    def build(self, messaging_infrastructure: Any, watchdog_manager: Any) -> DirectChannel:
        source, target = self.src_port_initializer, self.dst_port_initializer
        watchdogs = self.create_watchdogs(watchdog_manager, (watchdog_manager.sq,) * 4, (source, target))
        return DirectChannel(messaging_infrastructure, source.name, target.name, source.shape, source.size, watchdogs)
