"""Several processes that train one net, started by `torchrun`: each takes its part of every batch, the first one writes.

Gradients are summed in one go after the backward pass, weighted by each part's share of the batch. (`DistributedDataParallel` averages
over ranks, which is right only for parts of one size, and waits for parameters that take no part in a phase.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from spikegate.command.cli import console
from spikegate.graph.ir import DeployError
from spikegate.train.backends import ranks

PATIENCE = timedelta(minutes=10)  # that a process waits for another one


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within it the processes that `torchrun` started work together; without `torchrun` nothing happens.

    Raises
    ------
    DeployError
        Another process is gone.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    quiet = console.quiet
    console.quiet = console.quiet or not leads()
    try:
        yield
    except RuntimeError as e:
        if isinstance(e, DeployError) or not _lost(e):
            raise
        what = f"another of the {ranks.count()} processes is gone ({str(e).splitlines()[0]})"
        hint = "see the first error above; go on with --resume, with any number of processes"
        raise DeployError(f"rank {ranks.number()}", what, hint) from None
    finally:
        console.quiet = quiet
        distributed.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    known = isinstance(error, distributed.DistError)
    return known or any(word in text for word in ("gloo", "nccl", "connection closed", "connection reset", "socket", "timed out"))


def leads() -> bool:
    """Whether this process is the one that writes and prints."""
    return ranks.number() == 0


def from_leader(value: Any) -> Any:
    """The leader's value (a path, a number), on every rank."""
    if ranks.count() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all ranks, in place."""
    if ranks.count() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    distributed.all_reduce(flat)
    for g, part in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(part.view_as(g))


def summed(values: torch.Tensor) -> torch.Tensor:
    """Sum of a small tensor over the ranks."""
    if ranks.count() > 1:
        distributed.all_reduce(values)
    return values
