"""manifest.json: what a deployment must know beside the net, so that neither torch nor train/ is needed to repeat it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from spikegate.files import atomic
from spikegate.graph.ir import DeployError

SCHEMA = 1
WRITTEN = ("model.net", "embedding.onnx")  # what an export consists of besides; a net may bring its test images, too
REQUIRED = (
    "schema",
    "name",
    "model",
    "dataset",
    "data",
    "classes",
    "labels",
    "timesteps",
    "halting",
    "grid",
    "image_shape",
    "host_macs",
    "dense_ops",
    "embedding_ops",
    "gates",
    "sha256",
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, content: dict[str, Any], files: tuple[str, ...] = WRITTEN) -> None:
    """Write the manifest with the hashes of the export's other files; it is written last, so it vouches for them."""
    content = {"schema": SCHEMA, **content, "sha256": {name: sha256(folder / name) for name in files}}
    with atomic(folder / "manifest.json") as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_manifest(folder: Path, verify: bool = True) -> dict[str, Any]:
    """The manifest of an export folder, checked.

    Raises
    ------
    DeployError
        Missing, damaged or newer manifest, or a file whose hash differs from the one recorded.
    """
    path = Path(folder) / "manifest.json"
    again = "export the run again: python convert/export.py"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise DeployError(str(path), "no such file", again) from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as e:
        raise DeployError(str(path), f"not a readable manifest ({e})", again) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise DeployError(str(path), f"has schema {found}, this version reads {SCHEMA}", again)
    missing = [k for k in REQUIRED if k not in content]
    if missing:
        raise DeployError(str(path), f"lacks {', '.join(missing)}", again)
    for name, digest in content["sha256"].items() if verify else ():
        target = Path(folder) / name
        mend = again if name in WRITTEN else "get the file again from where the export comes from"
        if not target.is_file():
            raise DeployError(str(target), "no such file", mend)
        if sha256(target) != digest:
            raise DeployError(str(target), "differs from what was exported (its hash does not match the manifest)", mend)
    return content
