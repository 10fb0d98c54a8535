"""Reads a SpikingJelly model: runs it on real tensors whose elements are tracked (see signals.py), call by call (see watching.py)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from spikegate.convert.spikingjelly import firing, functions, naming, nodes
from spikegate.convert.spikingjelly.head import head_of
from spikegate.convert.spikingjelly.moves import MOVES
from spikegate.convert.spikingjelly.plan import IMAGE, FloatNeuron, Layer, Neurons, Plan, Pool, Problem, Refused
from spikegate.convert.spikingjelly.signals import Image, Signal, Spikes, alike, numbers, unknown
from spikegate.convert.spikingjelly.watching import Calls, Marks, around_modules, tensors_in, users_line
from spikegate.graph.ir import INPUT

STAND_IN = FloatNeuron(0.5, 0.5, 1.0)  # for neurons that are refused
NAMES_OF_OPS = ("readout", "exit", IMAGE, INPUT)  # of the graph
MODULE_HINTS = {
    "LayerNorm": "it needs statistics of each input; train with BatchNorm, which folds into the weights",
    "GroupNorm": "it needs statistics of each input; train with BatchNorm, which folds into the weights",
    "ReLU": "replace it by neurons", "GELU": "replace it by neurons", "Softmax": "leave it out: it changes no answer",
    "SynapseFilter": "leave it out, or use LIFNode", "Delay": "leave it out", "ConvTranspose2d": "use Conv2d",
    "MultiheadAttention": "use spiking self-attention: q, k, v through neurons, products, neurons", "Conv3d": "use Conv2d over timesteps",
    "PoissonEncoder": "give the pixels to the first layer as they are (direct coding): a net must answer the same each time",
    "LSTM": "use neurons", "GRU": "use neurons", "RNN": "use neurons", "Upsample": "use a stride of 1 before, or convolutions",
}  # fmt: skip


class Reader:
    """Runs a model and keeps, beside every tensor, what its elements are.

    After `run` with images: `plan` holds the layers, `problems` everything that cannot be imported, `spikes` (with
    `collect`) each layer's spikes [timesteps of this call, batch, positions, channels]. `expected` are the calls of each
    neuron module in a run, `timesteps` those of a run. With `events` the images are frames, another one in each timestep.
    """

    def __init__(self, model: nn.Module, batch: int, timesteps: int, expected: Counter[str], collect: bool = False,
                 events: bool = False) -> None:
        self.events = events
        self.model, self.batch, self.timesteps, self.expected, self.collect = model, batch, timesteps, expected, collect
        self.plan = Plan(timesteps=timesteps, events=events)
        self.problems: list[Problem] = []
        self.spikes: dict[str, np.ndarray] = {}
        self.parts: dict[str, dict[tuple[int, ...], str]] = {}  # layers that were split by channels, and their parts
        self.part_names: dict[str, tuple[str, torch.Tensor]] = {}
        self.calls: Counter[str] = Counter()
        self.fired: dict[str, tuple[Signal, Signal]] = {}
        self.stack: list[tuple[str, nn.Module]] = []
        self.why_not = {path: nodes.why_not(m) for path, m in model.named_modules() if nodes.is_node(m)}
        self.marks = Marks()
        self.paused = False

    @property
    def where(self) -> str:
        """Path of the module whose forward runs."""
        return (self.stack[-1][0] if self.stack else "") or "forward"

    def run(self, images: torch.Tensor) -> Any:
        """Run the model on images as it takes them."""
        images = images.clone()
        self.marks.mark(images)
        self.assign(images, self._image(images))
        with torch.no_grad(), around_modules(self.model, self._module), self.marks, Calls(self._call):
            result = self.model(images)
            self.paused = True
        self._output(result)
        return result

    def _image(self, x: torch.Tensor) -> Signal:
        *lead, c, h, w = x.shape
        self.plan.image_shape = (c, h, w)
        inside = torch.arange(h * w).reshape(1, h, w) * c + torch.arange(c).reshape(c, 1, 1)
        sample = numbers((self.batch,)).reshape(self.batch, 1, 1, 1) * (c * h * w)
        index = (sample + inside).expand(*lead, c, h, w) if len(lead) > 1 else sample + inside
        if self.events:
            step = numbers((len(x),)).reshape(-1, 1, 1, 1, 1) * (self.batch * c * h * w)
            return Signal(Spikes(h * w, c, (h, w), (INPUT,)), step + sample + inside)
        return Signal(Image.plain(c, h, w), index)

    # What tensors carry

    def assign(self, t: torch.Tensor, signal: Signal) -> None:
        t._spikegate = self, signal, 0 if t.is_inference() else t._version  # type: ignore[attr-defined]

    def signal_of(self, t: torch.Tensor) -> Signal | None:
        """The signal of a tensor: None for constants; unknown, and listed, for what was computed in a way that cannot be followed."""
        owner, signal, version = getattr(t, "_spikegate", None) or (None, None, 0)
        if owner is self and (t.is_inference() or version == t._version):
            return signal
        if self.marks.is_random(t):
            hint = "leave it out, or give the pixels to the first layer as they are (direct coding): a net must answer the same each time"
            self.refuse("uses random numbers", hint)
            return unknown(t.shape)
        if not self.marks.is_computed(t):
            return None
        if owner is self:
            self.refuse("uses a tensor that was changed in place through another name for it", "use the result of the change")
        elif neurons := next((n for n, m in self.model.named_modules() if nodes.is_node(m) and getattr(m, "v", None) is t), None):
            self.refuse(f"reads the voltage of {neurons}", "on chip only spikes travel: read its spikes, and train again")
        else:
            what = "uses values that are computed from the image in a way that cannot be followed (a function or script of its own)"
            self.refuse(what, "use torch's functions and SpikingJelly's neurons")
        return unknown(t.shape)

    def refuse(self, what: str, hint: str) -> None:
        line = users_line()
        problem = Problem(self.where, f"{what} [{line}]" if line else what, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def add(self, layer: Layer) -> str:
        """Append a layer of the plan, or find it there; returns its name."""
        base = f"{layer.name}.neurons" if layer.name in NAMES_OF_OPS else layer.name
        for name in itertools.chain([base], (f"{base}.{n}" for n in itertools.count(2))):
            layer.name = name
            if name not in self.plan.layers:
                self.plan.layers[name] = layer
            elif not alike(self.plan.layers[name], layer):
                continue
            return name
        raise AssertionError("unreachable")

    def keep(self, signal: Signal, value: torch.Tensor) -> None:
        """Remember the spikes of a layer in canonical order."""
        (name,) = signal.node.sources  # type: ignore[attr-defined]
        if self.collect:
            layer = self.plan.layers[name]
            if name not in self.spikes:
                self.spikes[name] = np.zeros((self.timesteps, self.batch, *layer.shape), np.uint8)
            self.spikes[name].reshape(-1)[signal.index.reshape(-1).numpy()] = value.detach().reshape(-1).to(torch.uint8).numpy()

    # Modules and calls

    def _module(self, path: str, m: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        if self.paused:
            return forward(*args, **kwargs)
        self.stack.append((path, m))
        try:
            return self._neurons(path, m, forward, args, kwargs) if path in self.why_not else forward(*args, **kwargs)
        finally:
            self.stack.pop()

    def _neurons(self, path: str, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        self.paused = True
        try:
            result = forward(*args, **kwargs)
            given = [s for t in tensors_in((args, kwargs)) if (s := self.signal_of(t))]
            if not given:
                return result
            self.calls[path] += 1
            signal = given[0]
            neuron, apart = STAND_IN, None
            multi = nodes.multi_step(m)
            try:
                if why := self.why_not[path]:
                    raise why
                if not isinstance(result, torch.Tensor) or len(given) > 1:
                    raise Refused("takes or returns several tensors", "use it as a layer: one tensor in, spikes out")
                neuron, apart = nodes.numbers_of(m, result.shape[1:] if multi else result.shape)
            except Refused as e:  # listed; reading goes on with other neurons in its place
                self.refuse(e.what, e.hint)
            try:
                out = firing.fire(self, signal, neuron, apart, multi) if signal.known else unknown(signal.index.shape)
                for t in tensors_in(result):
                    self.assign(t, out if t.shape == out.index.shape else unknown(t.shape))
                if isinstance(out.node, Spikes) and isinstance(result, torch.Tensor):
                    self.keep(out, result)
            except Refused as e:
                self.refuse(e.what, e.hint)
                self._go_on(signal, result)
            return result
        finally:
            self.paused = False

    def _call(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        name, in_place = naming.name_of(func)
        if self.paused or not naming.values_touched(name):
            return func(*args, **kwargs)
        tensors = tensors_in((args, kwargs))
        carried = {id(t): s for t in tensors if (s := self.signal_of(t)) is not None}
        if not carried:
            return func(*args, **kwargs)
        put = _replaced((args, kwargs), carried)
        if name in naming.SHAPED:
            result = func(*args, **kwargs)
            self.marks.unmark(result)
            return result
        self.paused = True
        try:
            result = func(*args, **kwargs)
            self._read(name, func, put, list(carried.values()), args[0] if in_place and result is None else result)
            return result
        finally:
            self.paused = False

    def _read(self, name: str, func: Callable, given: tuple, before: list[Signal], result: Any) -> None:
        try:
            if name in naming.READS:
                what = f"turns values that depend on the image into Python numbers ({name}), as a branch on values does"
                raise Refused(what, "a net on chip has no branches: leave it out")
            if "out" in given[1]:
                raise Refused("writes into a given tensor (out=)", "use the result of the call")
            if not all(s.known for s in before):
                self._go_on(None, result)
                return
            out = functions.read_function(self, name, func, given[0], given[1], result)
            parts = [out] if isinstance(out, Signal) else list(out)
            for t, s in zip(tensors_in(result), parts, strict=True):
                assert s.index.shape == t.shape, f"{name}: {tuple(s.index.shape)} for {tuple(t.shape)}"
                self.assign(t, s)
                if name not in MOVES:
                    self._keep_made(s, t)
        except Refused as e:
            self._refuse_call(name, e)
            self._go_on(before[0], result)

    def _keep_made(self, s: Signal, t: torch.Tensor) -> None:
        """Spikes of layers that no neuron module computes: pools, gates, products."""
        if self.collect and isinstance(s.node, Spikes) and len(s.node.sources) == 1:
            (name,) = s.node.sources
            if name not in self.fired and name not in self.part_names:
                self.keep(s, t)

    def _refuse_call(self, name: str, e: Refused) -> None:
        known = next((m for _, m in reversed(self.stack) if type(m).__name__ in MODULE_HINTS), None)
        if known is not None and "is not supported" in e.what:
            self.refuse(f"module {type(known).__name__} is not supported", MODULE_HINTS[type(known).__name__])
        else:
            self.refuse(e.what, e.hint)

    def _go_on(self, given: Signal | None, result: Any) -> None:
        """After a refusal, what lets later problems be found too: the signal itself where the shape is the same."""
        for t in tensors_in(result):
            same = given is not None and t.shape == given.index.shape
            self.assign(t, given if same else unknown(t.shape))  # type: ignore[arg-type]

    def _output(self, result: Any) -> None:
        result = result[0] if isinstance(result, tuple | list) and result else result
        self.stack = [("output", self.model)]
        signal = self.signal_of(result) if isinstance(result, torch.Tensor) else None
        if signal is None:
            self.refuse("the model does not return a tensor that depends on the image", "return the class scores")
        elif signal.known:
            try:
                self.plan.head = head_of(self, firing.part_of(self, firing.met(self, signal)))
            except Refused as e:
                self.refuse(e.what, e.hint)
        for name, (whole, seen) in self.part_names.items():
            if self.collect and whole in self.spikes:
                self.spikes[name] = np.ascontiguousarray(self.spikes[whole][..., seen.numpy()])
        for name, layer in self.plan.layers.items() if self.collect and not self.problems else ():
            if name not in self.spikes and isinstance(layer, Neurons):  # a product that was read as AND after it was computed
                self.spikes[name] = np.prod([self.spikes[n] for n in layer.inputs[0].sources], axis=0)
            elif name not in self.spikes and isinstance(layer, Pool):  # of spikes side by side
                maps = torch.from_numpy(self.spikes[layer.source]).float().flatten(0, 1).transpose(1, 2).unflatten(2, layer.source_grid)
                pooled = max_pool2d(maps, layer.kernel, layer.stride, layer.padding).flatten(2).transpose(1, 2)
                self.spikes[name] = pooled.unflatten(0, (self.timesteps, self.batch)).to(torch.uint8).numpy()
        for path, count in self.calls.items():
            if (
                isinstance(self.plan.layers.get(path), Neurons)
                and not nodes.multi_step(self.model.get_submodule(path))
                and count != self.timesteps
            ):
                self.stack = [(path, self.model)]
                self.refuse(
                    f"is called {count} times, other layers run {self.timesteps} timesteps", "call each layer once in each timestep"
                )
        read = self.plan.read()
        for name in [n for n in self.parts if n not in read]:  # only its parts are read
            del self.plan.layers[name]
            self.spikes.pop(name, None)


def _replaced(value: Any, carried: dict[int, Signal]) -> Any:
    """Nested arguments with signals in place of the tensors that carry them."""
    if isinstance(value, torch.Tensor):
        return carried.get(id(value), value)
    if isinstance(value, dict):
        return {k: _replaced(v, carried) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_replaced(v, carried) for v in value)
    return value
