"""The command ``spikegate``: one name for what train/, convert/, deploy/ and hw_sim/ do. Imports a command only when it is called."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import spikegate
from spikegate.command import stdout
from spikegate.command.table import COMMANDS


def overview() -> str:
    """What ``spikegate --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    head = ["usage: spikegate COMMAND [OPTIONS]", "", spikegate.__doc__ or "", ""]
    return "\n".join([*head, *lines, "", "spikegate COMMAND --help explains a command's options."])


def main() -> None:
    """Dispatch to a command; exit codes as of `spikegate.command.cli`: 0 done, 1 a problem, 2 wrong usage, 130 interrupted."""
    given = sys.argv[1:]
    stdout.ensure()
    if not given or given[0] in ("-h", "--help", "help", "-V", "--version"):
        try:
            print(f"spikegate {spikegate.__version__}" if given and given[0] in ("-V", "--version") else overview(), flush=True)
        except OSError:  # nobody reads it
            stdout.discard()
        sys.exit(0 if given else 2)
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
