"""python hw_sim/validate.py: PilotNet on the loihi2 profile beside its public measurement; exit 1 if a figure misses its tolerance."""

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
    """Check placement, counts, time and energy against a public measurement of Loihi 2."""

    file: Path | None = None
    """network.net of PilotNet LIF; the one in the tests of the installed lava-dl if left out."""
    json: bool = False
    """Print the figures as JSON only."""


def main() -> None:
    """Compute the checks and print them."""
    args = cli.parse(Args, "PilotNet LIF on the loihi2 profile beside its public measurement.")
    from spikegate.hw_sim.public_measurements import pilotnet_checks, show, to_json

    checks = pilotnet_checks(args.file)
    cli.print_json(to_json(checks)) if args.json else show(checks, cli.console)
    if not all(c.holds for c in checks):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
