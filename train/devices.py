"""Where training runs: the device that the settings name, prepared so that integers stay integers, and what it has in memory."""

from __future__ import annotations

import os
import resource
import sys

import torch

from spikegate.graph.ir import DeployError


def resolve(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` names; under `torchrun`, ``cuda`` is this process's own.

    Raises
    ------
    DeployError
        No such name, or no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise DeployError("device", f"unknown: {name!r}", "use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeployError("device", "no GPU that this PyTorch can use", "use cpu, or install a build of torch for your GPU and its driver")
    at = int(index) if index else int(os.environ.get("LOCAL_RANK", 0))
    if at >= torch.cuda.device_count():
        raise DeployError("device", f"cuda:{at}, but there are {torch.cuda.device_count()} GPUs", "name another, or start fewer processes")
    return torch.device("cuda", at)


def prepare(device: torch.device) -> None:
    """Products in full float32 (no TF32) with full sums, and the same algorithms in every run."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def forget_peak(device: torch.device) -> None:
    """Count the peak of `peak_bytes` from here on; a processor's memory has no such mark."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Largest memory in use: of the GPU's tensors since `forget_peak`, or of this process since its start."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def room_bytes(device: torch.device) -> float:
    """Memory that data may take on a device: half of what is free there; on the processor it lies already."""
    return 0.5 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def wait(device: torch.device) -> None:
    """Until what was asked of the device is done: before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
