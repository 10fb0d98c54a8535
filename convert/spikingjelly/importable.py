"""Whether a model's parts are what they must be before anything is read: wrappers taken off, numbers finite and real."""

from __future__ import annotations

import torch
from torch import nn

from spikegate.convert.spikingjelly import nodes
from spikegate.errors import DeployError

LARGEST = 1e12  # magnitude of a parameter that training can have meant
SHOWN = 5


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of DataParallel and torch.compile, in eval mode, its neurons on torch's own code."""
    while isinstance(inner := getattr(model, "_orig_mod", None) or getattr(model, "module", None), nn.Module):
        if type(model).__name__ not in ("DataParallel", "DistributedDataParallel", "OptimizedModule"):
            break
        model = inner
    model.eval()
    for m in model.modules():
        if nodes.is_node(m) and getattr(m, "backend", "torch") != "torch":
            m.backend = "torch"  # type: ignore[assignment]
    return model


def check_state(state: dict[str, torch.Tensor], where: str) -> None:
    """Refuse parameters that are not finite, not real, too large for any net, or variances below 0, by name.

    Raises
    ------
    DeployError
        Naming the first few of them.
    """
    wrong: list[str] = []
    for name, t in state.items():
        if not isinstance(t, torch.Tensor) or t.is_meta:
            wrong.append(f"{name} has no values")
            continue
        t = t.detach()
        if t.is_complex():
            wrong.append(f"{name} is complex")
        elif t.is_floating_point() and t.numel():
            finite = torch.isfinite(t)
            if not bool(finite.all()):
                kind = "NaN" if bool(t.isnan().any()) else "infinite"
                wrong.append(f"{name}: {int((~finite).sum())} of {t.numel()} values are {kind}")
            elif float(t.double().abs().max()) > LARGEST:
                wrong.append(f"{name} reaches {float(t.double().abs().max()):.3g}")
            elif name.rpartition(".")[2] == "running_var" and float(t.min()) < 0:
                wrong.append(f"{name} reaches {float(t.min()):.3g}, and a variance is not below 0")
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        hint = "training diverged or the file is damaged: take weights from before, or train again"
        raise DeployError(where, "; ".join(wrong[:SHOWN]) + more, hint)
