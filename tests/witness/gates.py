"""Credit of tokens, timestep masks, read-out and exit."""

from __future__ import annotations

import numpy as np

from tests.witness.common import HOLD, MUTE, OPEN, SKIP, Fields, Result, Slots, State, living, masked, nz

RULES = {"mute": MUTE, "hold": HOLD, "skip": SKIP}


def scored(f: Fields, slots: Slots, tokens: int) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Credit that comes in, score of each token that lives (0 for others), and the counters of the input side."""
    chain = slots["chain"][0] if "chain" in slots else np.full(tokens, f["theta"])
    channels = slice(f.get("channel", 0), f.get("channel", 0) + f.get("width", 1))
    score, events, values, alive = np.zeros(tokens, np.int64), 0, 0, 0
    for k in range(tokens):
        if chain[k] > 0:
            n = sum(int(x[k, channels].sum()) for x in slots["x"])
            score[k] = f["table"][n]
            alive += 1
            values += n
            events += nz([x[k, channels] for x in slots["x"]])
    return chain, score, {"spike_in": events + alive, "synop": values, "gate_update": alive}


def token_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    chain, score, counts = scored(f, slots, f["tokens"])
    y = np.where(chain > 0, np.maximum(chain - score, 0), 0)
    return y, counts | {"spike_out": int((y > 0).sum())}


def rectangle_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    chain, score, counts = scored(f, slots, f["tokens"])
    state["spent"] = np.minimum(state.get("spent", 0) + score, f["theta"])
    y = np.maximum(chain - state["spent"], 0)
    return y, counts | {"spike_out": int((y > 0).sum())}


def contrast_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    height, width = (int(n) for n in f["grid"])
    tokens = height * width
    chain = slots["chain"][0] if "chain" in slots else np.full(tokens, f["theta"])
    x, y = sum(slots["x"]), np.zeros(tokens, np.int64)
    counts = {"spike_in": 0, "synop": 0, "gate_update": 0, "spike_out": 0}
    sums = [int(row.sum()) for row in x]
    for k in range(tokens):
        if chain[k] <= 0:
            continue
        row, column = divmod(k, width)
        score, heard = 0, 5 * sums[k]
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            a, b = row + dy, column + dx
            if not 0 <= a < height:
                a = row - dy if 0 <= row - dy < height else row
            if not 0 <= b < width:
                b = column - dx if 0 <= column - dx < width else column
            other = a * width + b
            score += int(np.abs(x[k] - x[other]).sum())
            heard += sums[other] + int((x[k] != x[other]).sum())
        if t > 1:
            score += abs(sums[k] - state["last"][k]) * 2 ** int(f.get("shift", 2))
        y[k] = chain[k] - 1 if score < f["cut"] else chain[k]
        counts["spike_in"] += nz([source[k] for source in slots["x"]]) + 1
        counts["synop"] += heard
        counts["gate_update"] += 1
        counts["spike_out"] += int(y[k] > 0)
    state["last"] = sums
    return y, counts


def pairs(grid: np.ndarray) -> list[tuple[int, int]]:
    """(kept, absorbed) tokens."""
    height, width = (int(n) for n in grid)
    return [(row * width + column, row * width + column + 1) for row in range(height) for column in range(0, width - 1, 2)]


def token_merge(f: Fields, state: State, slots: Slots, t: int) -> Result:
    tokens = int(np.prod(f["grid"]))
    chain = slots["chain"][0] if "chain" in slots else np.full(tokens, f["theta"])
    y, merged = chain.copy(), state.setdefault("merged", set())
    counts = {"spike_in": int((chain > 0).sum()) if "chain" in slots else 0, "synop": 0, "attention_ac": 0}
    union = sum(slots["x"]) > 0
    for a, b in pairs(f["grid"]):
        if t == 1:
            both, each = int((union[a] & union[b]).sum()), int(union[a].sum() + union[b].sum())
            counts["spike_in"] += sum(nz([x[a], x[b]]) for x in slots["x"])
            counts["synop"] += each
            counts["attention_ac"] += both
            if 2 * both >= each - f["delta"] and chain[a] > 0 and chain[b] > 0:
                merged.add((a, b))
                y[a] = min(chain[a], chain[b])
        if (a, b) in merged:
            y[b] = -1
    left = int((y > 0).sum())
    return y, counts | {"gate_update": tokens if t == 1 else left, "spike_out": left}


def token_move(f: Fields, state: State, slots: Slots, t: int) -> Result:
    credit, y, arrived, moving = slots["after"][0], np.zeros_like(slots["x"][0]), 0, 0
    for a, b in pairs(f["grid"]):
        if credit[b] == -1 and credit[a] > 0:
            y[a] = sum(x[b] for x in slots["x"])
            arrived += nz([x[b] for x in slots["x"]])
            moving += 1
    return y, {"spike_in": arrived, "synop": arrived, "neuron_update": moving * f["channels"], "spike_out": nz([y])}


def step_window(f: Fields, state: State, slots: Slots, t: int) -> Result:
    y = sum(slots["x"]) if f["mask"][t - 1] else np.zeros(f["shape"], np.int64)
    arrived = nz(slots["x"])
    return y, {"spike_in": arrived, "synop": arrived, "neuron_update": y.size, "spike_out": nz([y])}


def relay(f: Fields, state: State, slots: Slots, t: int) -> Result:
    tokens, channels = (int(n) for n in f["shape"])
    lives = living(slots, tokens)
    sources = masked(slots["x"], lives)
    y, arrived = sum(sources), nz(sources)
    return y, {"spike_in": arrived, "synop": arrived, "neuron_update": int(lives.sum()) * channels, "spike_out": nz([y])}


def timestep_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    now, before = int(f["mask"][t - 1]), int(f["mask"][t - 2]) if t > 1 else 1
    word = OPEN if now == 1 else RULES[f.get("rule", "skip")]
    return np.array([word]), {"gate_update": 1, "spike_out": int(now != before)}


def head(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    return (weight * x).sum((1, 2))


def readout(f: Fields, state: State, slots: Slots, t: int) -> Result:
    weight, bias, classes = f["weight"], f["bias"], len(f["weight"])
    z, held = (state.setdefault(key, np.zeros(classes, np.int64)) for key in ("z", "held"))
    x, direct = sum(slots["x"]), slots.get("direct", [])
    z = z + held + head(weight, x) + bias
    for more in (*slots.get("current", []), *direct):
        z = z + more[0]
    fan, extra = (weight != 0).sum(0), 0
    if "after" in slots:
        before, after = slots["before"][0], slots["after"][0]
        gone = masked([x], (before > 0) & (after == 0))[0]
        held = held + head(weight, gone)
        extra = int((gone * fan).sum()) + classes * int((before == 0).any())
        if not (after > 0).any():
            left = f["timesteps"] - t
            z = z + left * (held + bias)
            extra += classes * left
    state["z"], state["held"] = z, held
    cost = sum(int((np.abs(s) * fan).sum()) for s in slots["x"]) + nz(direct)
    return z, {"spike_in": nz(slots["x"]) + nz(direct), "synop": cost, "gate_update": extra, "neuron_update": classes, "spike_out": classes}


def exit_gate(f: Fields, state: State, slots: Slots, t: int) -> Result:
    z = [int(v) for v in slots["logits"][0]]
    done = t >= f["timesteps"] or ("alive" in slots and not (slots["alive"][0] > 0).any())
    if f.get("policy", "fixed_window") == "threshold_then_argmax" and f["classes"] > 1:
        first, second = sorted(z, reverse=True)[:2]
        done = done or first - second >= f["margin"][t - 1]
    return np.array([int(done), z.index(max(z))]), {"spike_in": f["classes"], "gate_update": 1, "spike_out": 1}
