"""The command ``spikegate``: one name for what train/, convert/, deploy/ and hw_sim/ do. Imports a command only when it is called."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import spikegate

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


def overview() -> str:
    """What ``spikegate --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    head = ["usage: spikegate COMMAND [OPTIONS]", "", spikegate.__doc__ or "", ""]
    return "\n".join([*head, *lines, "", "spikegate COMMAND --help explains a command's options."])


def main() -> None:
    """Dispatch to a command; exit codes as of `spikegate.command.cli`: 0 done, 1 a problem, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())
        sys.exit(0 if given else 2)
    if given[0] in ("-V", "--version"):
        print(f"spikegate {spikegate.__version__}")
        return
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "spikegate --help lists the commands"
        print(f"spikegate: there is no command {name!r}\n  hint: {hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"spikegate {name}", *rest]
    from spikegate.command import cli

    cli.run(import_module(COMMANDS[name][0]).main)


if __name__ == "__main__":
    main()
