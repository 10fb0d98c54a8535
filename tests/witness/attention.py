"""Attention: coincidences of bits, head by head."""

from __future__ import annotations

import numpy as np

from tests.witness.common import Fields, Result, Slots, State, held, living, masked, nz
from tests.witness.neurons import cuba


def heads_of(f: Fields) -> list[slice]:
    width = f["channels"] // f["heads"]
    return [slice(h * width, (h + 1) * width) for h in range(f["heads"])]


def spiking_attention(f: Fields, state: State, slots: Slots, t: int) -> Result:
    q, k, v = (slots[s][0] for s in "qkv")
    tokens, channels = f["tokens"], f["channels"]
    y, work = np.zeros((tokens, channels), np.int64), 0
    for head in heads_of(f):
        if f.get("order", "kv") == "kv":
            first = np.zeros((q[:, head].shape[1], v[:, head].shape[1]), np.int64)
            for j in range(tokens):
                first += np.outer(k[j, head], v[j, head])
            work += int(first.sum())
            for i in range(tokens):
                for c in np.flatnonzero(q[i, head]):
                    y[i, head] += first[c]
                    work += int(np.count_nonzero(first[c]))
        else:
            first = np.zeros((tokens, tokens), np.int64)
            for i in range(tokens):
                for j in range(tokens):
                    first[i, j] = np.count_nonzero(q[i, head] & k[j, head])
            work += int(first.sum())
            for j in range(tokens):
                for e in np.flatnonzero(v[j, head]):
                    y[:, head.start + e] += first[:, j]
                    work += int(np.count_nonzero(first[:, j]))
    lives = living(slots, tokens)
    s = cuba(f["neuron"], state, y * 2 ** f.get("exponent", 3), 0, lives, held(slots))
    updated = int(lives.sum()) * channels
    return s, {"spike_in": nz([q, k, v]), "attention_ac": work, "neuron_update": updated, "spike_out": nz([s])}


def gate(f: Fields, slots: Slots, maps: list[np.ndarray], passes: np.ndarray, gated: np.ndarray, gathered: int) -> Result:
    """What the memoryless gates share: the bits of `gated` where `passes`, and the counters."""
    y = np.where(passes, gated, 0)
    updated = int(living(slots, f["tokens"]).sum()) * f["channels"]
    return y, {"spike_in": nz(maps), "attention_ac": gathered + nz([y]), "neuron_update": updated, "spike_out": nz([y])}


def bits(f: Fields, slots: Slots, names: str) -> list[np.ndarray]:
    return masked([slots[s][0] for s in names], living(slots, f["tokens"]))


def by_head(f: Fields, n: np.ndarray) -> np.ndarray:
    """For each channel, the sum of `n` [tokens, channels] over the channels of its head."""
    out = np.zeros_like(n)
    for head in heads_of(f):
        out[:, head] = n[:, head].sum(1, keepdims=True)
    return out


def qk_token_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    q, k = bits(f, slots, "qk")
    return gate(f, slots, [q, k], by_head(f, q) > 0, k, nz([q]))


def qk_channel_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    q, k = bits(f, slots, "qk")
    return gate(f, slots, [q, k], np.broadcast_to(q.sum(0) > 0, k.shape), k, nz([q]))


def multiscale_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    q, p, k = bits(f, slots, "qpk")
    return gate(f, slots, [q, p, k], by_head(f, q + p) >= f.get("threshold", 1), k, nz([q]) + nz([p]))


def sdsa(f: Fields, state: State, slots: Slots, t: int) -> Result:
    q, k, v = bits(f, slots, "qkv")
    meets = (k == 1) & (v == 1)
    return gate(f, slots, [q, k, v], np.broadcast_to(meets.any(0), q.shape), q, int(meets.sum()))
