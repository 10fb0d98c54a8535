"""Readers of image sets: each returns `Arrays`, checked by nobody yet (spikegate/data/parts.py does that)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recorded:
    """Of event recordings: mean duration of the test part's, and the share of all events that binning leaves out."""

    milliseconds: float
    left_out: float


@dataclass
class Arrays:
    """What a reader found: images [N, H, W] or [N, H, W, C], or frames of events [N, T, 2, H, W], and labels [N] of both parts.

    `classes` are names by label, empty if the source has none; `levels` is the largest pixel value that can occur.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: list[str]
    levels: int = 255
    recorded: Recorded | None = None
