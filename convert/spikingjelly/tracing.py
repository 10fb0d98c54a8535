"""Reads a SpikingJelly model: traced by torch.fx, then run once on real tensors whose elements are tracked (see signals.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from spikegate.convert.spikingjelly import firing, functions, modules
from spikegate.convert.spikingjelly.head import head_of
from spikegate.convert.spikingjelly.plan import Layer, Plan, Problem, Refused
from spikegate.convert.spikingjelly.signals import Image, Signal, numbers, unknown
from spikegate.graph.ir import DeployError

FORMS = ("image", "sequence", "step")


class Tracer(fx.Tracer):
    """Stops at SpikingJelly's layers and containers as at torch's own."""

    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        ready_made = type(m).__module__.startswith(("torch.nn", "spikingjelly"))
        return (ready_made and not isinstance(m, nn.Sequential)) or type(m).__name__ in modules.CONTAINERS


class Reader(fx.Interpreter):
    """Runs a traced model and keeps, beside every tensor, what its elements are.

    After `run` with images: `plan` holds the layers, `problems` everything that cannot be imported, `spikes` (with
    `collect`) each layer's spikes [timesteps of this call, batch, positions, channels].
    """

    def __init__(self, traced: fx.GraphModule, batch: int, collect: bool = False) -> None:
        super().__init__(traced)
        self.batch, self.collect = batch, collect
        self.plan = Plan(timesteps=0)
        self.problems: list[Problem] = []
        self.spikes: dict[str, np.ndarray] = {}
        self.parts: dict[str, dict[tuple[int, ...], str]] = {}  # layers that were split by channels, and their parts
        self.where = ""

    def run_node(self, n: fx.Node) -> Any:
        stack = n.meta.get("nn_module_stack") or {}
        self.where = str(n.target) if n.op == "call_module" else next(reversed(stack), "") or "forward"
        self.node_name = n.name
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        x = super().placeholder(target, args, kwargs)
        if not isinstance(x, torch.Tensor):
            return x
        *lead, c, h, w = x.shape
        inside = torch.arange(h * w).reshape(1, h, w) * c + torch.arange(c).reshape(c, 1, 1)
        sample = numbers((self.batch,)).reshape(self.batch, 1, 1, 1) * (c * h * w)
        index = (sample + inside).expand(*lead, c, h, w) if len(lead) > 1 else sample + inside
        self.plan.image_shape = (c, h, w)
        return Signal(x, Image(h * w, c, (h, w)), index)

    def refuse(self, what: str, hint: str) -> None:
        problem = Problem(self.where, what, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def add(self, layer: Layer) -> None:
        """Append a layer of the plan."""
        if layer.name in self.plan.layers:
            raise Refused("is used twice in a forward pass", "give each place its own module; neurons keep a state")
        self.plan.layers[layer.name] = layer

    def keep(self, name: str, layer: Layer, value: torch.Tensor, index: torch.Tensor) -> None:
        """Remember the spikes of a layer in canonical order."""
        if self.collect:
            flat = torch.zeros(max(1, index.numel()), dtype=torch.uint8)
            flat[index.reshape(-1)] = value.detach().reshape(-1).to(torch.uint8)
            self.spikes[name] = flat.reshape(-1, self.batch, *layer.shape).numpy()

    def _guarded(self, handle: Callable[[], Any], given: Signal, result: Any) -> Any:
        try:
            return handle()
        except Refused as e:
            self.refuse(e.what, e.hint)
        return self._go_on(given, result)

    @staticmethod
    def _go_on(given: Any, result: Any) -> Any:
        """After a refusal, what lets later problems be found too: the signal itself where the shape is the same."""
        if isinstance(given, Signal) and isinstance(result, torch.Tensor) and result.shape == given.index.shape:
            return Signal(result, given.node, given.index)
        return functions.each_tensor(result, unknown)

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Any:
        m = self.fetch_attr(target)
        values = functions.values_of(args)
        result = m(*values, **functions.values_of(kwargs))
        if not modules.supported(m):
            self.refuse(f"module {type(m).__name__} is not supported", modules.hint_for(m))
            return self._go_on(args[0], result)
        signal = args[0]
        if not isinstance(signal, Signal) or not signal.known:
            if modules.is_neuron(m):
                modules.numbers_of(self, m)  # its settings are checked all the same
            return functions.each_tensor(result, unknown)
        return self._guarded(lambda: modules.read_module(self, m, signal, result), signal, result)

    def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
        target = functions.OUT_OF_PLACE.get(target, target)
        result = target(*functions.values_of(args), **functions.values_of(kwargs))
        return self._called(target, args, kwargs, result)

    def call_method(self, target: Any, args: tuple, kwargs: dict) -> Any:
        target = target.removesuffix("_")
        values = functions.values_of(args)
        result = getattr(values[0], target)(*values[1:], **functions.values_of(kwargs))
        return self._called(target, args, kwargs, result)

    def _called(self, target: Any, args: tuple, kwargs: dict, result: Any) -> Any:
        signals = functions.signals_of((args, kwargs))
        if not signals or not functions.has_tensor(result):
            return result
        if not all(s.known for s in signals):
            return functions.each_tensor(result, unknown)
        return self._guarded(lambda: functions.read_function(self, target, args, kwargs, result), signals[0], result)

    def output(self, target: Any, args: tuple, kwargs: dict) -> Any:
        result = super().output(target, args, kwargs)
        result = result[0] if isinstance(result, tuple | list) else result
        self.where = "output"
        if not isinstance(result, Signal):
            self.refuse("the model does not return a tensor", "return the class scores")
        elif result.known:
            try:
                self.plan.head = head_of(self, firing.part_of(self, result))
            except Refused as e:
                self.refuse(e.what, e.hint)
        read = self.plan.read()
        for name in [n for n in self.parts if n not in read]:  # only its parts are read
            del self.plan.layers[name]
            self.spikes.pop(name, None)
        return result


def trace(model: nn.Module) -> fx.GraphModule:
    """Symbolic trace in eval mode.

    Raises
    ------
    DeployError
        For a forward that depends on data or cannot be traced.
    """
    model.eval()
    try:
        return fx.GraphModule(model, Tracer().trace(model))
    except DeployError:
        raise
    except Exception as e:  # fx raises many types; all mean the same to a user
        raise DeployError(
            type(model).__name__, f"torch.fx cannot trace its forward ({str(e).splitlines()[0]})",
            "the forward must be static: no branches or loops over values of tensors; step_mode 'm' in place of a loop over timesteps",
        ) from None  # fmt: skip


def reset(model: nn.Module) -> None:
    """Neurons to their state before the first timestep."""
    for m in model.modules():
        if callable(again := getattr(m, "reset", None)):
            again()


def shaped(images: torch.Tensor, form: str, timesteps: int) -> torch.Tensor:
    """Images [B, C, H, W] as the model takes them."""
    return images.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1) if form == "sequence" else images


def read(model: nn.Module, images: torch.Tensor, timesteps: int | None, form: str | None = None) -> tuple[Plan, fx.GraphModule, str]:
    """The plan of a model, from a run on a few float images [B, C, H, W]; also the traced module and the input's form.

    `form` says what one call of the model takes: "image" [B, C, H, W] for all timesteps, "sequence" [T, B, C, H, W], or
    "step", one timestep of a model in step mode 's'. Left out, it is the first that runs.

    Raises
    ------
    DeployError
        Listing every module and operation that cannot be imported, by path, each with a hint.
    """
    traced = trace(model)
    form = form or _form(model, traced, images, timesteps)
    if form != "image" and timesteps is None:
        raise DeployError("--timesteps", f"the model takes its input by {form} and does not say how often", "give --timesteps")
    reset(traced)
    reader = Reader(traced, len(images))
    with torch.no_grad():
        reader.run(shaped(images, form, timesteps or 1))
    if form == "step":
        reader.plan.timesteps = int(timesteps or 1)
    if timesteps is not None and form == "image" and reader.plan.timesteps != timesteps:
        reader.problems.append(Problem("--timesteps", f"the model runs {reader.plan.timesteps}, not {timesteps}", "leave the option out"))
    if reader.problems:
        hint = getattr(model, "import_hint", "change them and train again")
        if len(reader.problems) == 1:
            p = reader.problems[0]
            raise DeployError(p.where, p.what, p.hint)
        lines = "".join(f"\n  - {p.where}: {p.what} ({p.hint})" for p in reader.problems)
        raise DeployError(type(model).__name__, f"{len(reader.problems)} things cannot be imported:{lines}", hint)
    return reader.plan, traced, form


def _form(model: nn.Module, traced: fx.GraphModule, images: torch.Tensor, timesteps: int | None) -> str:
    """What one call of the model takes."""
    neurons = [m for m in model.modules() if modules.is_neuron(m)]
    if not neurons:
        hint = "give a model with SpikingJelly's IFNode, LIFNode or ParametricLIFNode"
        raise DeployError(type(model).__name__, "has no spiking neurons", hint)
    if not any(modules.multi_step(m) for m in neurons):
        return "step"
    first: Exception | None = None
    for form in ("image", "sequence"):
        try:
            with torch.no_grad():
                reset(traced)
                traced(shaped(images, form, timesteps or 1))
            return form
        except Exception as e:
            first = first or e
    raise DeployError(
        type(model).__name__, f"takes neither images [B, C, H, W] nor [T, B, C, H, W] ({str(first).splitlines()[0]})",
        "its forward must take one of them; check the image size, too",
    )  # fmt: skip


