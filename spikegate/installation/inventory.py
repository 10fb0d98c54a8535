"""What is installed, what is missing and for what, and the machine under it. Imports none of the packages that it lists."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from spikegate.command.extras import OPTIONAL
from spikegate.command.runs import zoo_names

BASE = ("numpy", "numba", "h5py", "onnx", "onnxruntime", "pydantic", "tyro", "rich", "pyyaml", "jinja2", "pillow")
REPAIR = "pip install --force-reinstall spikegate"
GPU_CODE = """
import json, torch
found = []
if torch.cuda.is_available():
    known = [int("".join(c for c in a.split("_")[1] if c.isdigit())) for a in torch.cuda.get_arch_list() if "_" in a]
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        found.append({"name": p.name, "memory_gib": p.total_memory / 2**30, "capability": f"{p.major}.{p.minor}",
                      "known": any(a // 10 == p.major and a % 10 <= p.minor for a in known)})
print(json.dumps({"cuda": torch.version.cuda, "gpus": found}))
"""


@dataclass(frozen=True)
class Package:
    """A package: its version (None: missing), whether everything needs it, what needs it otherwise, and how to install it."""

    name: str
    version: str | None
    needed: bool
    purpose: str
    install: str


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages() -> list[Package]:
    """The packages that every command needs, then those of the extras."""
    base = [Package(name, version(name), True, "everything", REPAIR) for name in BASE]
    return base + [Package(o.package, version(o.package), False, o.purpose, o.install) for o in OPTIONAL]


def gpus(seconds: float = 60) -> dict[str, Any]:
    """What torch sees, asked in a process of its own: CUDA version and cards; a reason under "problem" where torch cannot say."""
    if version("torch") is None:
        return {"cuda": None, "gpus": [], "problem": "torch is not installed"}
    try:
        out = subprocess.run([sys.executable, "-c", GPU_CODE], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"cuda": None, "gpus": [], "problem": f"torch did not answer within {seconds:.0f} s"}
    if out.returncode:
        return {"cuda": None, "gpus": [], "problem": f"torch fails: {out.stderr.strip().splitlines()[-1]}"}
    found: dict[str, Any] = json.loads(out.stdout)
    return found


def cpu_name() -> str:
    """The processor's name, from /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def free_memory_gib() -> float | None:
    """Memory that a program can still have, GiB; None where the system does not say."""
    info = Path("/proc/meminfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    return None


@dataclass(frozen=True)
class Machine:
    """The machine and this installation on it."""

    spikegate: str
    folder: str
    python: str
    system: str
    cpu: str
    cores: int
    free_memory_gib: float | None
    free_disk_gib: float
    shared_memory_gib: float | None
    kernels: str
    kernels_compiled: bool
    zoo_nets: int

    def facts(self) -> dict[str, Any]:
        """JSON ready."""
        return asdict(self)


def machine() -> Machine:
    """Looked up now; shared memory is what Lava's channels between processes take."""
    from spikegate.kernels.compiling import ALL, FOLDER

    shm = Path("/dev/shm")
    return Machine(
        spikegate=version("spikegate") or "from a checkout", folder=str(Path(__file__).parents[1]), python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}", cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        free_memory_gib=free_memory_gib(), free_disk_gib=shutil.disk_usage(Path.cwd()).free / 2**30,
        shared_memory_gib=shutil.disk_usage(shm).free / 2**30 if shm.is_dir() else None, kernels=str(FOLDER),
        kernels_compiled=ALL.is_file(), zoo_nets=len(zoo_names()),
    )  # fmt: skip
