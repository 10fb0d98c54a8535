"""README.md of a net of the zoo: data, training, figures, limits, hashes, from the files that lie beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spikegate.formats.event_host import takes_events
from spikegate.formats.manifest import sha256
from spikegate.train.settings.data_config import DataConfig

FILE = "README.md"
DATA = {  # name -> (what it is, which limits follow)
    "digits": (
        "Optical Recognition of Handwritten Digits (UCI), 8x8 pixels, comes with scikit-learn",
        "360 test images: one image is 0.28 points.",
    ),
    "fashion": (
        "Fashion-MNIST, 28x28 pixels",
        "Settings of the plan were chosen by the validation images, exit margin and halting targets by looking at test figures, too.",
    ),
    "cifar10": (
        "CIFAR-10, 32x32 pixels, a copy that went through JPEG at quality 75 and is not bit-equal to the published set",
        "Figures on the published images will differ.",
    ),
    "cifar100": ("CIFAR-100, 32x32 pixels", "A small net: the papers' are ten times its size."),
    "nmnist": (
        "N-MNIST, event camera, 34x34 pixels and two polarities: 1,100 recordings of the published 70,000",
        "100 test recordings: one is a whole point.",
    ),
}
RECONSTRUCTED = ("at_snn", "dts_vit", "stas")
STARTS = re.compile(r"^starts from (zoo:[^;\s]+)", re.M)
EPOCH = re.compile(r"^epoch (\d+)/(\d+) (\w+):.*?([\d.]+) s(?:,|$)", re.M)
SIZES = re.compile(r"\(([\d,]+) train, ([\d,]+) validation, ([\d,]+) test")


def card(folder: Path) -> str:
    """The card of the net in `folder`, as Markdown; needs config.yml, manifest.json, metrics.json and train.log there."""
    config = yaml.safe_load((folder / "config.yml").read_text())
    manifest, metrics = (json.loads((folder / name).read_text()) for name in ("manifest.json", "metrics.json"))
    log = (folder / "train.log").read_text()
    what, limit = DATA[config["data"]["name"]]
    train, validation, test = SIZES.findall(log)[-1]
    found, ops, events = metrics["test"], manifest["ops"], takes_events(manifest)
    images = "recordings" if events else "images"
    neurons, synapses = (sum(o[key] for o in ops) for key in ("neurons", "synapses"))
    size = f"{manifest['parameters']:,} parameters; {len(ops)} ops, {neurons:,} neurons, {synapses:,} synapses"
    rows = [
        ("data", f"{train} training, {validation} validation, {test} test {images}; {_augmented(config['data'])}"),
        *(("training", part) for part in _parts(log)),
        ("recipe", _recipe(config)),
        ("machine", f"{metrics['machine']['cpu']}, torch {metrics['machine']['torch']}"),
        ("accuracy", f"{100 * found['accuracy']:.2f} % of {found['images']:,} test {images}, as deployed"),
        ("halting", _halting(manifest, found)),
        ("size", f"{size}, {manifest['timesteps']} timesteps"),
        ("host", "nothing: the first convolution is on chip" if events else f"{manifest['host_macs']:,} MACs an image"),
    ]
    lines = [
        f"# zoo:{folder.name}", "", f"`{manifest['model']}` on {what}. Run it: `python deploy/run.py zoo:{folder.name} --target int`.", "",
        "| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows), "", "Limits:", "", f"- {limit}",
        "- One seed. Nothing of it ran on a chip.",
    ]  # fmt: skip
    if left := re.search(r"([\d.]+)% of the events left out by data.most", log):
        most = config["data"]["most"]
        lines.append(f"- {left[1]} % of the camera's events are left out: a pixel gives at most {most} of each polarity in a timestep.")
    if manifest["model"] in RECONSTRUCTED:
        lines.append("- The mechanism is a reconstruction: the paper's code was not available (docs/systems.md says what is ours).")
    if (folder / "test.npz").is_file():
        with np.load(folder / "test.npz") as f:
            held = len(f["y"])
        if held < found["images"]:
            lines.append(f"- test.npz has the first {held} of the test images; all of them need the data set (`--data test`).")
    lines += ["", "SHA-256:", "", "```", *(f"{sha256(p)}  {p.name}" for p in sorted(folder.iterdir()) if p.name != FILE), "```", ""]
    return "\n".join(lines)


def _augmented(data: dict[str, Any]) -> str:
    if not data.get("augment"):
        return "no augmentation"
    names = {"rand_augment": "RandAugment", "cutout": "cutout", "mixup": "mixup", "cutmix": "cutmix"}
    more = [shown for key, shown in names.items() if data.get(key)]
    shift = data.get("shift")
    moves = ["shifted"] * (shift is None or shift > 0) + ["mirrored"] * DataConfig(**data).mirrored
    return " and ".join([*moves, *more]) + " at random"


def _parts(log: str) -> list[str]:
    """Each training of the log: its epochs by phase, and its minutes."""
    parts: list[dict[str, float]] = []
    for number, _, phase, seconds in EPOCH.findall(log):
        if number == "1" or not parts:
            parts.append({})
        parts[-1][phase] = parts[-1].get(phase, 0) + 1
        parts[-1]["s"] = parts[-1].get("s", 0) + float(seconds)
    shown, known = [], STARTS.search(log.partition("\nepoch ")[0])
    first = f"from {known[1]}" if known else "from random weights"
    for k, part in enumerate(parts):
        minutes, start = part.pop("s") / 60, first if k == 0 else "from there"
        epochs = ", ".join(f"{n:.0f} {'epoch' if n == 1 else 'epochs'} {phase}" for phase, n in part.items())
        shown.append(f"{start}: {epochs}, {minutes:.1f} min")
    return shown


def _recipe(config: dict[str, Any]) -> str:
    train, model = config["train"], config["model"]
    kept = ["batch_size", "lr", "weight_decay", "label_smoothing", "rates", "activity", "seed"]
    kept += ["alive_target"] * model["halting"]["enabled"] + ["timestep_target"] * model.get("mask", {}).get("enabled", False)
    teacher = train.get("teacher")
    who = f"an ANN ({teacher})" if teacher and teacher.endswith(".onnx") else "its static twin"
    taught = f"; taught by {who}, too" if teacher else ""
    return ", ".join(f"{k} {train[k]}" for k in kept if k in train) + taught + "; all settings in config.yml"


def _halting(manifest: dict[str, Any], found: dict[str, Any]) -> str:
    parts = [f"{100 * found['mean_tokens']:.0f} % of the tokens and {found['mean_timesteps']:.2f} timesteps as trained"]
    if found.get("mean_layer_timesteps") is not None:
        parts.append(f"{found['mean_layer_timesteps']:.2f} timesteps a layer")
    if manifest.get("exit_drop") is not None:
        drop = 100 * manifest["exit_drop"]
        parts.append(f"exits calibrated on validation images for at most {drop:.1f} points (deploy/run.py shows what they save)")
    if manifest.get("exit_loss") is not None:
        lost = 100 * manifest["exit_loss"]["loss"]
        parts.append(f"exits that cost {lost:.1f} points on validation images at most (deploy/run.py shows what they save)")
    return "; ".join(parts) if manifest["halting"] else "none"
