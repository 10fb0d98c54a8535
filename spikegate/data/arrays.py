"""Readers of image sets: each returns `Arrays`, checked by nobody yet (spikegate/data/parts.py does that)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Arrays:
    """What a reader found: images [N, H, W] or [N, H, W, C] and labels [N] of both parts, as they lie in the source.

    `classes` are names by label, empty if the source has none; `levels` is the largest pixel value that can occur.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: list[str]
    levels: int = 255
