"""spikegate install-lava: add lava-nc and lava-dl to this Python, without the bounds that their metadata states but do not need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

from spikegate.command import cli
from spikegate.errors import DeployError

WHEELS = ("lava-nc==0.10.0", "lava-dl==0.6.0")


@dataclass
class Args:
    """lava-nc 0.10.0 and lava-dl 0.6.0 ask for Python <3.11 and old pins, though they work on 3.11 to 3.13 with today's packages.

    What they need besides comes with the extras ``spikegate[lava]`` (deployment) and ``spikegate[train]`` (SLAYER).
    """

    quiet: bool = False
    """Print nothing unless something goes wrong."""


def main() -> None:
    """Install both wheels with pip, dependencies and Python bound left out."""
    args = cli.parse(Args, "Add lava-nc and lava-dl to this Python.")
    if importlib.util.find_spec("pip") is None:
        raise DeployError("pip", f"is not installed for {sys.executable}", f"{sys.executable} -m ensurepip, then again")
    words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", *WHEELS]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise DeployError("pip", f"could not install {' and '.join(WHEELS)}:\n{done.stderr.strip()[-600:]}", " ".join(words))
    if not args.quiet:
        cli.console.print(f"installed {', '.join(WHEELS)}", markup=False)


if __name__ == "__main__":
    cli.run(main)
