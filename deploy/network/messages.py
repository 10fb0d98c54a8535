"""Messages between processes: one byte vector per chunk, a header and the sender's outputs for all slots.

The header (flags and sample group; for each row the sample's number, -1 where it is empty, and its timestep) serves as reset
(timestep 1) and as halting signal: it says which sample a slot holds now. A receiver checks that all its messages carry the same one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.engine.integer import Chunk, Signals
from spikegate.graph.ir import DeployError, Payload
from spikegate.kernels.scatter import ends

FIRST, SPIKES, FLUSH, END = 1, 2, 4, 8  # flags: a run begins, spikes are recorded, the run is over, the network stops
STEPWISE = 16  # flag: the samples of the run come timestep by timestep
GROUP = 8  # the group of samples that the message belongs to, in the bits of the flags from here on
EMPTY = -1


def dtype_of(payload: Payload) -> np.dtype:
    """One byte for each value where all of them fit, else two, else four."""
    fits = (d for d in (np.uint8, np.int16) if np.iinfo(d).min <= payload.low and payload.high <= np.iinfo(d).max)
    return np.dtype(next(fits, np.int32))


class Layout:
    """Where the header and each signal lie in the messages of one sender.

    Parameters
    ----------
    sender : process name, for errors
    slots : width of the batch; messages always have room for all
    signals : name -> (shape of one sample, what its values can be)
    span : most timesteps of a slot in one message; they have rows of their own
    """

    def __init__(self, sender: str, slots: int, signals: dict[str, tuple[tuple[int, ...], Payload]], span: int = 1) -> None:
        self.sender, self.span = sender, span
        self.slots = slots = slots * span
        wide_first = sorted(signals.items(), key=lambda item: -dtype_of(item[1][1]).itemsize)
        self.head = 4 * (1 + 2 * slots)
        self.fields: list[tuple[str, tuple[int, ...], np.dtype, int, int]] = []
        at = self.head
        for name, (shape, payload) in wide_first:
            dtype = dtype_of(payload)
            size = slots * int(np.prod(shape)) * dtype.itemsize
            self.fields.append((name, (slots, *shape), dtype, at, at + size))
            at += size
        self.nbytes = at
        self.limits = {name: np.iinfo(dtype) for name, _, dtype, _, _ in self.fields if dtype != np.int32}
        self._empty = np.zeros(self.nbytes, np.uint8)
        self._empty[: self.head].view(np.int32)[1 : 1 + slots] = EMPTY

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.fields]

    def _views(self, message: np.ndarray) -> Signals:
        return {name: message[a:b].view(dtype).reshape(shape) for name, shape, dtype, a, b in self.fields}

    def empty(self, flags: int = 0) -> np.ndarray:
        """A message without samples, uint8 [nbytes]."""
        message = self._empty.copy()
        message[:4].view(np.int32)[0] = flags
        return message

    def pack(self, flags: int, chunk: Chunk) -> np.ndarray:
        """Message with those of the chunk's signals that the layout names, uint8 [nbytes].

        Raises
        ------
        DeployError
            If a value does not fit the payload that its op states.
        """
        message = self.empty(flags)
        head = message[: self.head].view(np.int32)
        at: np.ndarray | slice = chunk.rows
        if len(chunk.t) == self.slots:
            at = slice(None)  # all of them, in order
        elif self.span > 1:
            at = (chunk.rows[:, None] * self.span + np.arange(chunk.span)).ravel()
        head[1 : 1 + self.slots][at] = chunk.sample
        head[1 + self.slots :][at] = chunk.t
        for name, view in self._views(message).items():
            value, limits = chunk.signals[name], self.limits.get(name)
            if limits is not None and value.size:
                high, low, _ = ends(np.ascontiguousarray(value))
                if low < limits.min or high > limits.max:
                    span = f"[{value.min()}, {value.max()}]"
                    raise DeployError(name, f"sends values in {span}, more than its payload allows", "correct the op's `payload`")
            view[at] = value
        return message

    def unpack(self, message: np.ndarray, dtype: Any = np.int32) -> tuple[int, Chunk]:
        """Flags and chunk of a message; signals [A, *shape] of the A occupied slots, int32, or as in the message where `dtype` is None."""
        head, kept = message[: self.head].view(np.int32), {"dtype": dtype, "copy": False}
        sample, views = head[1 : 1 + self.slots], self._views(message)
        if EMPTY not in sample:
            signals = {name: view if dtype is None else view.astype(**kept) for name, view in views.items()}
            t = head[1 + self.slots :].astype(np.int64)
            return int(head[0]), Chunk(np.arange(self.slots // self.span), sample.astype(np.int64), t, signals, self.span)
        rows = np.flatnonzero(sample != EMPTY)
        signals = {name: view[rows] if dtype is None else view[rows].astype(**kept) for name, view in views.items()}
        slots = rows if self.span == 1 else np.unique(rows // self.span)
        span = len(rows) // max(1, len(slots))
        return int(head[0]), Chunk(slots, sample[rows].astype(np.int64), head[1 + self.slots :][rows].astype(np.int64), signals, span)


def join(receiver: str, layouts: list[Layout], messages: list[np.ndarray]) -> tuple[int, Chunk]:
    """One chunk from a message of each sender.

    Raises
    ------
    DeployError
        Naming the two senders whose headers differ: they are not at the same samples and timesteps.
    """
    head = messages[0][: layouts[0].head]
    for layout, message in zip(layouts[1:], messages[1:]):
        if not np.array_equal(head, message[: layout.head]):
            raise DeployError(
                f"process {receiver}", f"its messages from {layouts[0].sender} and {layout.sender} belong to different timesteps",
                "this is a fault of the mapping: report it with the graph; --mapping chip avoids it",
            )
    flags, chunk = layouts[0].unpack(messages[0])
    for layout, message in zip(layouts[1:], messages[1:]):
        chunk.signals.update(layout.unpack(message)[1].signals)
    return flags, chunk
