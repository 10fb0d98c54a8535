"""Records of parts of a set of samples as the record of the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikegate.engine.record import Record


def join(records: Sequence[Record]) -> Record:
    """The record of all samples, in the order of the parts; `meta` is the first part's."""
    first = records[0]
    labels = None if any(r.labels is None for r in records) else np.concatenate([r.labels for r in records if r.labels is not None])
    return replace(
        first, counts=np.concatenate([r.counts for r in records]), exit_step=np.concatenate([r.exit_step for r in records]),
        logits=np.concatenate([r.logits for r in records]), alive=np.concatenate([r.alive for r in records]), labels=labels,
        spikes={n: np.concatenate([r.spikes[n] for r in records]) for n in first.spikes},
        activity={n: np.stack([r.activity[n] for r in records]).sum(0).astype(np.int32) for n in first.activity},
        values={n: np.concatenate([r.values[n] for r in records]) for n in first.values},
        meta=dict(first.meta),
    )  # fmt: skip
