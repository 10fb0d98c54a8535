"""Command: train a net. ``python train/run.py --help`` lists all settings."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not train/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads collapse on busy cores; read when torch is imported

from spikegate.command import cli
from spikegate.train.settings.options import from_command_line


def main() -> None:
    config = from_command_line(sys.argv[1:])
    from spikegate.train.loop import fit  # torch takes seconds to import: not for --help or a wrong setting

    run = fit(config)
    cli.console.print(f"wrote {run}/ (weights, settings, metrics); next: python convert/export.py {run}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
