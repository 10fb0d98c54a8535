"""python hw_sim/validate.py: our figures beside measurements of real chips; exit 1 if one misses what it has to keep."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not hw_sim/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path

from spikegate.command import cli


@dataclass
class Args:
    """Check spikes, placement, counts, time and energy against public measurements of Loihi 1 and Loihi 2."""

    file: Path | None = None
    """network.net of PilotNet LIF; the one in the tests of the installed lava-dl if left out."""
    data: Path | None = None
    """Folder with the public files of the other nets (LIF voltages, LSNN weights, MNIST's test set), to compute their activity again."""
    chart: Path | None = None
    """Write the chart (SVG) here."""
    json: bool = False
    """Print the figures as JSON only."""


def main() -> None:
    """Compute the checks and print them."""
    args = cli.parse(Args, "Our figures beside measurements of real chips.")
    from spikegate.hw_sim.measurements.catalogue import checks, missing
    from spikegate.hw_sim.measurements.show import show

    found = checks(args.file, args.data)
    if args.chart is not None:
        _write(args.chart, found)
    if args.json:
        cli.print_json([c.to_json() for c in found])
    else:
        show(found, cli.console)
        if note := missing(args.file):
            cli.console.print(note)
    if not all(c.holds for c in found):
        sys.exit(1)


def _write(path: Path, found: list) -> None:
    from spikegate.errors import DeployError
    from spikegate.hw_sim.page.measured_figure import measured
    from spikegate.hw_sim.page.svg import standalone

    try:
        path.write_text(standalone(measured(found).svg))
    except OSError as e:
        raise DeployError(str(path), f"cannot be written ({e.strerror})", "give a file in a folder that exists") from None


if __name__ == "__main__":
    cli.run(main)
