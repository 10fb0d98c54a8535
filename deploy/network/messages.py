"""Messages between processes: a header and the sender's events for all slots, as one byte vector per chunk.

The header holds flags and sample group; for each row the sample's number (-1 where it is empty) and its timestep; then, for each signal
and row, the number of its events. It serves as reset (timestep 1) and as halting signal: it says which sample a slot holds now. A
receiver checks that all its messages carry the same one. A row without events has no payload, so a closed gate sends a header alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikegate.engine.integer import Chunk, Signals
from spikegate.graph.ir import DeployError, Payload
from spikegate.kernels.message_rows import packed_bits, packed_values, unpacked_bits, unpacked_values

FIRST, SPIKES, FLUSH, END = 1, 2, 4, 8  # flags: a run begins, spikes are recorded, the run is over, the network stops
STEPWISE = 16  # flag: the samples of the run come timestep by timestep
GROUP = 8  # the group of samples that the message belongs to, in the bits of the flags from here on
EMPTY = -1
Signal = tuple[tuple[int, ...], Payload]  # shape of one sample, what its values can be


def dtype_of(payload: Payload) -> np.dtype:
    """One byte for each value where all of them fit, else two, else four."""
    fits = (d for d in (np.uint8, np.int16) if np.iinfo(d).min <= payload.low and payload.high <= np.iinfo(d).max)
    return np.dtype(next(fits, np.int32))


@dataclass(frozen=True)
class Field:
    """A signal in a message: spikes take a bit each, other values the `dtype`. `values` and bytes are those of a row with events."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    binary: bool
    values: int
    row_bytes: int

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], payload: Payload) -> Field:
        """The field of a signal with this payload."""
        dtype, values, binary = dtype_of(payload), math.prod(shape), payload.low == 0 and payload.high == 1
        return cls(name, shape, dtype, binary, values, -(-values // 8) if binary else values * dtype.itemsize)


class Layout:
    """What the messages of one sender's port hold, and where.

    Parameters
    ----------
    sender : process name, for errors
    slots : width of the batch; headers always have room for all
    signals : name -> (shape of one sample, what its values can be)
    span : most timesteps of a slot in one message; they have rows of their own
    """

    def __init__(self, sender: str, slots: int, signals: dict[str, Signal], span: int = 1) -> None:
        self.sender, self.span = sender, span
        self.slots = slots = slots * span
        fields = [Field.of(n, shape, payload) for n, (shape, payload) in signals.items()]
        self.fields = sorted(fields, key=lambda f: -f.dtype.itemsize)  # so that each is aligned
        self.common = 4 * (1 + 2 * slots)  # bytes of the part of the header that messages of one timestep share
        self.head = self.common + 4 * slots * len(fields)
        self.nbytes = -(-(self.head + slots * sum(f.row_bytes for f in fields)) // 4) * 4  # at most
        self._room = np.zeros(self.nbytes, np.uint8)
        self._views = {d: self._room.view(d) for d in (np.uint8, np.int16, np.int32)}
        self._empty = np.zeros(self.head, np.uint8)
        self._empty[: self.head].view(np.int32)[1 : 1 + slots] = EMPTY

    @property
    def names(self) -> list[str]:
        return [f.name for f in self.fields]

    def empty(self, flags: int = 0) -> np.ndarray:
        """A message without samples, uint8 [head]."""
        message = self._empty.copy()
        message[:4].view(np.int32)[0] = flags
        return message

    def pack(self, flags: int, chunk: Chunk) -> np.ndarray:
        """Message with those of the chunk's signals that the layout names, uint8 [head + payload].

        Raises
        ------
        DeployError
            If a value does not fit the payload that its op states.
        """
        slots = self.slots
        self._room[: self.head] = self._empty
        head = self._room[: self.head].view(np.int32)
        if len(chunk.t) == slots or self.span == 1:
            at = chunk.rows if self.span == 1 else np.arange(slots)
        else:
            at = (chunk.rows[:, None] * self.span + np.arange(chunk.span)).ravel()
        head[0] = flags
        head[1:][at] = chunk.sample
        head[1 + slots :][at] = chunk.t
        used = self.head
        for k, f in enumerate(self.fields, 2):
            value = chunk.signals[f.name]
            rows = np.ascontiguousarray(value, np.int32).reshape(len(at), f.values)
            events = head[1 + k * slots :]
            if f.binary:
                used = packed_bits(rows, at, events, self._room, used)
            else:
                size = f.dtype.itemsize
                limits = np.iinfo(f.dtype)
                used = size * packed_values(rows, at, events, self._views[f.dtype.type], used // size, limits.min, limits.max)
            if used < 0:
                raise DeployError(f.name, f"sends values in [{value.min()}, {value.max()}], more than its payload allows",
                                  "correct the op's `payload`")
        return self._room[:used].copy()

    def warm(self) -> None:
        """Compile what packs and unpacks these messages, or load it: processes forked later inherit it."""
        none = np.zeros(0, np.int64)
        self.unpack(self.pack(0, Chunk(none, none, none, {f.name: np.zeros((0, *f.shape), np.int32) for f in self.fields})))

    def header(self, message: np.ndarray) -> tuple[int, np.ndarray, Chunk]:
        """Flags, places of the occupied rows, and their chunk without signals."""
        head = message[: self.common].view(np.int32)
        sample, t = head[1 : 1 + self.slots], head[1 + self.slots :]
        rows = (sample != EMPTY).nonzero()[0]
        slots = rows if self.span == 1 else np.unique(rows // self.span)
        span = len(rows) // max(1, len(slots))
        return int(head[0]), rows, Chunk(slots, sample[rows].astype(np.int64), t[rows].astype(np.int64), {}, span)

    def unpack(self, message: np.ndarray) -> tuple[int, Chunk]:
        """Flags and chunk of a message; signals int32 [A, *shape] of the A occupied rows."""
        flags, rows, chunk = self.header(message)
        chunk.signals.update(self.signals(message, rows))
        return flags, chunk

    def signals(self, message: np.ndarray, rows: np.ndarray) -> Signals:
        """The signals of these rows (all that are occupied), int32 [A, *shape]."""
        head, found, used = message[: self.head].view(np.int32), {}, self.head
        for k, f in enumerate(self.fields, 2):
            out = np.empty((len(rows), f.values), np.int32)
            events = head[1 + k * self.slots :]
            if f.binary:
                used = unpacked_bits(message, rows, events, out, used)
            else:
                size = f.dtype.itemsize
                typed = message[: len(message) // size * size].view(f.dtype)
                used = size * unpacked_values(typed, rows, events, out, used // size)
            found[f.name] = out.reshape(len(rows), *f.shape)
        return found

    def described(self, message: np.ndarray) -> list[np.ndarray]:
        """A table int64 [A, 4] of the occupied rows, if any: sample, timestep, events, bytes of payload."""
        _, rows, chunk = self.header(message)
        if not len(rows):
            return []
        counts = message[self.common : self.head].view(np.int32).reshape(len(self.fields), self.slots)[:, rows].astype(np.int64)
        sizes = np.array([f.row_bytes for f in self.fields], np.int64)
        return [np.stack([chunk.sample, chunk.t, counts.sum(0), ((counts > 0) * sizes[:, None]).sum(0)], 1)]


def join(receiver: str, layouts: list[Layout], messages: list[np.ndarray]) -> tuple[int, Chunk]:
    """One chunk from a message of each sender.

    Raises
    ------
    DeployError
        Naming the two senders whose headers differ: they are not at the same samples and timesteps.
    """
    head = messages[0][: layouts[0].common].tobytes()
    for layout, message in zip(layouts[1:], messages[1:]):
        if head != message[: layout.common].tobytes():
            raise DeployError(
                f"process {receiver}", f"its messages from {layouts[0].sender} and {layout.sender} belong to different timesteps",
                "this is a fault of the mapping: report it with the graph; --mapping chip avoids it",
            )
    flags, rows, chunk = layouts[0].header(messages[0])
    for layout, message in zip(layouts, messages):
        chunk.signals.update(layout.signals(message, rows))
    return flags, chunk
