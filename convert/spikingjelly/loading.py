"""A model from a user's file, and its weights. Nothing is unpickled but tensors."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikegate.graph.ir import DeployError

WRAPPERS = ("state_dict", "model", "net", "model_state_dict")  # keys under which training scripts keep the weights
SHOWN = 5


def load_model(name: str, weights: Path | None = None) -> nn.Module:
    """The model that ``FILE.py:function`` returns, in eval mode, with the weights in `weights`."""
    file, colon, function = name.rpartition(":")
    path = Path(file)
    if not colon or not path.is_file():
        raise DeployError(name, "names no function in a file", "give FILE.py:function, a function without arguments that returns the model")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries greet; a command's stdout is its own
            spec.loader.exec_module(module)
            make = getattr(module, function)
            model = make()
    except AttributeError as e:
        raise DeployError(name, str(e), "check the function's name") from None
    except Exception as e:
        message = str(e).splitlines()[0] if str(e) else ""
        raise DeployError(name, f"failed ({type(e).__name__}: {message})", "run it by itself to see why") from None
    if not isinstance(model, nn.Module):
        raise DeployError(name, f"returned {type(model).__name__}, not a torch module", "return the model")
    if weights is not None:
        fill(model, read_state(weights), str(weights))
    return model.eval()


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict: tensors by name, without wrappers or a ``module.`` prefix."""
    if not path.is_file():
        raise DeployError(str(path), "no such file", "give a state dict")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # both readers raise many types for a damaged file
        hint = "save model.state_dict() alone; other pickled objects are not read"
        raise DeployError(str(path), f"not a readable state dict ({str(e).splitlines()[0]})", hint) from None
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise DeployError(str(path), "holds no state dict", "save model.state_dict()")
    return {k.removeprefix("module."): v for k, v in found.items()}


def fill(model: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load a state dict; every tensor must be there, known and of the right shape, but for counters of batches."""
    own = model.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing, unknown = sorted(set(own) - set(state) - counters), sorted(set(state) - set(own))
    shapes = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    for what, names in (("lacks", missing), ("has unknown", unknown), ("has other shapes:", shapes)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise DeployError(where, f"{what} {', '.join(names[:SHOWN])}{more}", "use the weights of this very model")
    model.load_state_dict({**own, **state})
