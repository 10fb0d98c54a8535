"""Where halting saves events: by part of the net and by timestep, beside the tokens that it saves; integers that add up exactly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.ledger import GATE_KINDS

PARTS = {
    "embedding": "embedding before the blocks",
    "attention": "attention (q, k, v, coincidences, projection)",
    "mlp": "MLP and other layers",
    "carried": "relays of residual sums",
    "readout": "read-out",
    "gates": "gates",
}
MIXING = ("spiking_attention", "sdsa", "qk_token_gate", "qk_channel_gate", "token_mix")
CARRYING = ("relay", "current", "membrane", "token_move")
WORK, HOLDING = [COUNTERS.index(c) for c in ("synop", "attention_ac")], COUNTERS.index("gate_update")
NAMES = ("first", "later", "after")  # timestep 1, those up to the sample's exit, those that it would have run without


@dataclass(frozen=True)
class Where:
    """Events (accumulates, attention accumulates, gate updates) and tokens with and without halting, summed over `samples`.

    Attributes
    ----------
    samples : images
    on, off : int64 [T, PARTS], events
    after : int64 [PARTS], those of `off` that lie behind each sample's exit
    cells_on, cells_off : int64 [T], (block, token) cells that were processed
    """

    samples: int
    on: np.ndarray
    off: np.ndarray
    after: np.ndarray
    cells_on: np.ndarray
    cells_off: np.ndarray

    @property
    def saved(self) -> np.ndarray:
        """Events saved by part and time, int64 [PARTS, NAMES]."""
        by_step = (self.off - self.on).T
        return np.stack([by_step[:, 0], by_step[:, 1:].sum(1) - self.after, self.after], 1)

    @property
    def events_saved(self) -> float:
        """Share of the events."""
        return float((self.off - self.on).sum() / max(1, self.off.sum()))

    @property
    def tokens_saved(self) -> float:
        """Share of the (timestep, block, token) cells."""
        return float((self.cells_off - self.cells_on).sum() / max(1, self.cells_off.sum()))

    def to_json(self) -> dict[str, Any]:
        parts = {
            name: {"with": int(self.on[:, k].sum()), "without": int(self.off[:, k].sum()), **dict(zip(NAMES, self.saved[k].tolist()))}
            for k, name in enumerate(PARTS)
        }
        steps = [
            {"events_with": int(a), "events_without": int(b), "tokens_with": int(c), "tokens_without": int(d)}
            for a, b, c, d in zip(self.on.sum(1), self.off.sum(1), self.cells_on, self.cells_off)
        ]
        return {"samples": self.samples, "parts": parts, "timesteps": steps, "events_saved": self.events_saved,
                "tokens_saved": self.tokens_saved}


def where(on: Record, off: Record, embedding: Collection[str], sources: dict[str, list[str]]) -> Where:
    """Compare a run with the same run without halting.

    Parameters
    ----------
    on, off : records of one net on the same samples; the second without its gates
    embedding : names of the ops before the first block
    sources : op name -> names of the ops that it reads

    To the gates belong all events of gate ops, and every ``gate_update`` elsewhere (what the read-out holds of halted tokens).

    Raises
    ------
    DeployError
        If the records are not of one net and the same number of samples.
    """
    if not set(off.ops) <= set(on.ops) or on.counts.shape[:2] != off.counts.shape[:2]:
        raise DeployError("--where", "the runs with and without halting are not of one net and the same images", "run both again")
    names = list(PARTS)
    of_on, of_off = (np.array([names.index(p) for p in parts_of(r, embedding, sources)]) for r in (on, off))
    behind = np.zeros(len(names), np.int64)
    for n, exit_step in enumerate(on.exit_step):
        behind += _by_part(off.counts[n, exit_step:].sum(0), of_off)
    runs = np.arange(1, on.counts.shape[1] + 1) <= off.exit_step[:, None]  # without halting every token is processed in all of these
    blocks, tokens = on.processed.shape[2:]
    cells = on.processed.sum((0, 2, 3), dtype=np.int64), runs.sum(0, dtype=np.int64) * blocks * tokens
    return Where(len(on.counts), _events(on, of_on), _events(off, of_off), behind, *cells)


def parts_of(record: Record, embedding: Collection[str], sources: dict[str, list[str]]) -> list[str]:
    """The part (`PARTS`) of each op."""
    kinds = dict(zip(record.ops, record.kinds))
    readers = {n: [t for t, given in sources.items() if n in given] for n in record.ops}

    def part(name: str, kind: str) -> str:
        if kind in GATE_KINDS:
            return "gates"
        if kind == "readout":
            return "readout"
        if name in embedding:
            return "embedding"
        mixes = [t for t in readers[name] if kinds.get(t) in MIXING]
        if kind in MIXING or mixes or any(kinds.get(s) in MIXING for s in sources.get(name, []) if len(sources.get(name, [])) <= 2):
            return "attention"
        return "carried" if kind in CARRYING else "mlp"

    return [part(n, k) for n, k in kinds.items()]


def _events(record: Record, part: np.ndarray) -> np.ndarray:
    """int64 [T, PARTS]."""
    return np.stack([_by_part(counts, part) for counts in record.counts.sum(0)])


def _by_part(counts: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Events of counts [ops, COUNTERS] by part; gate updates go to the gates."""
    out = np.zeros(len(PARTS), np.int64)
    np.add.at(out, part, counts[:, WORK].sum(1))
    out[list(PARTS).index("gates")] += counts[:, HOLDING].sum()
    return out
