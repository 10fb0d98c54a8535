"""events.npz, read with the gate of all archives and checked: every array of its type, no two of them in contradiction."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.graph.ir import COUNTERS
from spikegate.reading import arrays
from spikegate.reading.text import json_value, plain_name

SCHEMA = 2  # 1 held the counts of all ops and counters, also of those that count nothing
HINT = "run deploy/run.py again to write it"


def fields_of(path: Path) -> dict[str, Any]:
    """The fields of a `Record`; a DeployError names what is wrong with a file that is none."""
    if not path.exists():
        raise DeployError(str(path), "no such event record", HINT)
    with arrays.opened(path, HINT, "not an event record") as f:
        schema = int(_whole(f, "schema", 0))
        if schema not in (1, SCHEMA) or _names(f, "counters") != list(COUNTERS):
            raise DeployError(str(path), f"event record of schema {schema}, this version reads {SCHEMA}", HINT)
        exit_step, logits = (_whole(f, key, n) for key, n in (("exit_step", 1), ("logits", 2)))
        ops, kinds, gates = (_names(f, key) for key in ("ops", "kinds", "gates"))
        counts = _whole(f, "counts", 4) if schema == 1 else _unpacked(f, len(ops))
        labels, entering = _whole(f, "labels", 1, or_empty=True), _whole(f, "entering", 1) if "entering" in f else np.zeros(0, int)
        meta = json_value(f["meta"], f"{path}: meta", HINT)
        alive = _alive(f, str(path))
        per_op = {k: _whole(f, k, None) for k in f.names if k.startswith(("activity/", "values/"))}
    n, steps = counts.shape[:2]
    fit = (
        counts.shape == (n, steps, len(ops), len(COUNTERS)) and len(kinds) == len(ops) and counts.min(initial=0) >= 0
        and exit_step.shape == (n,) and exit_step.min(initial=1) >= 1 and exit_step.max(initial=1) <= max(1, steps)
        and alive.shape[:3] == (n, steps, len(gates) + 1) and all(0 <= e <= len(gates) for e in entering.tolist())
        and labels.shape in ((n,), (0,)) and len(logits) == n and isinstance(meta, dict)
        and all(k.split("/", 1)[1] in ops and v.shape[:1] == (steps if k.startswith("activity/") else n,) for k, v in per_op.items())
    )  # fmt: skip
    if not fit:
        raise DeployError(str(path), "the event record contradicts itself (shapes or ranges)", HINT)
    return {
        "ops": ops, "kinds": kinds, "counts": counts.astype(np.int64), "exit_step": exit_step.astype(np.int64),
        "logits": logits.astype(np.int64), "gates": gates, "alive": alive, "labels": labels if labels.size else None, "meta": meta,
        "entering": entering.tolist(), "activity": _of(per_op, "activity/", path), "values": _of(per_op, "values/", path),
    }  # fmt: skip


def _unpacked(f: arrays.Archive, ops: int) -> np.ndarray:
    """Counts [N, T, ops, counters] from the columns (op, counter) that hold any."""
    held, used = _whole(f, "counts", 3), f["used"]
    if used.dtype != bool or used.shape != (ops, len(COUNTERS)) or held.shape[2] != np.count_nonzero(used):
        raise DeployError(f"{f.where}: used", "does not say which counts there are", HINT)
    whole = np.zeros((*held.shape[:2], ops, len(COUNTERS)), np.int64)
    whole[:, :, used] = held
    return whole


def _of(per_op: dict[str, np.ndarray], start: str, path: Path) -> dict[str, np.ndarray]:
    """Arrays by op: activity as int32, which is how it was counted, the others as int64."""
    kind = np.int32 if start == "activity/" else np.int64
    found = {k.removeprefix(start): v for k, v in per_op.items() if k.startswith(start)}
    for name, value in found.items():
        if value.size and (value.min() < np.iinfo(kind).min or value.max() > np.iinfo(kind).max):
            raise DeployError(f"{path}: {start}{name}", f"holds numbers that do not fit {kind.__name__}", HINT)
    return {name: value.astype(kind) for name, value in found.items()}


def _whole(f: arrays.Archive, name: str, axes: int | None, or_empty: bool = False) -> np.ndarray:
    """Integers with so many axes, any number of them where `axes` is None; `or_empty` takes any empty array, too."""
    value = f[name]
    if (or_empty and not value.size) or (value.dtype.kind in "iu" and axes in (None, value.ndim)):
        return value
    raise DeployError(f"{f.where}: {name}", f"is {value.dtype} {list(value.shape)}, not the integers that a run records", HINT)


def _names(f: arrays.Archive, name: str) -> list[str]:
    value = f[name]
    found = [str(v) for v in value.ravel()] if value.dtype.kind == "U" or not value.size else [""]
    if value.ndim != 1 or not all(plain_name(v) for v in found):
        raise DeployError(f"{f.where}: {name}", "is no list of names", HINT)
    return found


def _alive(f: arrays.Archive, where: str) -> np.ndarray:
    """bool [N, T, gates + 1, tokens], which is stored as bits."""
    packed, shape = f["alive"], _whole(f, "alive_shape", 1).tolist()
    if packed.dtype != np.uint8 or packed.ndim != 1 or len(shape) != 4 or min(shape) < 0 or -(-math.prod(shape) // 8) != packed.size:
        raise DeployError(f"{where}: alive", f"is no mask of shape {shape}", HINT)
    bits: np.ndarray = np.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)
    return bits
