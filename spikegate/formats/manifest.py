"""manifest.json: what a deployment must know beside the net, so that neither torch nor train/ is needed to repeat it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spikegate.files import write_text
from spikegate.graph.ir import DeployError
from spikegate.reading import limits
from spikegate.reading.text import LONGEST_NAME, read_json

SCHEMA = 1
EMBEDDING = "embedding.onnx"
WRITTEN = ("model.net", EMBEDDING)  # what an export consists of besides; a net may bring its test images, too
AGAIN = "export the run again: python convert/export.py"
MOST = 1 << 53  # counts of operations; JSON's numbers are exact up to here
LONGEST_TEXT = 2_000


def _whole(low: int, high: int = MOST) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and low <= v <= high


def _text(v: Any) -> bool:
    return isinstance(v, str) and 0 < len(v) <= 10 * LONGEST_NAME and v.isprintable()


def _list_of(fit: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, list) and len(v) == (length or len(v)) and all(map(fit, v))


def _mapping_to(fit: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, dict) and all(_text(k) and fit(x) for k, x in v.items())


def _digest(v: Any) -> bool:
    return isinstance(v, str) and len(v) == 64 and set(v) <= set("0123456789abcdef")


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # what each must be, and how that is said
    "schema": (_whole(1), "a whole number"),
    "name": (_text, "a name"),
    "model": (_text, "a name"),
    "dataset": (_text, "a name"),
    "data": (lambda v: isinstance(v, dict) and _text(v.get("name")), "a mapping with the data set's name"),
    "classes": (_whole(1, 1 << 20), "a number of classes"),
    "labels": (_list_of(_text), "a list of names"),
    "timesteps": (_whole(1, 4096), "a whole number from 1 to 4096"),
    "halting": (lambda v: isinstance(v, bool), "true or false"),
    "grid": (_list_of(_whole(1, 1 << 16), 2), "[height, width]"),
    "image_shape": (
        lambda v: _list_of(_whole(1, 1 << 16))(v) and len(v) in (3, 4),
        "[channels, height, width], or [timesteps, polarities, height, width]",
    ),
    "host_macs": (_whole(0), "a whole number"),
    "dense_ops": (_mapping_to(_whole(0)), "a mapping from ops to whole numbers"),
    "embedding_ops": (_list_of(_text), "a list of ops"),
    "gates": (_list_of(_text), "a list of ops"),
    "sha256": (lambda v: _mapping_to(_digest)(v) and "model.net" in v, "the SHA-256 of the export's files"),
}
OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "parameters": (_whole(0), "a whole number"),
    "exit_drop": (lambda v: v is None or (type(v) in (int, float) and 0 <= v <= 1), "a share"),
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, content: dict[str, Any], files: tuple[str, ...] = WRITTEN) -> None:
    """Write the manifest with the hashes of the export's other files; it is written last, so it vouches for them.

    Where the data lie on this machine is left out: the file goes to other people.
    """
    data = {k: v for k, v in content["data"].items() if k != "path"}
    content = {"schema": SCHEMA, **content, "data": data, "sha256": {name: sha256(folder / name) for name in files}}
    write_text(folder / "manifest.json", json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_manifest(folder: Path, verify: bool = True) -> dict[str, Any]:
    """The manifest of an export folder, checked.

    Raises
    ------
    DeployError
        Missing, damaged or newer manifest, a field of another type, or a file whose hash differs from the one recorded.
    """
    path = Path(folder) / "manifest.json"
    content = read_json(path, "a readable manifest", AGAIN)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise DeployError(str(path), f"has schema {found}, this version reads {SCHEMA}", AGAIN)
    missing = [k for k in FIELDS if k not in content]
    if missing:
        raise DeployError(str(path), f"lacks {', '.join(missing)}", AGAIN)
    wrong = [f"{k} is not {said}" for k, (fit, said) in (FIELDS | OPTIONAL).items() if k in content and not fit(content[k])]
    wrong += [] if wrong or len(content["labels"]) == content["classes"] else ["labels are not as many as classes"]
    wrong += [] if wrong or len(content["image_shape"]) == 4 or EMBEDDING in content["sha256"] else [f"sha256 lacks {EMBEDDING}"]
    wrong += [f"{k} holds a text that cannot be shown" for k in content if not all(map(_shown, _texts(content[k])))]
    if wrong:
        raise DeployError(str(path), "; ".join(wrong), AGAIN)
    content["data"].pop("path", None)  # a manifest does not say which file of this machine is read
    for name, digest in content["sha256"].items() if verify else ():
        target = Path(folder) / name
        mend = AGAIN if name in WRITTEN else "get the file again from where the export comes from"
        if Path(name).name != name:
            raise DeployError(str(path), f"vouches for {name!r}, which is not in this folder", mend)
        limits.file_size(target, mend)
        if sha256(target) != digest:
            raise DeployError(str(target), "differs from what was exported (its hash does not match the manifest)", mend)
    return content


def _shown(text: str) -> bool:
    return text.isprintable() and len(text) <= LONGEST_TEXT


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    for inner in value if isinstance(value, list) else ():
        yield from _texts(inner)
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from _texts(inner)
