"""The order and the wiring of a model's layers, from one run of it: which layer's output each layer was called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spikegate.errors import DeployError

INPUT = "input"
PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # signals pass as they are once training is over


@dataclass
class Call:
    """A layer that was called: its name in the model, what it read, and the shapes of both ends without the batch."""

    name: str
    layer: nn.Module
    source: str
    taken: tuple[int, ...]
    sent: tuple[int, ...]


def watch(model: nn.Module, sample: torch.Tensor, axes: int) -> list[Call]:
    """The first call of every layer, in order; `axes`: leading axes of the signals that are batch and time.

    Raises
    ------
    DeployError
        For a signal that was computed outside of any layer, and layers that are never called.
    """
    calls: list[Call] = []
    known: list[tuple[int, int, torch.Tensor, str]] = [(sample.data_ptr(), sample.numel(), sample, INPUT)]
    handles, missed = [], []

    def seen(x: torch.Tensor) -> str | None:
        return next((name for at, n, _, name in reversed(known) if at == x.data_ptr() and n == x.numel()), None)

    def hook(name: str) -> Any:
        def after(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            if any(c.name == name for c in calls):  # a later timestep
                return
            source = seen(args[0])
            if source is None:
                missed.append(name)
                source = INPUT
            if isinstance(layer, PASSING):
                known.append((out.data_ptr(), out.numel(), out, source))
                return
            calls.append(Call(name, layer, source, tuple(args[0].shape[axes:]), tuple(out.shape[axes:])))
            known.append((out.data_ptr(), out.numel(), out, name))

        return after

    names = leaves(model)
    try:
        handles = [layer.register_forward_hook(hook(name)) for name, layer in names.items()]
        model.eval()
        with torch.no_grad():
            model(sample)
    except DeployError:
        raise
    except Exception as e:  # the user's own code
        what = f"fails on a sample of shape {tuple(sample.shape)} ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''})"
        raise DeployError("model", what, "run it by itself to see why; give the shape of what it is called with") from None
    finally:
        for handle in handles:
            handle.remove()
    if missed:
        what = f"reads what no layer sends, but code outside of layers: {', '.join(missed)}"
        hint = "make sums, pools and other functions of the forward layers of their own, or write the NIR graph and import that"
        raise DeployError("model", what, hint)
    idle = [n for n, m in names.items() if n not in {c.name for c in calls} and not isinstance(m, PASSING)]
    if idle:
        raise DeployError("model", f"never calls {', '.join(idle)}", "take out what is not used")
    return calls


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Layers by name: modules without modules of their own, and neurons with recurrent ones inside as one."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        recurrent = hasattr(module, "recurrent") or hasattr(module, "rec_connect")
        if recurrent or not list(module.children()):
            found[name or "model"] = module
    return found
