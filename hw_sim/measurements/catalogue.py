"""All measurements of real chips that our figures are held against, and what could not be computed for want of a file."""

from __future__ import annotations

from pathlib import Path

from spikegate.hw_sim.chip import pilotnet as pilotnet_net
from spikegate.hw_sim.measurements import keywords, lif, lsnn_on_chip, nxtf, pilotnet, relnet
from spikegate.hw_sim.measurements.check import Check


def checks(pilotnet_file: Path | None = None, folder: Path | None = None) -> list[Check]:
    """Every figure; PilotNet's only with lava-dl's file, which is looked for where lava-dl is installed.

    `folder` may hold the public files (`lif.FILE`, `lsnn.FILES`, MNIST's test set): what they allow is then computed from them again.

    Raises
    ------
    DeployError
        If a given file cannot be read.
    """
    found = pilotnet_file is not None or pilotnet_net.find() is not None
    loihi2 = [*lif.checks(folder), *(pilotnet.checks(pilotnet_file) if found else [])]
    return [*loihi2, *lsnn_on_chip.checks(folder), *keywords.checks(), *nxtf.checks(), *relnet.checks()]


def missing(pilotnet_file: Path | None = None) -> str:
    """What was left out, empty if nothing."""
    found = pilotnet_file is not None or pilotnet_net.find() is not None
    return "" if found else "PilotNet is left out: its net comes with lava-dl (spikegate install-lava), or give --file"
