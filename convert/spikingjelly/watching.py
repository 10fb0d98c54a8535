"""Sees every call on tensors while a model runs: torch's function mode names the calls, its dispatch mode marks what they depend on.

The function mode hands each call on a tensor that carries a signal to the reader. Below it, the dispatch mode marks the memory
of whatever was computed from the input, by any way (functions of the user's own with a backward pass, scripts, a neuron's state), and
of random numbers. A marked tensor that carries no signal is never taken for a constant.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SOURCES = ("torch", "spikegate", "spikingjelly", "contextlib", "functools")  # packages whose lines are not the user's
STOP = "spikegate.convert.spikingjelly.tracing"  # whose `run` calls the model


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [t for v in value for t in tensors_in(v)]


class Marks(TorchDispatchMode):
    """Memory that holds something computed from the input, or random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: dict[int, StorageWeakRef] = {}
        self.random: dict[int, StorageWeakRef] = {}

    @staticmethod
    def _set(marks: dict[int, StorageWeakRef], t: torch.Tensor) -> None:
        storage = t.untyped_storage()
        marks[storage._cdata] = StorageWeakRef(storage)  # the weak reference keeps the number from being given to another

    def mark(self, t: torch.Tensor) -> None:
        self._set(self.computed, t)

    def unmark(self, t: torch.Tensor) -> None:
        self.computed.pop(t.untyped_storage()._cdata, None)

    def is_computed(self, t: torch.Tensor) -> bool:
        return t.untyped_storage()._cdata in self.computed

    def is_random(self, t: torch.Tensor) -> bool:
        return t.untyped_storage()._cdata in self.random

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        computed, random = (any(t.untyped_storage()._cdata in marks for t in given) for marks in (self.computed, self.random))
        random = random or torch.Tag.nondeterministic_seeded in func.tags
        out = func(*args, **kwargs)
        if computed or random:
            changed = tensors_in(out)
            if func._schema.is_mutable:
                written = [v for a, v in zip(func._schema.arguments, args) if a.alias_info and a.alias_info.is_write]
                changed += tensors_in(written)
            for t in changed:
                if computed:
                    self._set(self.computed, t)
                if random:
                    self._set(self.random, t)
        return out


class Calls(TorchFunctionMode):
    """Hands every call of a torch function to ``call(function, args, kwargs)``, outside of which nothing is watched."""

    def __init__(self, call: Callable[[Callable, tuple, dict], Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if isinstance(func, OpOverload):  # what the dispatch mode calls
            return func(*args, **(kwargs or {}))
        return self.call(func, args, kwargs or {})


@contextlib.contextmanager
def around_modules(model: nn.Module, around: Callable[..., Any]) -> Iterator[None]:
    """Within, each module's forward is ``around(path, module, forward, *args, **kwargs)``; hooks run outside of it, as always."""
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    try:
        for path, m in model.named_modules():
            if isinstance(m, torch.jit.ScriptModule):
                continue
            before.append((m, {k: m.__dict__[k] for k in ("forward", "_compiled_call_impl") if k in m.__dict__}))
            m.__dict__["_compiled_call_impl"] = None
            m.__dict__["forward"] = functools.partial(around, path, m, m.forward)
        yield
    finally:
        for m, kept in before:
            for key in ("forward", "_compiled_call_impl"):
                m.__dict__.pop(key, None)
            m.__dict__.update(kept)


def users_line(frame: FrameType | None = None) -> str:
    """The innermost line of the user's own file that is being run (in `frame`), as ``net.py:12``; "" if there is none."""
    alone = frame is not None
    frame = frame or sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        package = name.split(".")[0]
        if name == STOP and frame.f_code.co_name == "run":
            break
        if package not in SOURCES and not frame.f_code.co_filename.startswith("<"):
            file = Path(frame.f_code.co_filename)
            return f"{file.name}:{frame.f_lineno}"
        frame = None if alone else frame.f_back
    return ""
