"""What happened during inference: events per op and timestep, which tokens were alive, logits and exits, spikes on request."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.engine.record_counts import narrow, packed_counts
from spikegate.engine.record_reading import SCHEMA, fields_of
from spikegate.files import write_bytes, write_npz
from spikegate.graph.ir import COUNTERS


@dataclass
class Record:
    """Integer facts of one run over N samples, T timesteps at most, K classes.

    Attributes
    ----------
    ops, kinds : list of str
        Name and kind of each op, in graph order.
    counts : int64 [N, T, ops, counters]
        Events per sample, timestep, op and counter (`COUNTERS`); zero after the sample's exit.
    exit_step : int64 [N]
        Timesteps that were run, 1..T.
    logits : int64 [N, K]
        At the exit. `prediction` is their first maximum.
    gates : list of str
        Names of the ops that halt or merge tokens, in graph order (empty for a static net).
    alive : bool [N, T, gates + 1, tokens]
        Entry 0: tokens alive before the first gate; entry g: after gate g, counted from 1. False after the exit.
        A net without gates has one entry, all True until the exit.
    entering : list of int
        Entries of `alive` that gate the blocks. In serial order entry g gates block g + 1.
    spikes : dict of op name -> int32 [N, T, *shape]
        Only with ``record="spikes"``; zero after the exit.
    activity : dict of op name -> int32 [T, *shape]
        How many samples' events each neuron sent in each timestep (values other than 0, summed over samples): which core an op's
        events come from. Only of the ops whose output the driver sees: all of them on the integer reference.
    values : dict of op name -> int64 [N, T]
        Sum of the magnitudes that an op with a graded payload sent; for the same ops.
    """

    ops: list[str]
    kinds: list[str]
    counts: np.ndarray
    exit_step: np.ndarray
    logits: np.ndarray
    gates: list[str]
    alive: np.ndarray
    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    entering: list[int] = field(default_factory=list)
    activity: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.entering:  # records of serial nets, written before other halting orders existed
            self.entering = list(range(max(1, len(self.gates))))

    @property
    def processed(self) -> np.ndarray:
        """Tokens that each block processed, bool [N, T, blocks that differ, tokens]."""
        return self.alive[:, :, self.entering]

    @property
    def prediction(self) -> np.ndarray:
        classes: np.ndarray = self.logits.argmax(1)
        return classes

    @property
    def accuracy(self) -> float:
        """Share of right predictions; nan without labels."""
        return float("nan") if self.labels is None else float((self.prediction == self.labels).mean())

    @property
    def mean_timesteps(self) -> float:
        return float(self.exit_step.mean())

    @property
    def mean_tokens(self) -> float:
        """Share of (block, timestep, token) cells that were processed, of all L * T * N cells (1 for a static net).

        A merged pair is one token.
        """
        return float(self.processed.mean())

    def total(self, counter: str) -> np.ndarray:
        """Events of one counter per sample, int64 [N]."""
        events: np.ndarray = self.counts[..., COUNTERS.index(counter)].sum((1, 2))
        return events

    @property
    def chip_events(self) -> np.ndarray:
        """Accumulates, attention accumulates and gate updates per sample, int64 [N]: the work that an event causes."""
        events: np.ndarray = self.total("synop") + self.total("attention_ac") + self.total("gate_update")
        return events

    def save(self, path: Path) -> None:
        """Write everything but the spikes to an npz, atomically."""
        values = np.stack([*self.values.values()]) if self.values else np.zeros(0, np.uint8)
        write_bytes(path, _packed({
            "schema": SCHEMA,
            "ops": self.ops,
            "kinds": self.kinds,
            "counters": COUNTERS,
            **packed_counts(self.counts, self.exit_step),
            "exit_step": narrow(self.exit_step),
            "logits": narrow(self.logits),
            "gates": np.array(self.gates, dtype="U"),
            "alive": np.packbits(self.alive),
            "alive_shape": self.alive.shape,
            "entering": self.entering,
            "labels": np.array([]) if self.labels is None else self.labels,
            "meta": json.dumps(self.meta),
            "activity": narrow(np.concatenate([a.ravel() for a in self.activity.values()] or [np.zeros(0, np.uint8)])),
            "values": narrow(values),
            "sent": json.dumps({"activity": {n: a.shape for n, a in self.activity.items()}, "values": [*self.values]}),
        }))  # fmt: skip

    def save_spikes(self, path: Path) -> None:
        write_npz(path, **self.spikes)

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read an npz written by `save`; a DeployError names what is wrong with a file that is none."""
        return cls(**fields_of(path))


def _packed(arrays: dict[str, Any]) -> memoryview:
    """An npz, not compressed: that would take longer than many a run, and what is large is narrow already."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, value in arrays.items():
            one = io.BytesIO()  # at once: written into an archive, np.save goes piece by piece
            np.save(one, np.asarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue())
    return held.getbuffer()
