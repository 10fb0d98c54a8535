"""Reference pages that are written when the site is built: modules of a folder, options of every command."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

from places import ROOT

from spikegate.__main__ import COMMANDS

WITHIN = {"import": ("spikingjelly", "nir")}  # commands that hand on to others
# Page -> (title, folders whose modules it shows, in order).
MODULES = {
    "graph": ("Graph and errors", ("spikegate", "spikegate/graph")),
    "engine": ("Engine and kernels", ("spikegate/engine", "spikegate/engine/chip_time", "spikegate/kernels")),
    "neurons": ("Neurons, synapses, what ops share", ("spikegate/neurons", "spikegate/synapses", "spikegate/ops/base")),
    "formats": ("Formats and data", ("spikegate/formats", "spikegate/formats/netx", "spikegate/formats/nir", "spikegate/data")),
    "command": ("Command line and API", ("spikegate/api", "spikegate/command", "spikegate/installation")),
    "train": ("Training", ("train", "train/settings", "train/models", "train/layers", "train/backends")),
    "convert": ("Conversion", ("convert", "convert/checks", "convert/spikingjelly")),
    "deploy": ("Deployment", ("deploy", "deploy/network", "deploy/lava", "deploy/lava_processes")),
    "hw_sim": ("Energy and hardware", ("hw_sim", "hw_sim/energy", "hw_sim/chip", "hw_sim/tables", "hw_sim/page", "hw_sim/sanafe")),
}


def modules_page(name: str) -> str:
    """Markdown with one mkdocstrings entry for each module of the page's folders."""
    title, folders = MODULES[name]
    parts = [f"# {title}\n"]
    for folder in folders:
        files = [p for p in sorted((ROOT / folder).glob("*.py")) if not p.name.startswith("__")]
        for file in files:
            dotted = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            parts.append(f"::: {dotted if dotted.startswith('spikegate.') else 'spikegate.' + dotted}\n")
    return "\n".join(parts)


def commands_page() -> str:
    """Markdown with the help text of every command that is there. Raises CalledProcessError where one cannot explain itself."""
    commands = {name: text for name, (module, text) in COMMANDS.items() if find_spec(module)}
    parts = [
        "# Commands\n",
        "`spikegate COMMAND` or, from a checkout, the script of the same name (`python deploy/run.py`): same options, same exit codes.",
        "This page holds what `spikegate COMMAND --help` prints.\n",
        "Exit code 0: done. 1: a problem that you can act on, told in one paragraph (what, where, what to do). 2: wrong usage.",
        "130: interrupted.\n",
        "| command | |\n|---|---|",
        *[f"| [`{name}`](#{name}) | {text} |" for name, text in commands.items()],
        "",
    ]
    for name, text in commands.items():
        parts += [f"## {name}\n", f"{text[0].upper()}{text[1:]}.\n", f"```text\n{help_of(name)}\n```\n"]
        for word in WITHIN.get(name, ()):
            parts.append(f"### {name} {word}\n\n```text\n{help_of(name, word)}\n```\n")
    return "\n".join(parts)


def help_of(*command: str) -> str:
    """What ``spikegate COMMAND --help`` prints on a page 88 characters wide."""
    environment = {**os.environ, "COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "spikegate", *command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
