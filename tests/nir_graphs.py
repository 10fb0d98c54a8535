"""Random NIR graphs of all node types, with numbers that floats and the chip both hold, or with any numbers."""

from __future__ import annotations

import nir
import numpy as np

DTS = (1.0, 0.5, 0.25)


class Maker:
    """Grows a graph layer by layer; every node is on a way from the input to the output."""

    def __init__(self, rng, exact=True):
        self.rng, self.exact, self.nodes, self.edges = rng, exact, {}, []
        self.dt = float(rng.choice(DTS))
        self.timesteps = int(rng.integers(1, 5))
        self.grain = float(2.0 ** rng.integers(-3, 3)) if exact else 1.0

    def chance(self, p):
        return self.rng.random() < p

    def add(self, node, *sources, name=None):
        name = name or f"{type(node).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = node
        self.edges += [(s, name) for s in sources]
        return name

    def weights(self, *shape):
        if not self.exact:
            return self.rng.normal(0, 1, shape)
        return self.rng.integers(-6, 9, shape) * 2 * self.grain

    def biases(self, n):
        if self.chance(0.4):
            return np.zeros(n)
        return self.rng.integers(-4, 6, n) * self.grain if self.exact else self.rng.normal(0, 0.3, n)

    def per(self, shape, values):
        """A neuron's number as (), (1,), all alike, or one for each neuron or channel."""
        way = self.rng.integers(0, 5)
        value = float(self.rng.choice(values))
        if way == 0:
            return np.array(value)
        if way == 1:
            return np.array([value])
        if way == 2 and self.chance(0.5):
            return self.rng.choice(values, shape).astype(float)
        if way == 3 and len(shape) > 1 and self.chance(0.5):
            each = self.rng.choice(values, (shape[0], *[1] * (len(shape) - 1)))
            return np.broadcast_to(each, shape).astype(float).copy()
        return np.full(shape, value)

    def alike(self, shape, values):
        return np.full(shape if self.chance(0.7) else (), float(self.rng.choice(values)))

    def together(self, **fields):
        """nir wants equal shapes of all parameters."""
        shape = np.broadcast_shapes(*(np.shape(v) for v in fields.values()))
        return {k: np.broadcast_to(v, shape).astype(float).copy() for k, v in fields.items()}

    def neuron(self, shape, kinds=("IF", "LIF", "CubaLIF", "Threshold")):
        kind = str(self.rng.choice(kinds))
        dt, choice = self.dt, self.per if self.chance(0.3) else self.alike
        taus = np.array([1.0, 2.0, 4.0]) * dt if self.exact else self.rng.uniform(1, 8, 3) * dt
        theta = choice(shape, np.array([0.5, 4, 6, 8, 7.5, 16]) * self.grain if self.exact else self.rng.uniform(0.3, 2, 3))
        leak = choice(shape, np.array([0, 0, 4, -8]) * self.grain if self.exact else self.rng.normal(0, 0.2, 3))
        reset = np.array(float(self.rng.choice([-1.0, 0.25]))) if self.chance(0.04) else np.array(0.0)
        gain = 2.0 ** self.rng.integers(-1, 2) if self.exact else self.rng.uniform(0.5, 2)
        if kind == "Threshold":
            return nir.Threshold(theta)
        if kind in ("I", "IF"):
            r = np.array(gain / dt)
            if kind == "I":
                return nir.I(np.full(shape, float(r)) if self.chance(0.7) else r)
            return nir.IF(**self.together(r=r, v_threshold=theta, v_reset=reset))
        if kind in ("LI", "LIF"):
            tau = choice(shape, taus)
            fields = {"tau": tau, "r": gain * tau / dt, "v_leak": leak}
            more = {"v_threshold": theta, "v_reset": reset} if kind == "LIF" else {}
            return getattr(nir, kind)(**self.together(**fields, **more))
        syn, mem = choice(shape, taus), choice(shape, taus)
        fields = {"tau_syn": syn, "tau_mem": mem, "r": gain * mem / dt, "v_leak": leak if self.chance(0.3) else 0 * leak, "w_in": syn / dt}
        more = {"v_threshold": theta, "v_reset": reset} if kind == "CubaLIF" else {}
        return getattr(nir, kind)(**self.together(**fields, **more))

    def linear(self, source, shape):
        """A linear node behind a signal; returns (name, shape)."""
        rng = self.rng
        pick = rng.random()
        if len(shape) == 1:
            if pick < 0.15:
                return self.add(nir.Scale(self.per(shape, np.array([0.5, 1, 2, -2.0]))), source), shape
            out = int(rng.integers(1, 6))
            w = self.weights(out, shape[0])
            return self.add(nir.Affine(w, self.biases(out)) if self.chance(0.5) else nir.Linear(w), source), (out,)
        if pick < 0.12:
            return self.add(nir.Scale(self.per(shape, np.array([0.5, 1, 2.0]))), source), shape
        if pick < 0.3:
            flat = int(np.prod(shape))
            name = self.add(nir.Flatten(np.array(shape), 0, -1), source)
            return (name, (flat,)) if self.chance(0.3) else self.linear(name, (flat,))
        if len(shape) == 2:
            out = int(rng.integers(1, 3))
            k, stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(1, 3))
            padding = "same" if self.chance(0.2) and stride == 1 else "valid" if self.chance(0.1) else int(rng.integers(0, 3))
            reach = shape[1] + 2 * (padding if isinstance(padding, int) else 0) - dilation * (k - 1)
            if reach < 1:
                return self.add(nir.Scale(np.array(2.0)), source), shape
            said = shape[1] if self.chance(0.7) else None
            made = nir.Conv1d(said, self.weights(out, shape[0], k), stride, padding, dilation, 1, self.biases(out))
            length = shape[1] if padding == "same" else (reach - 1) // stride + 1
            return self.add(made, source), (out, length)
        if pick < 0.5:
            k = (int(rng.integers(1, min(3, shape[1]) + 1)), int(rng.integers(1, min(3, shape[2]) + 1)))
            k = (min(k), min(k)) if self.chance(0.6) else k
            stride = k if self.chance(0.6) else tuple(int(v) for v in rng.integers(1, 3, 2))
            padding = (0, 0) if self.chance(0.7) else tuple(int(v) for v in rng.integers(0, 2, 2))
            kinds = (nir.SumPool2d, nir.AvgPool2d) if {*k} <= {1, 2} or not self.exact else (nir.SumPool2d,)
            made = kinds[int(rng.integers(0, len(kinds)))](np.array(k), np.array(stride), np.array(padding))
            size = [(n + 2 * p - a) // s + 1 for n, p, a, s in zip(shape[1:], padding, k, stride)]
            return self.add(made, source), (shape[0], *size)
        groups = shape[0] if self.chance(0.25) else 1
        out = groups * int(rng.integers(1, 3))
        k = tuple(int(v) for v in rng.integers(1, 4, 2))
        k = (k[0], k[0]) if self.chance(0.6) else k
        stride = tuple(int(v) for v in rng.integers(1, 3, 2)) if self.chance(0.3) else int(rng.integers(1, 3))
        dilation = int(rng.integers(1, 3)) if self.chance(0.2) else 1
        one = stride == 1 or stride == (1, 1)
        padding = "same" if self.chance(0.15) and one else (int(rng.integers(0, 2)), int(rng.integers(0, 3)))
        steps, frame = np.broadcast_to(stride, 2), (0, 0) if padding == "same" else padding
        reach = [n + 2 * p - dilation * (a - 1) for n, p, a in zip(shape[1:], frame, k)]
        if padding != "same" and min(reach) < 1:
            return self.add(nir.Scale(np.array(2.0)), source), shape
        size = shape[1:] if padding == "same" else [int((r - 1) // s + 1) for r, s in zip(reach, steps)]
        said = None if self.chance(0.3) or groups > 1 or k[0] != k[1] else shape[1:]
        made = nir.Conv2d(said, self.weights(out, shape[0] // groups, *k), stride, padding, dilation, groups, self.biases(out))
        return self.add(made, source), (out, *(int(v) for v in size))

    def like(self, source, shape):
        """A linear node that keeps the shape."""
        if len(shape) == 1 and self.chance(0.8):
            w = self.weights(shape[0], shape[0])
            return self.add(nir.Affine(w, self.biases(shape[0])) if self.chance(0.5) else nir.Linear(w), source)
        if len(shape) == 3 and self.chance(0.7):
            made = nir.Conv2d(None, self.weights(shape[0], shape[0], 3, 3), 1, 1, 1, 1, self.biases(shape[0]))
            return self.add(made, source)
        return self.add(nir.Scale(np.array(2.0 * self.grain)), source)

    def layer(self, source, shape):
        """Linear nodes, perhaps a second way or a delay, neurons, perhaps feedback."""
        name, out = source, shape
        for _ in range(int(self.rng.choice([0, 1, 1, 1, 2]))):
            name, out = self.linear(name, out)
        if self.chance(0.12):
            name = self.add(nir.Delay(self.per(out, np.array([0, 1, 2.0]) * self.dt)), name)
        ways = [name]
        if self.chance(0.2):
            ways.append(self.like(source, out) if out == shape else self.like(name, out))
        node = self.neuron(out)
        if self.chance(0.15) and len(out) == 1:
            inner = {"in": nir.Input(np.array(out)), "n": node, "w": nir.Linear(self.weights(out[0], out[0]))}
            inner["out"] = nir.Output(np.array(out))
            edges = [("in", "n"), ("n", "w"), ("w", "n"), ("n", "out")]
            return self.add(nir.NIRGraph(inner, edges, type_check=False), *ways), out
        name = self.add(node, *ways)
        if self.chance(0.15):
            back = self.like(name, out)
            if self.chance(0.3):
                back = self.add(nir.Delay(np.full(out, self.dt)), back)
            self.edges.append((back, name))
        return name, out

    def graph(self):
        rng = self.rng
        shapes = [(int(rng.integers(1, 6)),), (int(rng.integers(1, 3)), int(rng.integers(2, 6)))]
        shapes.append((int(rng.integers(1, 3)), *(int(v) for v in rng.integers(2, 6, 2))))
        shape = shapes[int(rng.integers(0, 3))]
        self.shape = shape
        name = self.add(nir.Input(np.array(shape)), name="in")
        last, first = shape, []
        for _ in range(int(rng.integers(0, 4))):
            name, last = self.layer(name, last)
            first.append((name, last))
        ends, way = [name], rng.random()
        if way < 0.5 or not first:
            for _ in range(int(rng.integers(0 if first else 1, 3))):
                ends[0], last = self.linear(ends[0], last)
        if way < 0.35:
            ends = [self.add(self.neuron(last, ("I", "LI", "CubaLI")), ends[0])]
        elif self.chance(0.2):
            ends += [n for n, s in first if s == last and n not in ends]
        self.add(nir.Output(np.array(last)), *ends, name="out")
        return nir.NIRGraph(self.nodes, self.edges, type_check=False)

    def inputs(self, n=3):
        return (self.rng.random((n, self.timesteps, *self.shape)) < 0.5).astype(np.int32)
