"""SpikingJelly's neurons: which ones the chip has, their numbers, and why the others are refused."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from spikegate.convert.spikingjelly.plan import FloatNeuron, Refused
from spikegate.neurons.resets import LEVELS_MAX

BASES = ("BaseNode", "SimpleBaseNode", "NonSpikingBaseNode")
TAKEN = ("IFNode", "LIFNode", "ParametricLIFNode", "SimpleIFNode", "SimpleLIFNode", "ILIFNode")
FREE = {
    "__init__",
    "__module__",
    "__doc__",
    "__qualname__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
    "extra_repr",
    "__repr__",
    "supported_backends",
    "__parameters__",
    "__orig_bases__",
}  # what a subclass may bring without being another neuron
START = "leave set_reset_value('v', ...) out: the chip's neurons start at reset"
LINEAR = "the chip's neuron is linear: train with LIFNode"
REASONS = {
    "QIFNode": ("its voltage grows with its square", LINEAR),
    "EIFNode": ("its voltage grows exponentially", LINEAR),
    "IzhikevichNode": ("it has a second, recovering variable and a square", LINEAR),
    "KLIFNode": ("it scales and rectifies its voltage before it fires", "train with ParametricLIFNode"),
    "PSN": ("each timestep depends on later ones", "train with LIFNode"),
    "MaskedPSN": ("it weighs all earlier timesteps, without a reset", "train with LIFNode"),
    "SlidingPSN": ("it weighs earlier timesteps, without a reset", "train with LIFNode"),
    "GatedLIFNode": ("it chooses between several forms of leak and reset", "train with ParametricLIFNode"),
    "CUBALIFNode": ("its current decays slowly", "train with LIFNode"),
    "LIAFNode": ("it sends its voltage, not spikes", "train with LIFNode"),
}
WORDLESS = ("it is another neuron than IF, LIF and parametric LIF", "train with IFNode, LIFNode or ParametricLIFNode")


def _theirs(m: nn.Module) -> list[type]:
    return [c for c in type(m).__mro__ if c.__module__.startswith("spikingjelly")]


def is_node(m: nn.Module) -> bool:
    """Whether it is one of SpikingJelly's neurons, or made from one."""
    theirs = _theirs(m)
    return bool(theirs) and any(c.__name__ in BASES or c.__name__.removeprefix("MultiStep") in (*TAKEN, *REASONS) for c in theirs)


def multi_step(m: nn.Module) -> bool:
    """Whether its axis 0 is time."""
    return getattr(m, "step_mode", "s") == "m" or type(m).__name__.startswith("MultiStep")


def why_not(m: nn.Module) -> Refused | None:
    """Why a neuron cannot be imported whatever its numbers; None if it can."""
    base = _theirs(m)[0]
    name = base.__name__.removeprefix("MultiStep")
    if name not in TAKEN:
        named = next((REASONS[c.__name__] for c in _theirs(m) if c.__name__ in REASONS), WORDLESS)
        if "NonSpikingBaseNode" in (c.__name__ for c in _theirs(m)):
            named = ("it sends its voltage, not spikes", "read the class scores from a linear layer on spikes, and train again")
        return Refused(f"neuron {type(m).__name__} is not supported: {named[0]}", named[1])
    own = type(m).__mro__[: type(m).__mro__.index(base)]
    known = set(dir(base))
    replaced = {n for c in own for n in vars(c) if n in known and n not in FREE}
    replaced |= {n for n in vars(m) if callable(getattr(type(m), n, None)) and n in known}
    if replaced:
        names = ", ".join(sorted(replaced))
        what = f"{type(m).__name__} changes {name} ({names}): what it computes is not known"
        return Refused(what, f"use {name} itself; a subclass may add names and set numbers, but not replace methods")
    return None


def numbers_of(m: Any, where_one: torch.Size) -> tuple[FloatNeuron, torch.Tensor | None]:
    """The neuron's three numbers, and its thresholds by element (broadcast to one timestep) where they differ; then the number is 1.

    Raises Refused for what the chip's neuron lacks.
    """
    name = _theirs(m)[0].__name__.removeprefix("MultiStep")
    soft = m.v_reset is None
    rest = 0.0 if soft else m.v_reset
    start = getattr(m, "_memories_rv", {}).get("v", rest)
    if not isinstance(start, torch.Tensor) and not isinstance(rest, torch.Tensor) and start != rest:
        raise Refused(f"starts at v = {start}, not at {'0' if soft else f'v_reset = {rest}'}", START)
    if isinstance(start, torch.Tensor):
        raise Refused("starts at a tensor of voltages", START)
    above = torch.as_tensor(m.v_threshold).detach().double() - torch.as_tensor(rest).detach().double()
    if not bool(torch.isfinite(above).all()):
        raise Refused(f"its threshold is {_short(m.v_threshold)}", "a threshold must be a finite number")
    if bool((above <= 0).any()):
        what = f"threshold {_short(m.v_threshold)} is not above {'0' if soft else f'v_reset {_short(rest)}'}"
        raise Refused(what, "such neurons fire all the time")
    apart = None
    if above.numel() > 1 and bool((above != above.flatten()[0]).any()):
        apart = above.broadcast_to(where_one)
    threshold = 1.0 if apart is not None else float(above.flatten()[0])
    if name in ("IFNode", "SimpleIFNode"):
        return FloatNeuron(1.0, 1.0, threshold, soft), apart
    given = m.w if name == "ParametricLIFNode" else m.tau
    if torch.as_tensor(given).numel() > 1:
        raise Refused("has a time constant for each channel", "train one for each layer: a layer on chip has one decay")
    rate = float(given.detach().double().sigmoid()) if name == "ParametricLIFNode" else 1.0 / float(given)
    if not (math.isfinite(rate) and 0 < rate <= 1):
        raise Refused(f"its time constant is {_short(given)}", "tau must be at least 1")
    if name == "ILIFNode":
        levels = int(m.surrogate_function.max_spike_count)
        if levels > LEVELS_MAX:
            raise Refused(f"sends values up to {levels}", f"train with at most {LEVELS_MAX}: an event carries 7 bits")
        return FloatNeuron(1.0 - rate, 1.0, threshold / 2, True, threshold, levels), apart
    return FloatNeuron(1.0 - rate, rate if getattr(m, "decay_input", True) else 1.0, threshold, soft), apart


def _short(v: Any) -> str:
    t = torch.as_tensor(v).detach()
    return f"{float(t):g}" if t.numel() == 1 else f"{float(t.min()):g} to {float(t.max()):g}"
