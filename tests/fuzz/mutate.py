"""Changes to files: of bytes, and of what they mean. Every one is decided by the generator alone, so that a case can be made again."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

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
