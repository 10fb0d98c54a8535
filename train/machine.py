"""What a run was computed on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from spikegate.train.backends import ranks


def describe(device: torch.device | None = None) -> dict[str, Any]:
    """Processor, usable cores, threads in use, versions; of a GPU its name, and with several processes their number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cpu": _cpu(), "cores": cores, "threads": torch.get_num_threads(), "system": platform.system(),
             "python": platform.python_version(), "torch": torch.__version__}
    if device is not None and device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found | ({"processes": ranks.count()} if ranks.count() > 1 else {})


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
