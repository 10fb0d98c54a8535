"""The commands: name -> (module with a `main`, what it does)."""

from __future__ import annotations

import re
import sys

COMMANDS = {
    "train": ("spikegate.train.run", "train a net from a YAML file, or go on with one"),
    "export": ("spikegate.convert.export", "write a trained run as NetX HDF5, ONNX and manifest, or as NIR"),
    "import": ("spikegate.convert.import_model", "bring in a SpikingJelly model (import spikingjelly) or a NIR file (import nir)"),
    "run": ("spikegate.deploy.run", "run an exported net or a NetX file in Lava or on the integer reference"),
    "compare": ("spikegate.deploy.compare", "prove that torch, integer reference and Lava agree, or name the first neuron that differs"),
    "estimate": ("spikegate.hw_sim.estimate", "energy per inference from the recorded events"),
    "place": ("spikegate.hw_sim.place", "cores, time and energy on a chip profile"),
    "sweep": ("spikegate.hw_sim.sweep", "the same net with other settings: accuracy beside energy"),
    "report": ("spikegate.hw_sim.report", "everything on one HTML page, runs side by side"),
    "validate": ("spikegate.hw_sim.validate", "the energy and time model beside public measurements of chips"),
    "zoo": ("spikegate.installation.zoo", "list the trained nets that run by name"),
    "bench": ("spikegate.installation.bench", "the benches of a checkout"),
    "doctor": ("spikegate.installation.doctor", "what is installed, what is missing for what, and a self-check"),
    "compile": ("spikegate.installation.compile", "compile the integer kernels now instead of at the first run"),
    "install-lava": ("spikegate.command.install_lava", "add lava-nc and lava-dl to this Python"),
    "completion": ("spikegate.installation.completion", "print a completion script for bash, zsh or fish"),
}

# The same commands as scripts of a checkout.
SCRIPTS = {
    "train/run.py": "train",
    "convert/export.py": "export",
    "convert/from_spikingjelly.py": "import spikingjelly",
    "convert/from_nir.py": "import nir",
    "convert/from_framework.py": "import framework",
    "deploy/run.py": "run",
    "deploy/compare.py": "compare",
    "hw_sim/estimate.py": "estimate",
    "hw_sim/place.py": "place",
    "hw_sim/sweep.py": "sweep",
    "hw_sim/report.py": "report",
    "hw_sim/validate.py": "validate",
}
SCRIPT = re.compile(rf"(?:python )?\b({'|'.join(map(re.escape, SCRIPTS))})")


def as_called(text: str) -> str:
    """The text with scripts named as the user calls them: where ``spikegate`` was called, ``python deploy/run.py`` is ``spikegate run``."""
    if not sys.argv[0].startswith("spikegate "):
        return text
    return SCRIPT.sub(lambda m: f"spikegate {SCRIPTS[m[1]]}", text)
