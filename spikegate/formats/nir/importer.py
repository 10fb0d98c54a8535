"""A NIR graph in the chip's integers as a graph of ops: the way back of spikegate/formats/nir/exporter.py, for other writers' files too.

Numbers must be the chip's: even 8-bit weights, whole biases and thresholds, decays of 1/4096, dt = 1; anything else is
refused by name, as is whatever the chip lacks. To bring a float model in, quantise it first (docs/importing.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.graph.ir import INPUT, Graph, Payload, load_ops
from spikegate.neurons.cuba import DECAY_ONE, Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.current import Current
from spikegate.ops.dense import Dense
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.membrane import Membrane
from spikegate.ops.readout import Readout

NEURONS = ("LIF", "IF", "CubaLIF")
SYNAPTIC = ("Conv2d", "Affine", "Linear", "SumPool2d")
KNOWN = (*NEURONS, *SYNAPTIC, "Flatten", "Input", "Output", "Scale", "I")
EXACT = 1e-9


def read_nir(path: Path, timesteps: int | None = None) -> Graph:
    """`from_nir` of a file; a DeployError names what is missing or damaged."""
    import nir

    try:
        try:
            found = nir.read(path)
        except ValueError:  # its type check takes groups and oblong kernels for mistakes; `from_nir` checks shapes itself
            found = nir.read(path, type_check=False)
    except Exception as e:  # h5py and nir raise many types for a damaged file
        raise DeployError(str(path), f"not a readable NIR file ({str(e).splitlines()[0] if str(e) else type(e).__name__})",
                          "write it with nir 1.0.8") from None
    return from_nir(found, timesteps)


def from_nir(found: Any, timesteps: int | None = None) -> Graph:
    """The graph, checked. `timesteps` and the input's range come from the Input's metadata where ours wrote it; else T is needed and
    the input is binary spikes.

    Raises
    ------
    DeployError
        Listing every node that cannot be taken.
    """
    load_ops()
    kinds = {name: type(node).__name__ for name, node in found.nodes.items()}
    problems = [f"{n} ({k})" for n, k in kinds.items() if k not in KNOWN]
    if problems:
        raise DeployError("NIR", f"cannot take {', '.join(problems)}", f"known: {', '.join(KNOWN)}")
    inputs = [n for n, k in kinds.items() if k == "Input"]
    if len(inputs) != 1:
        raise DeployError("NIR", f"{len(inputs)} inputs", "give one")
    facts = found.nodes[inputs[0]].metadata
    steps = timesteps or int(facts.get("timesteps", 0))
    if not steps:
        raise DeployError("NIR", "does not say how many timesteps a sample has", "give timesteps")
    return _Reader(found, kinds, inputs[0], steps).graph()


class _Reader:
    def __init__(self, found: Any, kinds: dict[str, str], start: str, timesteps: int) -> None:
        self.nodes, self.kinds, self.start, self.steps = found.nodes, kinds, start, timesteps
        self.before = {n: [a for a, b in found.edges if b == n] for n in kinds}
        self.after = {n: [b for a, b in found.edges if a == n] for n in kinds}
        facts = found.nodes[start].metadata
        self.payload = Payload(int(facts.get("low", 0)), int(facts.get("high", 1)))
        self.shapes = {n: self.shape(node) for n, node in found.nodes.items()}
        self.made = Graph(timesteps=timesteps, input_shape=self.flat(self.shapes[start]), input_payload=self.payload)

    @staticmethod
    def shape(node: Any) -> tuple[int, ...]:
        """What a node sends: (channels, height, width) or (features,)."""
        value = next(iter(node.output_type.values()))
        return () if value is None else tuple(int(v) for v in np.atleast_1d(value))

    @staticmethod
    def flat(shape: tuple[int, ...]) -> tuple[int, ...]:
        """(positions, channels) of a map."""
        return (shape[1] * shape[2], shape[0]) if len(shape) == 3 else shape

    def order(self) -> list[str]:
        """Nodes after their sources; a cycle is refused."""
        done: list[str] = []
        waiting = list(self.kinds)
        while waiting:
            ready = [n for n in waiting if all(s in done for s in self.before[n])]
            if not ready:
                raise DeployError(waiting[0], "is part of a cycle", "recurrent NIR graphs are not taken")
            done += ready
            waiting = [n for n in waiting if n not in ready]
        return done

    def graph(self) -> Graph:
        for name in self.order():
            kind = self.kinds[name]
            if kind in NEURONS:
                self.neurons(name)
            elif kind == "Scale":
                self.replay(name)
            elif kind == "Conv2d" and self.branch(name):
                self.made.add(name, Current(copies=len(self.after[name]), **self.conv(name)), x=self.sources(name))
            elif kind == "I":
                self.head(name)
            elif kind == "Output":
                self.output(name)
        self.made.check()
        return self.made

    def branch(self, name: str) -> bool:
        """Whether a convolution is one of several that feed its neurons."""
        if "branch" in self.nodes[name].metadata:
            return True
        return any(self.kinds[n] in NEURONS and len(self.before[n]) > 1 for n in self.after[name])

    def sources(self, name: str) -> list[str]:
        """Ops that feed a node, by name."""
        found = [INPUT if s == self.start else s for s in self.before[name]]
        for s in found:
            if s != INPUT and s not in self.made.ops:
                raise DeployError(name, f"reads {s} ({self.kinds[s]})", "on chip synapses read neurons")
        return found

    def whole(self, name: str, values: Any, step: int = 1) -> np.ndarray:
        """Integers, or a refusal."""
        values = np.asarray(values, float)
        if np.abs(values - step * np.round(values / step)).max(initial=0) > EXACT:
            what = "its weights are not even integers" if step == 2 else "has numbers that are not whole"
            raise DeployError(name, what, "quantise the model first: docs/importing.md")
        return np.round(values).astype(np.int32)

    def one(self, name: str, field: str) -> float:
        """A neuron parameter that must be the same everywhere."""
        values = np.unique(getattr(self.nodes[name], field))
        if len(values) != 1:
            raise DeployError(name, f"{field} differs from neuron to neuron", "neurons of a layer share their parameters")
        return float(values[0])

    def decay(self, name: str, tau: float) -> int:
        exact = DECAY_ONE / tau if tau else -1.0
        if not 0 < exact <= DECAY_ONE or abs(exact - round(exact)) > 1e-6:
            raise DeployError(name, f"time constant {tau:g} is no decay in 1/4096 at dt = 1", "use 4096 / tau whole, tau >= 1")
        return round(exact)

    def neuron(self, name: str) -> Cuba:
        """The integer neuron of a node; r and w_in must leave the input as it is."""
        kind = self.kinds[name]
        for field in ("v_leak", "v_reset") if kind != "IF" else ("v_reset",):
            if self.one(name, field):
                raise DeployError(name, f"{field} is not 0", "shift the threshold by it")
        vth = int(self.whole(name, self.one(name, "v_threshold")))
        if kind == "IF":
            gain, decays = self.one(name, "r"), (DECAY_ONE, 0)
        elif kind == "LIF":
            tau = self.one(name, "tau")
            gain, decays = self.one(name, "r") / tau, (DECAY_ONE, self.decay(name, tau))
        else:
            syn, mem = self.one(name, "tau_syn"), self.one(name, "tau_mem")
            gain = self.one(name, "r") / mem * self.one(name, "w_in") / syn
            decays = self.decay(name, syn), self.decay(name, mem)
        if abs(gain - 1) > EXACT:
            raise DeployError(name, f"scales its input by {gain:g}", "fold the factor into the weights: r = tau")
        return Cuba(*decays, vth)

    def conv(self, name: str) -> dict[str, Any]:
        """Fields of a convolution's op."""
        node = self.nodes[name]
        stride, dilation = (np.broadcast_to(v, 2) for v in (node.stride, node.dilation))
        if stride[0] != stride[1] or (dilation != 1).any() or (isinstance(node.padding, str) and node.padding != "valid"):
            raise DeployError(name, "uneven stride, dilation or padding by name", "use one stride, no dilation and padding in numbers")
        padding = (0, 0) if isinstance(node.padding, str) else tuple(int(v) for v in np.broadcast_to(node.padding, 2))
        channels, *grid = self.shapes[self.before[name][0]]
        assert channels
        return {
            "weight": self.whole(name, node.weight, 2), "bias": self.whole(name, node.bias), "grid": (int(grid[0]), int(grid[1])),
            "stride": int(stride[0]), "padding": padding[0] if padding[0] == padding[1] else padding, "groups": int(node.groups),
        }  # fmt: skip

    def affine(self, name: str) -> tuple[np.ndarray, np.ndarray, list[str], tuple[int, ...]]:
        """(weights [out, in] with positions first, bias, sources, shape of the map that is read) of a linear layer."""
        node, source = self.nodes[name], self.before[name][0]
        flattened = self.kinds[source] == "Flatten"
        reads = source if flattened else name
        before = self.shapes[self.before[reads][0]]
        weight = self.whole(name, node.weight, 2)
        if len(before) == 3:
            weight = weight.reshape(len(weight), before[0], -1).transpose(0, 2, 1).reshape(len(weight), -1)
        bias = self.whole(name, node.bias) if self.kinds[name] == "Affine" else np.zeros(len(weight), np.int32)
        return weight, bias, self.sources(reads), before

    def neurons(self, name: str) -> None:
        fed = self.before[name]
        synaptic = [s for s in fed if self.kinds[s] in SYNAPTIC]
        currents = [s for s in synaptic if s in self.made.ops]
        shape = self.flat(self.shapes[name])
        if currents or not synaptic:
            more = [INPUT if s == self.start else s for s in fed if s not in currents]
            op = Membrane(shape, self.neuron(name)) if currents else Lif(shape, self.neuron(name))
            self.made.add(name, op, **({"current": currents} if currents else {}), **({"x": more} if more else {}))
        elif len(fed) > 1:
            raise DeployError(name, f"is fed by {', '.join(fed)}", "several convolutions, or one linear layer")
        elif self.kinds[fed[0]] == "SumPool2d":
            self.pool(name, fed[0])
        elif self.kinds[fed[0]] == "Conv2d":
            self.made.add(name, Conv(neuron=self.neuron(name), **self.conv(fed[0])), x=self.sources(fed[0]))
        else:
            weight, bias, sources, _ = self.affine(fed[0])
            self.made.add(name, Dense(weight, bias, self.neuron(name)), x=sources)

    def pool(self, name: str, pool: str) -> None:
        """An OR: a sum over windows before neurons without memory that one spike reaches."""
        at_once = self.kinds[name] == "LIF" and (self.one(name, "tau"), self.one(name, "r")) == (1, 1)
        if not at_once or not 0 <= self.one(name, "v_threshold") < 1:
            raise DeployError(name, "is fed by a sum over windows", "taken where it is an OR: LIF with tau 1, r 1, threshold 0.5")
        node = self.nodes[pool]
        sizes = [np.broadcast_to(v, 2) for v in (node.kernel_size, node.stride, node.padding)]
        if any(a != b for a, b in sizes):
            raise DeployError(pool, "its windows are not square", "use square windows")
        channels, h, w = self.shapes[self.before[pool][0]]
        self.made.add(name, MaxPool((h, w), channels, *(int(v[0]) for v in sizes)), x=self.sources(pool))

    def replay(self, name: str) -> None:
        facts = self.nodes[name].metadata
        if np.any(self.nodes[name].scale != 1) or self.before[name] != [self.start]:
            raise DeployError(name, "scales a signal", "fold the factor into the weights")
        low, high = (int(facts.get(k, v)) for k, v in (("low", self.payload.low), ("high", self.payload.high)))
        self.made.add(name, Inject(self.flat(self.shapes[name]), low, high), x=INPUT)

    def head(self, name: str) -> None:
        fed = self.before[name]
        if len(fed) != 1 or self.kinds[fed[0]] not in ("Affine", "Linear") or self.one(name, "r") != 1:
            raise DeployError(name, "an integrator that is no head", "taken after one linear layer, with r = 1")
        weight, bias, sources, before = self.affine(fed[0])
        tokens = before[1] * before[2] if len(before) == 3 else 1
        self.made.add(name, Readout(weight.reshape(len(weight), tokens, -1), bias, self.steps), x=sources)

    def output(self, name: str) -> None:
        (source,) = self.before[name]
        if self.kinds[source] == "I":
            classes = self.shapes[source][0]
            self.made.add(name, ExitGate(classes, self.steps, np.full(self.steps, NEVER)), logits=source)
