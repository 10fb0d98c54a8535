"""Changes to an HDF5 file: f, the names of its datasets, (place, name) of its attributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutate import LARGE, NUMBERS, OUTSIDE, TEXTS, Rng, damaged, json_changed, one


def put(f: h5py.File, name: str, **more: Any) -> None:
    if name in f:
        del f[name]
    f.create_dataset(name, **more)


def number(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """One number, or all of a dataset, another one."""
    numeric = [n for n in sets if f[n].dtype.kind in "iuf"]
    name, v = one(rng, numeric), one(rng, NUMBERS)
    new = np.array(f[name][()], np.float64 if isinstance(v, float) else np.int64)
    if rng.random() < 0.6 and new.size:
        new.reshape(-1)[int(rng.integers(new.size))] = v
    else:
        new[...] = v
    put(f, name, data=new)


def label(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """Another text, or none."""
    name, text = one(rng, [n for n in sets if f[n].dtype.kind in "SO"]), one(rng, TEXTS)
    form = int(rng.integers(4))
    if form == 0:
        put(f, name, data=np.array([text], f"S{max(1, len(text))}"))
    elif form == 1:
        put(f, name, data=text.decode("utf-8", "replace"), dtype=h5py.string_dtype())
    else:
        put(f, name, data=np.array([] if form == 2 else [text[:8]] * 3, "S8"))


def kind(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """Another type of the same numbers, or of none."""
    name = one(rng, sets)
    old = np.asarray(f[name][()])
    flat = old.astype(np.int64) if old.dtype.kind in "iufb" else np.zeros(old.shape, np.int64)
    pick = int(rng.integers(12))
    if pick < 6:
        put(f, name, data=flat.astype((">i8", "u1", "f2", "f8", "c16", "?")[pick]))
    elif pick == 6:
        put(f, name, data=np.zeros(old.shape, [("a", "i4"), ("b", "f8")]))
    elif pick == 7:
        put(f, name, shape=old.shape, dtype=h5py.enum_dtype({"X": 0, "Y": 2}, "i1"))
    elif pick == 8:
        put(f, name, shape=(3,), dtype=h5py.vlen_dtype(np.int32))
    elif pick == 9:
        put(f, name, shape=(1,), dtype=h5py.ref_dtype)
    elif pick == 10:
        put(f, name, data=h5py.Empty("i4"))
    else:
        del f[name]
        f[name] = np.dtype("i4")


def shape(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """The same numbers in another shape, fewer or more of them."""
    name = one(rng, [n for n in sets if f[n].dtype.kind in "iuf"])
    x = np.asarray(f[name][()])
    flat = x.reshape(-1)
    put(f, name, data=one(rng, (flat, x[None], x[..., None], x.T, flat[:0], flat[:1], np.concatenate([flat, flat]), flat[:-1])))


def bomb(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """Little on disk, much in memory."""
    claimed = one(rng, ((1 << 40,), (1 << 28,), (1 << 27, 2), (1 << 32, 1 << 32), (1 << 14, 1 << 14), (1 << 23,)))
    chunks = tuple(min(n, 1 << 10) for n in claimed)
    put(f, one(rng, sets), shape=claimed, dtype=one(rng, ("i1", "i4", "f8", "S64")), chunks=chunks, compression="gzip")


def link(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """What leads out of the file, or round in it."""
    pick, name = int(rng.integers(8)), one(rng, sets)
    if pick == 0:
        one(rng, [f, *(f[g] for g in groups(f))])["loop"] = f["/"]
    elif pick == 1:
        at = f.create_group("wide")
        for _ in range(int(rng.integers(2, 40))):
            inner = at.create_group("a")
            at["b"] = inner
            at = inner
    elif pick == 2:
        f.create_group("/".join("d" * int(rng.integers(40, 300))))
    else:
        del f[name]
        if pick == 3:
            f[name] = h5py.SoftLink("/" + name)
        elif pick == 4:
            f[name] = h5py.ExternalLink(OUTSIDE, "/")
        elif pick == 5:
            f.create_dataset(name, (4,), "u1", external=[(OUTSIDE, 0, 4)])
        elif pick == 6:
            layout = h5py.VirtualLayout((4,), "i4")
            layout[:] = h5py.VirtualSource(OUTSIDE, "x", (4,))
            f.create_virtual_dataset(name, layout)
        else:
            f[name] = f[one(rng, [n for n in sets if n != name])]


def structure(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """Something missing, exchanged, of the other kind, or beside the rest."""
    pick, a, b = int(rng.integers(5)), one(rng, sets), one(rng, sets)
    if pick == 0:
        del f[one(rng, [*sets, *groups(f)])]
    elif pick == 1:
        g = one(rng, groups(f))
        del f[g]
        f[g] = np.arange(3)
    elif pick == 2:
        del f[a]
        f.create_group(a)
    elif pick == 3 and max(f[a].size or 0, f[b].size or 0) < LARGE:
        x, y = f[a][()], f[b][()]
        put(f, a, data=y)
        put(f, b, data=x)
    elif pick == 4:
        f[f"{a.rpartition('/')[0]}/{one(rng, ('0', '1', '99', 'x', '٣', '-1'))}z"] = np.arange(2)


def attribute(f: h5py.File, rng: Rng, sets: list[str], attrs: list[tuple[str, str]]) -> None:
    """One attribute another one."""
    where, key = one(rng, attrs)
    held, v = f[where].attrs, one(rng, NUMBERS)
    old, pick = held[key], int(rng.integers(8))
    if pick == 0:
        del held[key]
    elif pick == 1:
        held[key] = one(rng, TEXTS).decode("utf-8", "replace")
    elif pick == 2 and isinstance(old, str) and old[:1] in "[{":
        held[key] = json_changed(old, rng)
    elif pick in (3, 4) and isinstance(old, np.ndarray) and old.size:
        new = old.astype(np.float64 if isinstance(v, float) else np.int64)
        new.flat[int(rng.integers(new.size))] = v
        held[key] = new
    elif pick == 5:
        held[key] = one(rng, (h5py.Empty("i4"), np.zeros(2, [("a", "i4")]), np.zeros(0), np.arange(5)))
    else:
        held[key] = np.float64(v) if isinstance(v, float) else np.int64(v)


def groups(f: h5py.File) -> list[str]:
    found: list[str] = []
    f.visititems(lambda name, o: found.append(name) if isinstance(o, h5py.Group) else None)
    return found


Change = Callable[[h5py.File, Rng, list[str], list[tuple[str, str]]], None]
CHANGES: tuple[Change, ...] = (number, number, label, kind, shape, bomb, link, structure, attribute, attribute)
LEADS_OUT = (link, bomb)


def hdf5_changed(path: Path, rng: Rng) -> str:
    """Change an HDF5 file in place; returns what was done."""
    if rng.random() < 0.25:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return "bytes"
    done = []
    for _ in range(1 if rng.random() < 0.75 else int(rng.integers(2, 5))):
        with h5py.File(path, "a") as f:
            sets: list[str] = []
            f.visititems(lambda name, o, sets=sets: sets.append(name) if isinstance(o, h5py.Dataset) else None)
            attrs = [(n, k) for n in ["/", *groups(f)] for k in f[n].attrs]
            change = one(rng, CHANGES if attrs else CHANGES[:-2])
            change(f, rng, sets, attrs)
            done.append(change.__name__)
    return ", ".join(done)
