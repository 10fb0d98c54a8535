"""The walk over a NIR graph: every node and edge becomes part of a layer's drive or of the answer, or is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.conversions import LINEAR, neurons
from spikegate.formats.nir.cycles import layers_in_order, looping, order
from spikegate.formats.nir.linear import Each, Shape, applied, joined, size_of
from spikegate.formats.nir.plan import LAST, SPIKES, SUM, Head, Plan, Source, Term
from spikegate.formats.nir.reading import Flat
from spikegate.formats.nir.shapes import shapes
from spikegate.formats.nir.soft import Reset
from spikegate.graph.ir import Payload

FIRING = ("IF", "LIF", "CubaLIF", "Threshold")
VOLTAGE = ("I", "LI", "CubaLI")
MOST_TERMS = 64
LATEST = 62  # timesteps that a chip holds an event


def plan_of(flat: Flat, timesteps: int, dt: float, exact: bool, reset: Reset | None = None) -> Plan:
    """The plan of a graph. With `exact`, delays must be whole timesteps; `reset` is that of neurons whose metadata says no other.

    Raises
    ------
    DeployError
        Naming the node that cannot be taken, or that nothing feeds, or that leads to no output.
    """
    inputs, outputs = flat.only("Input"), flat.only("Output")
    for what, found in (("input", inputs), ("output", outputs)):
        if len(found) != 1:
            told = f" ({', '.join(found)})" if found else ""
            raise DeployError("NIR", f"{len(found)} {what}s{told}", f"a net has one {what}: leave one {what.capitalize()} node in the file")
    _reached(flat, inputs[0], outputs[0])
    facts = flat.nodes[inputs[0]].metadata
    payload = payload_of(inputs[0], facts, Payload(0, 1))
    sent = shapes(flat)
    plan = Plan(timesteps, inputs[0], sent[inputs[0]], payload, dt=dt, reset=reset or Reset())
    _Walk(flat, sent, plan, dt, exact).run(outputs[0])
    return plan


def payload_of(name: str, facts: dict[str, Any], otherwise: Payload) -> Payload:
    """Range of integers in a node's metadata."""
    low, high = (_whole(name, facts.get(k, v)) for k, v in (("low", otherwise.low), ("high", otherwise.high)))
    if low > high:
        raise DeployError(name, f"metadata low {low} is above high {high}", "give the range of the host's integers")
    return Payload(low, high)


def _whole(name: str, v: Any) -> int:
    if not isinstance(v, int | float | np.integer | np.floating) or not np.isfinite(v) or v != int(v) or abs(int(v)) >= 1 << 23:
        raise DeployError(name, f"metadata low or high is {v}", "give whole numbers of at most 24 bits")
    return int(v)


def _reached(flat: Flat, start: str, end: str) -> None:
    """Every node lies on a way from the input to the output."""
    for first, onward, what, hint in (
        (start, flat.after, "is not reached from the input", "connect it, or take it out of the file"),
        (end, flat.before, "leads to no output", "connect it to the Output, or take it out of the file"),
    ):
        seen, waiting = {first}, [first]
        while waiting:
            new = [n for n in onward(waiting.pop()) if n not in seen]
            seen.update(new)
            waiting += new
        lost = [f"{n} ({flat.kind(n)})" for n in flat.nodes if n not in seen]
        if lost:
            raise DeployError(", ".join(lost), what, hint)
    if flat.before(start):
        raise DeployError(start, f"is fed by {', '.join(flat.before(start))}", "an input is fed by the host alone")
    if flat.after(end):
        raise DeployError(end, f"feeds {', '.join(flat.after(end))}", "an output feeds nothing")


class _Walk:
    def __init__(self, flat: Flat, sent: dict[str, Shape], plan: Plan, dt: float, exact: bool) -> None:
        self.flat, self.sent, self.plan, self.dt, self.exact = flat, sent, plan, dt, exact
        self.loops = looping(flat, FIRING, dt)
        self.forms: dict[str, list[Term]] = {}  # what each node sends

    def run(self, end: str) -> None:
        firing = {n for n in self.flat.nodes if self.flat.kind(n) in FIRING}
        for name in firing:  # known beforehand, because feedback reads them
            self.forms[name] = [Term(Each(self.sent[name], self.sent[name]), (Source(name),))]
        for name in order(self.flat, FIRING):
            kind, node = self.flat.kind(name), self.flat.nodes[name]
            if name == self.plan.input_name:
                self.forms[name] = [Term(Each(self.sent[name], self.sent[name]), (Source(name),))]
            elif kind in FIRING:
                self.plan.layers[name] = neurons(name, node, self.sent[name], self.arriving(name), self.dt, self.plan.reset)
            elif kind in VOLTAGE:
                self.integrator(name, node, end)
            elif kind == "Delay":
                self.forms[name] = self.delayed(name, node)
            elif kind == "Scale" and {"low", "high"} <= {*node.metadata}:
                self.replay(name, node)
            elif kind in LINEAR:
                self.forms[name] = self.linear(name, node)
            elif name != end:  # inputs and outputs of subgraphs
                self.forms[name] = self.arriving(name)
        if self.plan.head is None:
            terms = self.arriving(end)
            plain = all(isinstance(t.map, Each) and np.all(t.map.factor == 1.0) and not np.any(t.bias) for t in terms)
            spikes = plain and all(s.name in firing and s.delay == 0 for t in terms for s in t.sources)
            name = next((t.node for t in terms if t.node), end)
            self.plan.head = Head(name, end, self.sent[end], terms, SPIKES if spikes else SUM)
        layers = self.plan.layers
        read = {n: {s for t in layer.terms for s in t.sources if s.name in firing} for n, layer in layers.items()}
        now, late = ({n: {s.name for s in found if (np.min(s.delay) > 0) == d} for n, found in read.items()} for d in (False, True))
        self.plan.layers = {n: layers[n] for n in layers_in_order(now, late)}

    def arriving(self, name: str) -> list[Term]:
        """The terms that add up at a node; those of one map become one term of several sources."""
        found: list[Term] = []
        for before in self.flat.before(name):
            late = (before, name) in self.loops
            for t in self.forms[before]:
                t = replace(t, sources=tuple(replace(s, delay=_plus(before, s.delay, 1)) for s in t.sources)) if late else t
                twin = next((i for i, f in enumerate(found) if _same(f, t)), None)
                if twin is None:
                    found.append(t)
                else:
                    found[twin] = replace(found[twin], sources=(*found[twin].sources, *t.sources))
        if len(found) > MOST_TERMS:
            raise DeployError(name, f"is driven over {len(found)} ways", "put neurons between its linear nodes")
        return found

    def linear(self, name: str, node: Any) -> list[Term]:
        kind = self.flat.kind(name)
        terms = self.arriving(name)
        given, sent = self.sent[self.flat.before(name)[0]], self.sent[name]
        made, bias = LINEAR[kind](name, node, given, sent)
        out = []
        for i, t in enumerate(terms):
            through = applied(made, np.broadcast_to(t.bias, (1, size_of(given))))[0] if np.any(t.bias) else 0.0
            both = through + bias if i == 0 else through  # a node adds its bias once
            node_name = t.node if kind == "Flatten" else name
            out.append(Term(joined(name, made, t.map), t.sources, both if np.any(both) else 0.0, node_name, "branch" in node.metadata))
        return out

    def delayed(self, name: str, node: Any) -> list[Term]:
        shape = self.sent[name]
        exact = np.asarray(node.delay, float) / self.dt
        steps = np.round(exact)
        if (exact < 0).any() or (steps > LATEST).any():
            raise DeployError(name, f"delays by {np.asarray(node.delay).min():g} s", "a delay takes 0 timesteps or more, 62 on a chip")
        if self.exact and np.abs(exact - steps).max() > 1e-9:
            what = f"delays by {exact.flat[np.abs(exact - steps).argmax()]:g} timesteps"
            raise DeployError(name, what, "give dt such that delays are whole timesteps")
        if np.abs(exact - steps).max() > 1e-9:
            self.plan.notes.append(f"{name}: delays rounded to whole timesteps, by up to {np.abs(exact - steps).max():.2g}")
        uniform = int(steps.flat[0]) if (steps == steps.flat[0]).all() else None
        out = []
        for t in self.arriving(name):
            if np.any(t.bias) and steps.any():
                raise DeployError(name, "delays a current with a bias, which would begin late", "put the Delay before the Affine")
            if uniform is None and not isinstance(t.map, Each):
                raise DeployError(name, "delays differ behind synapses", "put the Delay before the linear node")
            each = uniform if uniform is not None else tuple(int(v) for v in np.broadcast_to(steps, shape).ravel())
            sources = tuple(replace(s, delay=_plus(name, s.delay, each)) for s in t.sources)
            out.append(replace(t, sources=sources))
        return out

    def replay(self, name: str, node: Any) -> None:
        """Our own mark: the host's integers, held and repeated."""
        if self.flat.before(name) != [self.plan.input_name] or np.any(np.asarray(node.scale) != 1) or self.plan.replay:
            raise DeployError(name, "has low and high in its metadata, but does not hold the input", "take the metadata out")
        self.plan.replay, self.plan.replay_payload = name, payload_of(name, node.metadata, self.plan.payload)
        self.forms[name] = [Term(Each(self.sent[name], self.sent[name]), (Source(name),))]

    def integrator(self, name: str, node: Any, end: str) -> None:
        readers = self.flat.after(name)
        passed = name
        while len(readers) == 1 and readers[0] in self.flat.joints:
            passed, readers = readers[0], self.flat.after(readers[0])
        if readers != [end] or self.flat.before(end) != [passed]:
            others = ", ".join(r for r in readers if r != end) or end
            hint = "on chip neurons send spikes; an integrator can stand before the Output alone"
            raise DeployError(name, f"sends its voltage to {others}", hint)
        layer = neurons(name, node, self.sent[name], self.arriving(name), self.dt, self.plan.reset)
        if self.flat.kind(name) == "I":
            self.plan.head = Head(name, end, self.sent[name], layer.terms, LAST, layer.gain)
        else:
            self.plan.head = Head(name, end, self.sent[name], [], SUM, layer=layer)


def _same(a: Term, b: Term) -> bool:
    """Whether two terms are one map of two sources."""
    if a.map is b.map:
        return not np.any(a.bias) and not np.any(b.bias)
    if not isinstance(a.map, Each) or not isinstance(b.map, Each) or np.any(a.bias) or np.any(b.bias):
        return False
    return a.map.in_shape == b.map.in_shape and a.map.out_shape == b.map.out_shape and np.array_equal(a.map.factor, b.map.factor)


def _plus(name: str, a: int | tuple[int, ...], b: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return tuple(x + y for x, y in zip(a, b))
    one, each = (a, b) if isinstance(a, int) else (b, a)
    assert isinstance(one, int) and isinstance(each, tuple)
    return tuple(one + v for v in each)
