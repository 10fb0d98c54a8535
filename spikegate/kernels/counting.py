"""Compiled counts and sums over integer arrays, one pass over memory each."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled

FEW_ADDS = 1 << 18  # up to so many adds are faster event by event than starting a matrix product


@compiled
def alive_tokens(credit: np.ndarray) -> np.ndarray:
    """Number of alive tokens in each row of credit [rows, tokens], int64 [rows]."""
    out = np.zeros(len(credit), np.int64)
    for m in range(len(credit)):
        for p in range(credit.shape[1]):
            out[m] += credit[m, p] > 0
    return out


@compiled
def magnitudes(x: np.ndarray) -> np.ndarray:
    """Sum of |x| of each row of integers x [rows, n], int64 [rows]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += abs(np.int64(x[m, c]))
    return out


@compiled
def weighted(x: np.ndarray, fanout: np.ndarray) -> np.ndarray:
    """``x @ fanout`` for integers x [batch, n] and int64 [n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += np.int64(x[m, c]) * fanout[c]
    return out


@compiled
def nonzeros(x: np.ndarray) -> np.ndarray:
    """Number of non-zero values of each row of x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c] != 0
    return out


@compiled
def sums(x: np.ndarray) -> np.ndarray:
    """Sum of each row of integers x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c]
    return out


@compiled
def add_at(into: np.ndarray, at: np.ndarray, x: np.ndarray) -> None:
    """``into[at[m]] += x[m]`` row by row; a row may occur several times; into int64 [samples, n], x int32 [rows, n]."""
    for m in range(len(x)):
        for c in range(x.shape[1]):
            into[at[m], c] += x[m, c]
