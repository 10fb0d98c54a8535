"""NIR's equations in floats, forward Euler: an interpreter for tests, node by node, which knows nothing of the importer.

A signal is float [samples, *shape]. What feeds a node adds up. Feedback brings the timestep before: where a cycle holds one layer of
neurons, what it sends into its cycle is a timestep late; a Delay is late by itself.
"""

from __future__ import annotations

import numpy as np

FIRING = ("IF", "LIF", "CubaLIF", "Threshold")


def unfold(graph, prefix=""):
    """(nodes, edges) of a graph without subgraphs; their inputs and outputs stay as nodes that pass signals on."""
    nodes, edges, ends = {}, [], {}
    for name, node in graph.nodes.items():
        full = prefix + name
        if type(node).__name__ == "NIRGraph":
            inner, inside, _ = unfold(node, full + ".")
            nodes |= inner
            edges += inside
            first = [full + "." + n for n, k in node.nodes.items() if type(k).__name__ == "Input"]
            last = [full + "." + n for n, k in node.nodes.items() if type(k).__name__ == "Output"]
            ends[name] = (first[0], last[0])
        else:
            nodes[full] = node
            ends[name] = (full, full)
    edges += [(ends[a][1], ends[b][0]) for a, b in graph.edges]
    return nodes, edges, prefix


def two(value):
    return [int(v) for v in np.broadcast_to(np.asarray(value).ravel(), 2)]


def correlate(x, weight, stride, before, after, dilation, groups):
    """Convolution as the frameworks call it, one output after the other."""
    n, _, height, width = x.shape
    framed = np.zeros((n, x.shape[1], height + before[0] + after[0], width + before[1] + after[1]))
    framed[:, :, before[0] : before[0] + height, before[1] : before[1] + width] = x
    out, per, kh, kw = weight.shape
    rows = (framed.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (framed.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, out, rows, columns))
    for i in range(rows):
        for j in range(columns):
            up, left = i * stride[0], j * stride[1]
            seen = framed[:, :, up : up + dilation[0] * (kh - 1) + 1 : dilation[0], left : left + dilation[1] * (kw - 1) + 1 : dilation[1]]
            for o in range(out):
                first = o // (out // groups) * per
                y[:, o, i, j] = (seen[:, first : first + per] * weight[o]).sum((1, 2, 3))
    return y


def convolution(node, x):
    line = np.asarray(node.weight).ndim == 3
    weight = np.asarray(node.weight, float)
    if line:
        x, weight = x[:, :, None], weight[:, :, None]
    kernel = weight.shape[2:]

    def sizes(value, along):
        return [along, int(np.asarray(value).ravel()[0])] if line else two(value)

    stride, dilation = sizes(node.stride, 1), sizes(node.dilation, 1)
    if node.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = [0, 0] if isinstance(node.padding, str) else sizes(node.padding, 0)
    y = correlate(x, weight, stride, before, after, dilation, int(node.groups)) + np.asarray(node.bias, float)[:, None, None]
    return y[:, :, 0] if line else y


def pooled(node, x):
    kernel, stride, padding = (two(v) for v in (node.kernel_size, node.stride, node.padding))
    channels = x.shape[1]
    y = correlate(x, np.ones((channels, 1, *kernel)), stride, padding, padding, [1, 1], channels)
    return y / (kernel[0] * kernel[1]) if type(node).__name__ == "AvgPool2d" else y


def flattened(node, x):
    shape = x.shape[1:]
    first, last = int(node.start_dim), int(node.end_dim)
    last = len(shape) - 1 if last == -1 else last
    if first > last:
        return x
    return x.reshape(len(x), *shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


class Neurons:
    def __init__(self, node, dt):
        self.node, self.dt, self.kind = node, dt, type(node).__name__
        self.i = self.v = 0.0

    def step(self, x):
        k, n, dt = self.kind, self.node, self.dt
        if k == "Threshold":
            return (x > n.threshold).astype(float)
        if k in ("CubaLI", "CubaLIF"):
            self.i = self.i + dt * (-self.i + n.w_in * x) / n.tau_syn
            self.v = self.v + dt * ((n.v_leak - self.v) + n.r * self.i) / n.tau_mem
        elif k in ("LI", "LIF"):
            self.v = self.v + dt * ((n.v_leak - self.v) + n.r * x) / n.tau
        else:
            self.v = self.v + dt * n.r * x
        self.v = self.v + np.zeros_like(x)
        if k in ("I", "LI", "CubaLI"):
            return self.v.copy()
        z = self.v > n.v_threshold
        self.v = np.where(z, n.v_reset, self.v)
        return z.astype(float)


class Delayed:
    def __init__(self, node, dt):
        self.steps = np.round(np.asarray(node.delay, float) / dt).astype(int)
        self.past = []

    def step(self, x):
        self.past.append(x)
        steps = np.broadcast_to(self.steps, x.shape[1:])
        y = np.zeros_like(x)
        for place in np.ndindex(*x.shape[1:]):
            t = len(self.past) - 1 - steps[place]
            if t >= 0:
                y[(slice(None), *place)] = self.past[t][(slice(None), *place)]
        return y

    def peek(self, like):
        """What comes out in this timestep when nothing is entered: for a Delay in a cycle, of one timestep at least."""
        self.past.append(np.zeros_like(like))
        t = len(self.past) - 1
        y = np.zeros_like(like)
        steps = np.broadcast_to(self.steps, like.shape[1:])
        for place in np.ndindex(*like.shape[1:]):
            if t - steps[place] >= 0:
                y[(slice(None), *place)] = self.past[t - steps[place]][(slice(None), *place)]
        return y


def reachable(start, after):
    seen, waiting = set(), list(after[start])
    while waiting:
        n = waiting.pop()
        if n not in seen:
            seen.add(n)
            waiting += after[n]
    return seen


def interpret(graph, x, dt=1.0, held=()):
    """What the one Output receives, float [samples, T, *shape], and what every node sends.

    `x` [samples, T, *shape]. Nodes named in `held` keep what they get in the first timestep.
    """
    nodes, edges, _ = unfold(graph)
    kind = {n: type(k).__name__ for n, k in nodes.items()}
    after = {n: [b for a, b in edges if a == n] for n in nodes}
    before = {n: [a for a, b in edges if b == n] for n in nodes}
    waits = {n for n in nodes if kind[n] == "Delay" and (np.round(np.asarray(nodes[n].delay) / dt) >= 1).all()}
    quick = {n: [] if n in waits else after[n] for n in nodes}
    to = {n: reachable(n, quick) for n in nodes}
    late = {(a, b) for a, b in edges if a not in waits and kind[a] in FIRING and a in to[b] | {b} and b in to[a]}
    needs = {n: {a for a in before[n] if (a, n) not in late and a not in waits} for n in nodes}
    order = []
    while len(order) < len(nodes):
        ready = [n for n in nodes if n not in order and needs[n] <= set(order)]
        assert ready, "a cycle without neurons"
        order += ready
    state = {n: Neurons(k, dt) for n, k in nodes.items() if kind[n] in (*FIRING, "I", "LI", "CubaLI")}
    lines = {n: Delayed(k, dt) for n, k in nodes.items() if kind[n] == "Delay"}
    start = next(n for n in nodes if kind[n] == "Input" and not before[n])
    end = next(n for n in nodes if kind[n] == "Output" and not after[n])
    shape = shapes(nodes, before, start, x.shape[2:])
    old = {n: np.zeros((len(x), *shape[n])) for n in nodes}
    sent = {n: [] for n in nodes}
    for t in range(x.shape[1]):
        now = {n: lines[n].peek(np.zeros((len(x), *shape[n]))) for n in waits}
        for n in order:
            given = [old[a] if (a, n) in late else now[a] for a in before[n] if n not in waits]
            total = sum(given[1:], given[0]) if given else None
            if n == start:
                now[n] = x[:, t].astype(float)
            elif n in state:
                now[n] = state[n].step(total)
            elif n in waits:
                continue
            elif n in held and t:
                now[n] = old[n]
            else:
                now[n] = pass_on(nodes[n], kind[n], total, lines.get(n))
        for n in waits:
            lines[n].past[-1] = sum(old[a] if (a, n) in late else now[a] for a in before[n])
        old = now
        for n in nodes:
            sent[n].append(now[n])
    return np.stack(sent[end], 1), {n: np.stack(s, 1) for n, s in sent.items()}


def pass_on(node, kind, x, line):
    if kind in ("Affine", "Linear"):
        return x @ np.asarray(node.weight, float).T + (np.asarray(node.bias, float) if kind == "Affine" else 0.0)
    if kind in ("Conv1d", "Conv2d"):
        return convolution(node, x)
    if kind in ("SumPool2d", "AvgPool2d"):
        return pooled(node, x)
    if kind == "Flatten":
        return flattened(node, x)
    if kind == "Scale":
        return x * node.scale
    return line.step(x) if kind == "Delay" else x


def shapes(nodes, before, start, given):
    """What each node sends, by trying it on zeros."""
    found = {start: tuple(given)}
    while len(found) < len(nodes):
        for n, node in nodes.items():
            known = [found[a] for a in before[n] if a in found]
            if n not in found and known:
                kind = type(node).__name__
                plain = kind in (*FIRING, "I", "LI", "CubaLI", "Delay", "Input", "Output")
                found[n] = known[0] if plain else pass_on(node, kind, np.zeros((1, *known[0])), None).shape[1:]
    return found


def scores(graph, answer):
    """One answer for each sample: sums over timesteps; the last value of an integrator I."""
    nodes, edges, _ = unfold(graph)
    end = next(n for n in nodes if type(nodes[n]).__name__ == "Output" and not [1 for a, _ in edges if a == n])
    feeds = [a for a, b in edges if b == end]
    while len(feeds) == 1 and type(nodes[feeds[0]]).__name__ == "Output":
        feeds = [a for a, b in edges if b == feeds[0]]
    last = len(feeds) == 1 and type(nodes[feeds[0]]).__name__ == "I"
    return answer[:, -1] if last else answer.sum(1)
