"""Compiled loops of the neurons other than CUBA, and of delays; each names the function whose loop form it is."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled, inlined


@inlined
def decayed(x: np.int64, d: np.int64) -> np.int64:
    """``sign(x) * (|x| (4096 - d) >> 12)``."""
    return (x * (4096 - d)) >> 12 if x >= 0 else -((-x * (4096 - d)) >> 12)


@compiled
def leaky(current, u, v, span, bias, i_decay, v_decay, rule, exponent, up, limit, spiking, out, fired):
    """Timesteps of `spikegate.neurons.leaky.Leaky`, shapes as in `cuba`; `bias` int64 [positions or 1, n], decays int64 [n].

    `up`: shift from the current's unit to the state's. Not `spiking`: sends voltages, never resets. Flags and `rule` as in `cuba`.
    """
    theta, step, levels = rule
    rows, positions, n = current.shape
    flags = 0
    for m in range(rows):
        a, count = m // span, 0
        for p in range(positions):
            q = p if len(bias) > 1 else 0
            for c in range(n):
                x = decayed(np.int64(u[a, p, c]), i_decay[c]) + (np.int64(current[m, p, c]) << up)
                if x >= limit or x <= -limit:
                    flags |= 1
                    x = (x + limit - 1) % (2 * limit) - limit + 1
                u[a, p, c] = x
                drive = x + (bias[q, c] << 6)
                if exponent > 0:
                    drive = drive >> exponent if drive >= 0 else -(-drive >> exponent)
                else:
                    drive = drive << -exponent
                b = decayed(np.int64(v[a, p, c]), v_decay[c]) + drive
                if b >= limit or b <= -limit:
                    flags |= 2
                    b = min(max(b, -limit + 1), limit - 1)
                s = np.int64(0)
                while spiking and s < levels and b > theta:
                    s += 1
                    b = b - step if step else np.int64(0)
                out[m, p, c] = s if spiking else b
                v[a, p, c] = b
                count += out[m, p, c] != 0
        fired[m] = count
    return flags


@compiled
def rectified(current, sigma, span, bias, act):
    """Sums over time and ``max(0, sum + bias)`` of `neurons.sigma_delta.SigmaDelta`; `act` int64 [samples * span, positions, n].
    Returns whether a sum left its 32 bits."""
    rows, positions, n = current.shape
    left = False
    for m in range(rows):
        a = m // span
        for p in range(positions):
            q = p if len(bias) > 1 else 0
            for c in range(n):
                total = np.int64(sigma[a, p, c]) + np.int64(current[m, p, c])
                left |= total >= 1 << 31 or total < -(1 << 31)
                sigma[a, p, c] = total
                act[m, p, c] = max(total + bias[q, c], 0)
    return left


@compiled
def delta(act, last, residue, span, threshold, down, out, fired):
    """Changes that sigma-delta neurons send, ``spikegate.neurons.sigma_delta._Delta.encode`` over timesteps.
    Returns whether a register or an event left its 32 bits."""
    rows, positions, n = act.shape
    left = False
    for m in range(rows):
        a, count = m // span, 0
        for p in range(positions):
            for c in range(n):
                change = act[m, p, c] - np.int64(last[a, p, c]) + np.int64(residue[a, p, c])
                sent = change if abs(change) >= threshold else np.int64(0)
                for value in (act[m, p, c], change - sent, sent >> down):
                    left |= value >= 1 << 31 or value < -(1 << 31)
                residue[a, p, c] = change - sent
                last[a, p, c] = act[m, p, c]
                out[m, p, c] = sent >> down
                count += out[m, p, c] != 0
        fired[m] = count
    return left


@compiled
def delayed(x, delay, t, ring, out):
    """Events x [samples * span, positions, channels], each ``delay[channel]`` timesteps later, through `ring` [samples, depth, ...]."""
    span, depth = len(x) // len(ring), ring.shape[1]
    for m in range(len(x)):
        kept = ring[m // span]
        kept[t[m] % depth] = x[m]
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                out[m, p, c] = kept[(t[m] - delay[c]) % depth, p, c]
