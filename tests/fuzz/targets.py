"""One target for each reader: a small good file, changed, and what a user would do with it."""

from __future__ import annotations

from typing import Any

from tests.fuzz.exports import Checkpoint, Config, Events, Export, Manifest, Npz
from tests.fuzz.nets import NetX, Nir, Npy, Ours

TARGETS: dict[str, Any] = {
    "netx": NetX, "ours": Ours, "nir": Nir, "onnx": Export, "manifest": Manifest, "npy": Npy, "npz": Npz, "events": Events,
    "config": Config, "checkpoint": Checkpoint,
}  # fmt: skip
