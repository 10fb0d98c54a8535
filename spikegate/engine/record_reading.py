"""events.npz, read with the gate of all archives and checked: every array of its type, no two of them in contradiction."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.engine.record_counts import WIDTHS, unpacked_counts
from spikegate.errors import DeployError
from spikegate.graph.ir import COUNTERS
from spikegate.reading import arrays, limits
from spikegate.reading.text import json_value, plain_name

SCHEMA = 3  # 1 held the counts of all ops and counters; 2 of those that count any, and activity and values as one array for each op
EMPTY = 4  # times as much as of other arrays: what an exit leaves empty is not in the file
HINT = "run deploy/run.py again to write it"


def fields_of(path: Path) -> dict[str, Any]:
    """The fields of a `Record`; a DeployError names what is wrong with a file that is none."""
    if not path.exists():
        raise DeployError(str(path), "no such event record", HINT)
    with arrays.opened(path, HINT, "not an event record") as f:
        schema = int(_whole(f, "schema", 0))
        if schema not in (1, 2, SCHEMA) or _names(f, "counters") != list(COUNTERS):
            raise DeployError(str(path), f"event record of schema {schema}, this version reads {SCHEMA}", HINT)
        exit_step, logits = (_whole(f, key, n) for key, n in (("exit_step", 1), ("logits", 2)))
        ops, kinds, gates = (_names(f, key) for key in ("ops", "kinds", "gates"))
        counts = _whole(f, "counts", 4) if schema == 1 else _columns(f, len(ops)) if schema == 2 else _counts(f, len(ops))
        labels, entering = _whole(f, "labels", 1, or_empty=True), _whole(f, "entering", 1) if "entering" in f else np.zeros(0, int)
        meta = json_value(f["meta"], f"{path}: meta", HINT)
        alive = _alive(f)
        activity, values = _by_op(f, schema)
    n, steps = counts.shape[:2]
    fit = (
        counts.shape == (n, steps, len(ops), len(COUNTERS)) and len(kinds) == len(ops) and counts.min(initial=0) >= 0
        and exit_step.shape == (n,) and exit_step.min(initial=1) >= 1 and exit_step.max(initial=1) <= max(1, steps)
        and not counts[np.arange(steps) >= exit_step[:, None]].any()
        and alive.shape[:3] == (n, steps, len(gates) + 1) and all(0 <= e <= len(gates) for e in entering.tolist())
        and labels.shape in ((n,), (0,)) and len(logits) == n and isinstance(meta, dict)
        and all(k in ops and v.shape[:1] == (steps,) for k, v in activity.items())
        and all(k in ops and v.shape == (n, steps) for k, v in values.items())
    )  # fmt: skip
    if not fit:
        raise DeployError(str(path), "the event record contradicts itself (shapes or ranges)", HINT)
    return {
        "ops": ops, "kinds": kinds, "counts": counts.astype(np.int64), "exit_step": exit_step.astype(np.int64),
        "logits": logits.astype(np.int64), "gates": gates, "alive": alive, "labels": labels if labels.size else None, "meta": meta,
        "entering": entering.tolist(), "activity": activity, "values": values,
    }  # fmt: skip


def _columns(f: arrays.Archive, ops: int) -> np.ndarray:
    """Counts [N, T, ops, counters] from the columns (op, counter) that hold any."""
    held, used = _whole(f, "counts", 3), f["used"]
    if used.dtype != bool or used.shape != (ops, len(COUNTERS)) or held.shape[2] != np.count_nonzero(used):
        raise DeployError(f"{f.where}: used", "does not say which counts there are", HINT)
    whole = np.zeros((*held.shape[:2], ops, len(COUNTERS)), np.int64)
    whole[:, :, used] = held
    return whole


def _counts(f: arrays.Archive, ops: int) -> np.ndarray:
    """Counts [N, T, ops, counters] as `packed_counts` leaves them."""
    width, shape = _whole(f, "counts_width", 2), _whole(f, "counts_shape", 1).tolist()
    if width.shape != (ops, len(COUNTERS)) or not np.isin(width, (0, *WIDTHS)).all() or len(shape) != 2:
        raise DeployError(f"{f.where}: counts_width", "does not say which counts there are", HINT)
    rows = _bits(f, "counts_rows", shape).ravel()
    limits.check_bytes(f"{f.where}: counts", len(rows) * width.size * 8 // EMPTY, f.size)
    try:
        return unpacked_counts((shape[0], shape[1]), rows, width, {w: _whole(f, f"counts/{w}", 2) for w in WIDTHS if (width == w).any()})
    except ValueError as e:
        raise DeployError(f"{f.where}: counts", str(e), HINT) from None


def _by_op(f: arrays.Archive, schema: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(activity as int32, which is how it was counted; values as int64) by op."""
    if schema < SCHEMA:
        starts = ("activity/", "values/")
        activity, values = ({k.removeprefix(s): _whole(f, k, None) for k in f.names if k.startswith(s)} for s in starts)
    else:
        activity, values = _sent(f)
    return _as(f, "activity", activity, np.int32), _as(f, "values", values, np.int64)


def _sent(f: arrays.Archive) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Activity and values by op, from one array each."""
    sent, flat, values = json_value(f["sent"], f"{f.where}: sent", HINT), _whole(f, "activity", 1), _whole(f, "values", None)
    shapes, names = (sent.get("activity"), sent.get("values")) if isinstance(sent, dict) else (None, None)
    if (
        not isinstance(shapes, dict) or not isinstance(names, list) or not all(isinstance(n, str) for n in names)
        or not all(isinstance(s, list) and all(type(k) is int and k >= 0 for k in s) for s in shapes.values())
    ):  # fmt: skip
        raise DeployError(f"{f.where}: sent", "does not say which op sent what", HINT)
    sizes = [math.prod(s) for s in shapes.values()]
    if sum(sizes) != len(flat) or (len(values) if values.ndim > 1 else 0) != len(names):
        raise DeployError(f"{f.where}: sent", "does not fit activity and values", HINT)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {n: part.reshape(shape) for (n, shape), part in zip(shapes.items(), parts)}, dict(zip(names, values))


def _as(f: arrays.Archive, key: str, by_op: dict[str, np.ndarray], kind: type[np.signedinteger[Any]]) -> dict[str, np.ndarray]:
    """The arrays as integers of this type."""
    for name, value in by_op.items():
        if value.size and (value.min() < np.iinfo(kind).min or value.max() > np.iinfo(kind).max):
            raise DeployError(f"{f.where}: {key}/{name}", f"holds numbers that do not fit {kind.__name__}", HINT)
    return {name: value.astype(kind) for name, value in by_op.items()}


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


def _bits(f: arrays.Archive, name: str, shape: list[int]) -> np.ndarray:
    """bool of this shape, which is stored as bits."""
    packed = f[name]
    if packed.dtype != np.uint8 or packed.ndim != 1 or min(shape) < 0 or -(-math.prod(shape) // 8) != packed.size:
        raise DeployError(f"{f.where}: {name}", f"is no mask of shape {shape}", HINT)
    bits: np.ndarray = np.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)
    return bits


def _alive(f: arrays.Archive) -> np.ndarray:
    """bool [N, T, gates + 1, tokens]."""
    shape = _whole(f, "alive_shape", 1).tolist()
    if len(shape) != 4:
        raise DeployError(f"{f.where}: alive_shape", "is not the shape [samples, timesteps, gates + 1, tokens]", HINT)
    return _bits(f, "alive", shape)
