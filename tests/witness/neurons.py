"""Neurons as docs/semantics.md writes them. States are int64 arrays in a dictionary; a name that is missing is zero."""

from __future__ import annotations

from typing import Any

import numpy as np

TOP = 1 << 23
State = dict[str, np.ndarray]
Array = np.ndarray


def towards_zero(a: Array, factor: Any) -> Array:
    """``a * factor / 4096``, rounded towards zero."""
    product = a * factor
    return np.where(product < 0, -(-product // 4096), product // 4096)


def dec(a: Array, d: Any) -> Array:
    return towards_zero(a, 4096 - d)


def wrap(a: Array) -> Array:
    turns = -((TOP - a) // (2 * TOP))  # how often 2^24 goes into what is above 2^23, or is missing at -2^23 and below
    return a - turns * 2 * TOP


def clip(a: Array) -> Array:
    return np.clip(a, -TOP + 1, TOP - 1)


def shifted(a: Array, e: int) -> Array:
    return np.sign(a) * (np.abs(a) >> e) if e > 0 else a << -e


def spend(n: dict[str, Any], v: Array) -> tuple[Array, Array]:
    """(value sent, voltage after it): reset to 0, or the step taken as often as the voltage is above the threshold."""
    if n.get("reset", "zero") == "zero":
        s = v > 64 * n["vth"]
        return s.astype(np.int64), np.where(s, 0, v)
    step = 64 * (n.get("v_step", 0) or n["vth"])
    s = np.where(v > 64 * n["vth"], (v - 64 * n["vth"] + step - 1) // step, 0)
    s = np.minimum(s, n.get("levels", 1))
    return s, v - s * step


def cuba(n: dict[str, Any], state: State, x: Array, bias: Any, lives: Array | None = None, hold: bool = False) -> Array:
    """Spikes of CUBA neurons; rows of x whose token does not live are not updated and send nothing."""
    u, v = (state.setdefault(key, np.zeros(x.shape, np.int64)) for key in "uv")
    new_u = wrap(dec(u, n["i_decay"]) + 64 * x)
    new_v = clip(dec(v, n["v_decay"]) + new_u + 64 * bias)
    spikes = np.zeros(x.shape, np.int64)
    if not hold:
        spikes, new_v = spend(n, new_v)
    rows = np.ones(len(x), bool) if lives is None else lives
    u[rows], v[rows] = new_u[rows], new_v[rows]
    if lives is not None:
        spikes[~rows] = 0
    return spikes


def block(n: dict[str, Any], state: State, x: Any, bias: Any, fine: Array | None = None) -> Array:
    """Output of a neuron of a NetX layer. `x` in weight units (a pair for resonators); `fine`, where given, is 64 x exactly."""
    shape = x[0].shape if isinstance(x, tuple) else x.shape
    for key in ("u", "v", "rise", "r", "re", "im", "act", "residue", "sigma"):
        state.setdefault(key, np.zeros(shape, np.int64))
    kind = n["kind"]
    if kind in ("RF_PHASE", "RF_IZHIKEVICH", "ADRF_PHASE"):
        return resonator(n, state, x)
    x64 = 64 * x if fine is None else fine
    if kind == "CUBA":
        state["u"] = wrap(dec(state["u"], n["i_decay"]) + x64)
        v = clip(dec(state["v"], n["v_decay"]) + shifted(state["u"] + 64 * bias, n["weight_exp"]))
        if n["output"] == "voltage":
            state["v"] = v
            return v
        s, state["v"] = spend(n, v)
        return s
    if kind == "ALIF":
        state["u"] = clip(dec(state["u"], n["i_decay"]) + shifted(x64 + 64 * bias, n["weight_exp"]))
        state["v"] = clip(dec(state["v"], n["v_decay"]) + state["u"])
        return adapt(n, state, state["v"], True)
    if kind == "DELTA":
        return send(n, state, (x64 + 64 * bias) * 2 ** n["spike_exp"])
    if kind == "SDNN":
        state["sigma"] = state["sigma"] + x
        return send(n, state, np.maximum(state["sigma"] + bias * 2 ** (n["spike_exp"] + 6), 0))
    if kind == "SIGMA":
        state["sigma"] = state["sigma"] + x
        return state["sigma"]
    assert kind == "NONE", kind
    return x + bias


def resonator(n: dict[str, Any], state: State, x: tuple[Array, Array]) -> Array:
    re, im = state["re"], state["im"]
    new_re = clip(towards_zero(re, n["cos_decay"]) - towards_zero(im, n["sin_decay"]) + 64 * x[0])
    new_im = clip(towards_zero(re, n["sin_decay"]) + towards_zero(im, n["cos_decay"]) + 64 * x[1])
    crossing = (new_im >= 0) & (im < 0)
    state["re"], state["im"] = new_re, new_im
    if n["kind"] == "RF_PHASE":
        return ((new_re >= 64 * n["vth"]) & crossing).astype(np.int64)
    if n["kind"] == "ADRF_PHASE":
        return adapt(n, state, new_re, crossing)
    s = new_im >= 64 * n["vth"]
    state["re"], state["im"] = np.where(s, 0, new_re), np.where(s, 64 * n["vth"] - 1, new_im)
    return s.astype(np.int64)


def adapt(n: dict[str, Any], state: State, a: Array, may: Any) -> Array:
    rise, r = dec(state["rise"], n["th_decay"]), dec(state["r"], n["ref_decay"])
    s = ((a >= 64 * n["vth"] + rise + r) & may).astype(np.int64)
    state["r"] = r + 2 * s * (64 * n["vth"] + rise)
    state["rise"] = rise + s * 64 * n["th_step"]
    return s


def send(n: dict[str, Any], state: State, a: Array) -> Array:
    d = a - state["act"] + state["residue"]
    y = np.where(np.abs(d) >= n["vth"] * 2 ** (n["spike_exp"] + 6), d, 0)
    state["residue"], state["act"] = d - y, a
    return y >> 6
