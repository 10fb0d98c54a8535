"""A model from a user's file, and its weights. Nothing is unpickled but tensors."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikegate.convert.spikingjelly.importable import check_state
from spikegate.errors import first_line
from spikegate.graph.ir import DeployError
from spikegate.reading import limits

WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "network", "weights", "params")  # under which scripts keep them
COUNTED = ("total_ops", "total_params")  # what a counter of operations (thop) leaves in a model
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
    size = limits.file_size(path, "give a state dict")
    try:
        with limits.bounded(size):  # packed parts of a small file may claim more than the machine has
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                found: Any = load_file(path)
            else:
                found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # both readers raise many types for a damaged file
        hint = "save model.state_dict() alone; other pickled objects are not read"
        raise DeployError(str(path), f"not a readable state dict ({first_line(e)})", hint) from None
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise DeployError(str(path), "holds no state dict", "save model.state_dict()")
    return {_plain(k): v for k, v in found.items() if k.rpartition(".")[2] not in COUNTED}


def _plain(key: str) -> str:
    """A key without what DataParallel and torch.compile put into it."""
    while key.startswith(("module.", "_orig_mod.")):
        key = key.partition(".")[2]
    return key.replace("._orig_mod.", ".")


def without_owner(state: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """The state under the names `wanted`, where all keys stand below one attribute (``model.`` of a Lightning module)."""
    while state and not wanted & set(state):
        owners = {k.partition(".")[0] for k in state}
        if len(owners) > 1 or not all("." in k for k in state):
            break
        state = {k.partition(".")[2]: v for k, v in state.items()}
    return state


def fill(model: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load a state dict; every tensor must be there, known, finite and of the right shape and kind, but for counters of batches."""
    own = model.state_dict()
    state = without_owner({k: v for k, v in state.items() if k.rpartition(".")[2] not in COUNTED}, set(own))
    check_state(state, where)
    counters = {k for k in own if k.rpartition(".")[2] in ("num_batches_tracked", *COUNTED)}
    missing, unknown = sorted(set(own) - set(state) - counters), sorted(set(state) - set(own))
    shapes = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    kinds = [
        f"{k} {_kind(state[k])} for {_kind(own[k])}"
        for k in own
        if k in state and own[k].is_floating_point() and not state[k].is_floating_point()
    ]
    for what, names in (("lacks", missing), ("has unknown", unknown), ("has other shapes:", shapes), ("has other types:", kinds)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise DeployError(where, f"{what} {', '.join(names[:SHOWN])}{more}", "use the weights of this very model")
    model.load_state_dict({**own, **state})


def _kind(t: torch.Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")
