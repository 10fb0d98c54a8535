"""How a model is run: its neurons' state, what one call takes, how many timesteps a call has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegate.convert.spikingjelly import nodes
from spikegate.convert.spikingjelly.plan import Plan
from spikegate.convert.spikingjelly.tracing import Reader
from spikegate.convert.spikingjelly.watching import around_modules, users_line
from spikegate.errors import DeployError

FORMS = ("image", "sequence", "step", "events")


class Failed(Exception):
    """The model's own forward raised; the message says what and where."""


def reset(model: nn.Module) -> None:
    """Neurons to their state before the first timestep."""
    for m in model.modules():
        if callable(again := getattr(m, "reset", None)):
            again()


def shaped(images: torch.Tensor, form: str, timesteps: int) -> torch.Tensor:
    """Images [B, C, H, W], or frames of events [B, T, C, H, W], as the model takes them."""
    if form == "events":
        return images.transpose(0, 1)
    return images.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1) if form == "sequence" else images


def survey(model: nn.Module, x: torch.Tensor) -> tuple[Counter[str], int]:
    """Calls of each neuron in one run of the model, and the timesteps of the run, by the first one.

    Raises
    ------
    Failed
        The model does not take `x`.
    """
    calls: Counter[str] = Counter()
    steps: list[int] = []
    neurons = {path for path, m in model.named_modules() if nodes.is_node(m)}
    first: list[str] = []

    def around(path: str, m: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
        if path in neurons:
            calls[path] += 1
            if not first:
                first.append(path)
                given = args[0] if args else None
                steps.append(given.shape[0] if nodes.multi_step(m) and isinstance(given, torch.Tensor) and given.dim() else 1)
        return forward(*args, **kwargs)

    reset(model)
    try:
        with torch.no_grad(), around_modules(model, around):
            model(x)
    except DeployError:
        raise
    except Exception as e:  # whatever the user's forward raises
        said = str(e).splitlines()[0] if str(e) else ""
        raise Failed(f"{type(e).__name__}: {said}{_line_of(e)}") from None
    finally:
        reset(model)
    return calls, steps[0] * calls[first[0]] if first else 0


def _line_of(e: Exception) -> str:
    tb, found = e.__traceback__, ""
    while tb is not None:
        line = users_line(tb.tb_frame)
        found, tb = line or found, tb.tb_next
    return f" [{found}]" if found else ""


def recorded(model: nn.Module, images: torch.Tensor, form: str, timesteps: int) -> tuple[Plan, dict[str, np.ndarray], torch.Tensor, list]:
    """The plan of a run, each layer's spikes uint8 [T, N, positions, channels], the class scores [N, classes], problems."""
    expected, steps = survey(model, shaped(images, form, timesteps))
    found: dict[str, list[np.ndarray]] = {}
    scores: Any = 0
    reset(model)
    for _ in range(timesteps if form == "step" else 1):
        reader = Reader(model, len(images), steps, expected, collect=True, events=form == "events")
        out = reader.run(shaped(images, form, timesteps))
        out = out[0] if isinstance(out, tuple | list) else out
        scores = scores + (out.sum(0) if out.dim() == 3 else out)
        for name, spikes in reader.spikes.items():
            found.setdefault(name, []).append(spikes)
        if reader.problems:
            break
    reset(model)
    reader.plan.timesteps = timesteps
    return reader.plan, {name: np.concatenate(parts) for name, parts in found.items()}, scores, reader.problems
