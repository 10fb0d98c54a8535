"""The arithmetic that synapses may use: what an op's `accumulate` is given. The audit's own one counts the calls."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Alu(Protocol):
    """Adds, compares, shifts and ANDs integers; it cannot multiply."""

    def add(self, acc: np.ndarray, index: tuple[np.ndarray | int, ...], values: np.ndarray | int) -> None:
        """``acc[index] += values``, indices that occur twice included."""

    def coincide(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """AND of bits."""

    def shift(self, x: np.ndarray, places: int) -> np.ndarray:
        """``x << places``, or to the right where `places` is negative."""

    def at_least(self, x: np.ndarray, bound: int) -> np.ndarray:
        """``x >= bound``, bool."""
