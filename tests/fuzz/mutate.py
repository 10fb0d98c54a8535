"""Changes to files: of bytes, and of what they mean. Every one is decided by the generator alone, so that a case can be made again."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator
NUMBERS = (0, -1, 1, 2, 3, 5, 7, -2, 63, 64, 100, 255, 257, 4096, 4097, (1 << 15) - 1, 1 << 16, 1 << 20, (1 << 23) - 1, 1 << 24,
           (1 << 31) - 1, -(1 << 31), 1 << 31, 1 << 32, (1 << 32) + 2, 1 << 40, (1 << 63) - 1, -(1 << 63), 0.5, 1e-30, 1e20, 1e300,
           np.nan, np.inf, -np.inf)  # fmt: skip
TEXTS = (b"", b"conv", b"dense", b"pool", b"concat", b"CUBA", b"SDNN", b"input", b"flatten", b"average", b"dense_rec", b"convT",
         b"\xff\xfe",
         "\u202eevnoc".encode(), b"A" * 5000, b"[bold]x[/bold]", b"\x1b[31mred", b"../../etc/passwd", b"a\nb")  # fmt: skip
VALUES = (None, [], {}, "", "x", "../../../etc/passwd", True, [[]], {"a": {"b": 1}}, -1, 0, 1e308, 10**30, "9" * 50, "\x1b[2J",
          [None] * 3, 0.5)  # fmt: skip
OUTSIDE = "/etc/hostname"
LARGE = 1 << 20  # values that are not written out: a file may take as much memory as it is long


def one(rng: Rng, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


def damaged(data: bytes, rng: Rng) -> bytes:
    """Flipped bits, a cut, a hole, a doubled or missing piece."""
    b, n = bytearray(data), len(data)
    if not n:
        return b"\0"
    how, at = int(rng.integers(7)), int(rng.integers(n if rng.random() < 0.5 else min(n, 4096)))
    size = int(min(n - at, 2 ** rng.integers(0, 12)))
    if how < 3:
        for _ in range(int(2 ** rng.integers(0, 6))):
            b[int(rng.integers(n))] ^= 1 << int(rng.integers(8))
    elif how == 3:
        del b[at:]
    elif how == 4:
        b[at : at + size] = bytes(size)
    elif how == 5:
        b[at:at] = b[at : at + size]
    else:
        del b[at : at + size]
    return bytes(b)


# ------------------------------------------------------------------ HDF5: f, the names of its datasets, (place, name) of its attributes


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


# ------------------------------------------------------------------ texts, arrays, archives


def json_changed(text: str, rng: Rng) -> str:
    """One place of a JSON text another value, gone or renamed; or its bytes damaged."""
    if rng.random() < 0.15:
        return damaged(text.encode(), rng).decode("utf-8", "replace").replace("\0", "")
    tree = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if not places:
        return "null"
    top = [(tree, k) for k in tree] if isinstance(tree, dict) else places
    node, key = one(rng, top if rng.random() < 0.6 else places)
    pick = int(rng.integers(8))
    if pick == 0:
        del node[key]
    elif pick == 1 and isinstance(node, dict):
        node[f"{key}x"] = node.pop(key)
    elif pick == 2:
        node[key] = one(rng, NUMBERS)
    else:
        node[key] = one(rng, VALUES)
    return json.dumps(tree)


LINES = ("a: &a [*a, *a]", "x: !!python/object/apply:os.system ['touch PWNED']", "  - [", "data: 3", "\t", "train: {epochs: 1e400}",
         "model: {depth: -1}", "? {a: b}", "? [1]\n: 2", "<<: [1]", "a: " + "[" * 3000, "%YAML 9.9", "\u0085", "k: 0x" + "f" * 400,
         "k: " + "9" * 6000, "  timesteps: .nan", "  dim: 1e9", "  name: stmixer", "  seed: -1", "d: 2001-99-99", "d: 2001-01-01",
         "d: 0001-01-01 00:00:00 +99:99", "!!set {a}", "!!binary ====", "k: \x1b[2J")  # fmt: skip
SCALARS = ("-1", "0", "1e9", ".inf", "null", "[]", "{}", "x", "true", "'3'", "9" * 21, "2001-01-01", ".nan", "!!binary aGk=")


def yaml_changed(text: str, rng: Rng) -> str:
    """One line of a YAML text another one."""
    if rng.random() < 0.2:
        return damaged(text.encode(), rng).decode("utf-8", "replace")
    lines = text.splitlines()
    k = int(rng.integers(len(lines)))
    if rng.random() < 0.6 and ":" in lines[k]:
        lines[k] = lines[k].split(":")[0] + ": " + one(rng, SCALARS)
    elif rng.random() < 0.5:
        lines[k] = one(rng, LINES)
    else:
        lines.insert(k, one(rng, LINES))
    return "\n".join(lines)


def npy_changed(x: np.ndarray, rng: Rng) -> bytes:
    """A .npy file of another type, shape or content, a pickle, a lying header, or damaged bytes."""
    out, pick = io.BytesIO(), int(rng.integers(10))
    flat = x if x.dtype.kind in "iufb" and x.size else np.arange(3)
    if pick == 0:
        np.save(out, np.array([{"a": 1}, None], object), allow_pickle=True)
    elif pick == 1:
        y = flat.astype(np.float64)
        y.flat[int(rng.integers(y.size))] = one(rng, (np.nan, np.inf, 0.5, 1e300))
        np.save(out, y)
    elif pick == 2:
        np.save(out, flat.astype(one(rng, ("c16", "S3", "U4", ">i8", "u8", "?", "f2")), casting="unsafe"))
    elif pick == 3:
        np.save(out, one(rng, (flat[:0], flat.reshape(-1), flat[None], flat.T, flat[..., None], np.int32(3), np.zeros(2, [("a", "i4")]))))
    elif pick == 4:
        y = flat.astype(np.int64)
        y.flat[int(rng.integers(y.size))] = one(rng, [n for n in NUMBERS if isinstance(n, int)])
        np.save(out, y)
    elif pick == 5:
        claim = one(rng, ("(1099511627776,)", "(-1,)", "(4294967296, 4294967296)", "(268435456, 8)", "()", "(3,", "(3, 4, 5, 6)"))
        head = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {claim}, }}\n".encode()
        return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64)
    elif pick == 6:
        return pickle.dumps({"x": x})
    elif pick == 7:
        np.savez(out, a=x)
    else:
        np.save(out, x)
        return damaged(out.getvalue(), rng)
    return out.getvalue()


def npz_changed(data: bytes, rng: Rng) -> bytes:
    """One member replaced, gone or damaged, with its check sum right; or damaged bytes."""
    if rng.random() < 0.2:
        return damaged(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = {n: z.read(n) for n in z.namelist()}
    name = one(rng, sorted(members))
    x = np.load(io.BytesIO(members[name]))
    if x.dtype.kind == "U" and x.ndim == 0 and rng.random() < 0.7:
        out = io.BytesIO()
        np.save(out, np.array(json_changed(str(x), rng)))
        members[name] = out.getvalue()
    elif rng.random() < 0.15:
        del members[name]
    else:
        members[name] = npy_changed(x, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", one(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))) as z:
        for n, content in members.items():
            z.writestr(n, content)
    return packed.getvalue()
