"""Deployments of two nets of the zoo and reports of them, for the tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikegate.deploy.inference import deploy
from spikegate.hw_sim.side_by_side import run

HALTING, STATIC = Path("zoo:stas-digits"), Path("zoo:spikformer-digits")
TABLES = ["paper45", "loihi1-davies", "loihi2-pilotnet"]
IMAGES = 24


def on_chip_run(output: Path, export: Path = HALTING, **more) -> None:
    """Run on the integer reference, as the command would in the folder `output`."""
    folder = output / "runs" / f"zoo-{export.name.removeprefix('zoo:')}" / "deploy"
    deploy(export, data=f"test:{IMAGES}", target="int", output=folder, **more)


def reported(folder: Path) -> Path:
    """`folder` with both nets' runs, the halting one's also without halting, `both` with the report of both, `full` on too small a chip."""
    on_chip_run(folder, record="spikes")
    on_chip_run(folder, halt="off")
    on_chip_run(folder, STATIC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run([HALTING, STATIC], None, TABLES, "loihi2", folder / "both")
        run([HALTING], None, ["loihi1-davies"], "loihi1", folder / "full")
    return folder
