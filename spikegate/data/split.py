"""Samples of every class in equal shares."""

from __future__ import annotations

import numpy as np


def stratified(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted positions of `count` samples in which every class has its share of `y`, up to rounding."""
    rng = np.random.default_rng(seed)
    labels, sizes = np.unique(y, return_counts=True)
    share = sizes * count / len(y)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: count - take.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(y == label))[:n] for label, n in zip(labels, take)]
    return np.sort(np.concatenate(chosen))
