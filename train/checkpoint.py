"""Weights and training state as safetensors: tensors by name, the rest as JSON in the header. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from spikegate.files import atomic
from spikegate.graph.ir import DeployError

SCHEMA = "1"
MODEL, OPTIMIZER, RANDOM, MORE = "model/", "optimizer/", "random/", "more/"
SLOTS = ("exp_avg", "exp_avg_sq", "step")  # of AdamW
SHOWN = 5  # problems that one message names


@dataclass
class State:
    """Where a training run stands after `epoch` finished epochs. `history` holds one row of metrics per epoch."""

    config_hash: str
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def write(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts atomically, with a digest over the tensors."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    body = save(plain, {"schema": SCHEMA, "digest": _digest(plain), "facts": json.dumps(facts)})
    with atomic(path) as part:
        part.write_bytes(body)


def read(path: Path, hint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts that `write` wrote; a DeployError with `hint` for a missing, cut, altered or foreign file."""
    try:
        with safe_open(path, "pt") as f:
            header = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}
        facts = json.loads(header["facts"])
        schema, digest = header["schema"], header["digest"]
        if not isinstance(facts, dict):
            raise ValueError(f"its facts are a {type(facts).__name__}")
    except FileNotFoundError:
        raise DeployError(str(path), "no such file", hint) from None
    except KeyError as e:
        raise DeployError(str(path), f"not written by train/run.py ({e} missing in its header)", hint) from None
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, RecursionError, MemoryError) as e:
        raise DeployError(str(path), f"cut or corrupt ({e})", hint) from None
    if schema != SCHEMA:
        raise DeployError(str(path), f"schema {schema}, this version reads {SCHEMA}", hint)
    if digest != _digest(tensors):
        raise DeployError(str(path), "corrupt: its tensors do not match its digest", hint)
    return tensors, facts


def save_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, state: State, more: dict[str, torch.Tensor] | None = None
) -> None:
    """Write everything that an exact continuation needs: weights, optimizer, random states, progress, and `more` by name."""
    names = {id(p): name for name, p in net.named_parameters()}
    tensors = {MODEL + name: tensor for name, tensor in net.state_dict().items()}
    for parameter, slots in optimizer.state.items():
        tensors |= {f"{OPTIMIZER}{names[id(parameter)]}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors |= {MORE + name: tensor for name, tensor in (more or {}).items()}
    numpy_state = cast("tuple[str, np.ndarray, int, int, float]", np.random.get_state(legacy=True))
    kind, keys, position, has_gauss, gauss = numpy_state
    tensors[RANDOM + "torch"] = torch.get_rng_state()
    tensors[RANDOM + "numpy"] = torch.from_numpy(keys.astype(np.int64))
    write(path, tensors, {"state": asdict(state), "numpy": [kind, position, has_gauss, gauss], "python": random.getstate()})


def load_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, more: Callable[[dict[str, torch.Tensor]], None] | None = None
) -> State:
    """Put net, optimizer and random states back as `save_checkpoint` found them, on whatever device they are now; returns the progress.

    `more` takes the further tensors by name; a KeyError of it means that one is missing.
    """
    hint = "the run cannot be resumed from it; start a new one"
    tensors, facts = read(path, hint)
    fill(net, {n[len(MODEL):]: t for n, t in tensors.items() if n.startswith(MODEL)}, path, hint)
    try:
        parameters = dict(net.named_parameters())
        for name, slots in _slots(tensors).items():
            if name not in parameters or set(slots) != set(SLOTS):
                what = "is of no parameter" if name not in parameters else f"has {', '.join(sorted(slots))}, not {', '.join(SLOTS)}"
                raise DeployError(str(path), f"optimizer state of {name} {what}", hint)
            parameter = parameters[name]
            for slot, t in slots.items():
                shape = () if slot == "step" else tuple(parameter.shape)
                fit = tuple(t.shape) == shape and t.dtype == torch.float32
                if not fit or not torch.isfinite(t).all() or (slot != "exp_avg" and (t < 0).any()):
                    what = f"is {t.dtype} {tuple(t.shape)}, or out of range; it takes float32 {shape}"
                    raise DeployError(str(path), f"optimizer state {slot} of {name} {what}", hint)
            fused = any(g["fused"] for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
            optimizer.state[parameter] = {n: t if n == "step" and not fused else t.to(parameter.device) for n, t in slots.items()}
        if more is not None:
            more({n[len(MORE):]: t for n, t in tensors.items() if n.startswith(MORE)})
        kind, position, has_gauss, gauss = facts["numpy"]
        np.random.set_state((kind, tensors[RANDOM + "numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
        version, keys, gauss = facts["python"]
        random.setstate((version, tuple(keys), gauss))
        torch.set_rng_state(tensors[RANDOM + "torch"])
        return _state(facts["state"])
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as e:
        raise DeployError(str(path), f"not a complete checkpoint ({e})", hint) from None


def _slots(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The optimizer's state: parameter -> slot -> tensor."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            parameter, _, slot = name[len(OPTIMIZER):].rpartition("/")
            found.setdefault(parameter, {})[slot] = tensor
    return found


def _state(facts: dict[str, Any]) -> State:
    """The progress; a ValueError for fields of other types."""
    state = State(**facts)
    whole = all(type(v) is int and 0 <= v < 1 << 53 for v in (state.epoch, state.step))
    plain = isinstance(state.config_hash, str) and type(state.seconds) in (int, float) and 0 <= state.seconds < float("inf")
    rows = isinstance(state.history, list) and all(isinstance(row, dict) for row in state.history)
    if not (whole and plain and rows):
        raise ValueError("its progress has fields of other types")
    return state


def fill(net: nn.Module, tensors: dict[str, torch.Tensor], path: Path, hint: str) -> None:
    """Copy `tensors` into `net`, or raise one DeployError that names missing, unknown, misshapen and non-finite ones."""
    wanted = net.state_dict()
    found = [f"{n} is missing" for n in wanted if n not in tensors]
    found += [f"{n} is not part of this model" for n in tensors if n not in wanted]
    for name in [n for n in wanted if n in tensors]:
        have, want = tensors[name], wanted[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            found.append(f"{name} is {have.dtype} {tuple(have.shape)}, the model needs {want.dtype} {tuple(want.shape)}")
        elif have.is_floating_point() and not torch.isfinite(have).all():
            found.append(f"{name} holds nan or inf")
    if found:
        more = f"\n  - and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DeployError(str(path), "does not fit the model:" + "".join(f"\n  - {line}" for line in found[:SHOWN]) + more, hint)
    net.load_state_dict(tensors)


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
