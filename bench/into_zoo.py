"""python bench/into_zoo.py RUN NAME: put a trained and exported run into the zoo, with its log, its first test images and its card."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from spikegate.command import cli
from spikegate.command.runs import find_export, find_run
from spikegate.graph.ir import DeployError

ROOT = Path(__file__).parents[1] / "zoo"
WANTED = re.compile(r"^(\$ |epoch |test accuracy |starts from |.*\([\d,]+ train, )")


@dataclass
class Args:
    """The net keeps its hashes; where data and runs lay on this machine is left out."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """A run with its export."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """Name in the zoo."""
    logs: tuple[Path, ...] = ()
    """What its trainings printed, in their order (bench/systems.py: runs/bench/PLAN/logs)."""
    images: int = 0
    """First test images to put beside it; none for data that come with a Python package."""
    data_path: Path | None = None
    """Local copy of the data, as train/run.py's --data.path."""
    cards: bool = False
    """Only write the cards of all nets anew."""


def main() -> None:
    """Parse the command line, copy, write the card."""
    args = cli.parse(Args, "Put a trained net into the zoo.")
    from bench import zoo_card

    if args.cards:
        for folder in sorted(p.parent for p in ROOT.glob("*/model.net")):
            (folder / zoo_card.FILE).write_text(zoo_card.card(folder))
            cli.console.print(f"written: {folder / zoo_card.FILE}", markup=False, soft_wrap=True)
        return
    if args.run is None or not re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)+", args.name):
        raise DeployError("RUN NAME", "are needed", "as in: bench/into_zoo.py runs/bench/fashion/stas-0-d53042 stas-fashion --logs ...")
    folder = ROOT / args.name
    ship(find_run(args.run), find_export(args.run), folder, args.logs, args.images, args.data_path)
    (folder / zoo_card.FILE).write_text(zoo_card.card(folder))
    size = sum(p.stat().st_size for p in folder.iterdir())
    cli.console.print(f"written: {folder} ({size / 1e6:.2f} MB)", markup=False, soft_wrap=True)


def ship(run: Path, export: Path, folder: Path, logs: tuple[Path, ...], images: int, data_path: Path | None) -> None:
    """Files of the run and of its export into `folder`, which holds nothing else afterwards."""
    from spikegate.data.shipped import FILE, open_images, write_shipped
    from spikegate.formats.manifest import read_manifest, write_manifest
    from spikegate.train.restore import load_run, read_facts, save_weights
    from spikegate.train.settings.options import write_yaml
    from spikegate.train.settings.runfolder import CONFIG, METRICS, WEIGHTS

    manifest, (config, net), facts = read_manifest(export), load_run(run), read_facts(run)
    shipped = open_images(export, manifest, f"test:{images}", data_path, option="--images") if images else None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in manifest["sha256"]:
        if name != FILE:
            shutil.copyfile(export / name, folder / name)
    config.data.path = None
    for key in ("start", "teacher"):
        if value := getattr(config.train, key):
            setattr(config.train, key, Path(_told(str(value), run)))
    write_yaml(config, folder / CONFIG)
    save_weights(folder / WEIGHTS, net, replace(facts, config_hash=config.hash))  # of the settings as they are written here
    metrics = json.loads((run / METRICS).read_text()) | {"config_hash": config.hash}
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    lines = [line.rstrip() for log in logs for line in log.read_text().splitlines() if WANTED.match(line)]
    (folder / "train.log").write_text("\n".join(_told(line, run) for line in lines) + "\n")
    files = [name for name in manifest["sha256"] if name != FILE]
    if shipped is not None:
        write_shipped(folder, shipped.x, shipped.y)
        files.append(FILE)
    write_manifest(folder, manifest, tuple(files))


def _told(text: str, run: Path) -> str:
    """Paths of runs as they would be in the repository."""
    return text.replace(str(run.parent.parent), "runs/bench")


if __name__ == "__main__":
    cli.run(main)
