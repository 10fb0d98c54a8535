"""spikegate import spikingjelly|nir: one command for the formats that nets come in from."""

from __future__ import annotations

import sys
from importlib import import_module

FORMATS = {
    "spikingjelly": ("spikegate.convert.from_spikingjelly", "a SpikingJelly model, as convert/from_spikingjelly.py"),
    "framework": ("spikegate.convert.from_framework", "a model of snnTorch or Sinabs, as convert/from_framework.py"),
    "nir": ("spikegate.convert.from_nir", "a NIR file, as convert/from_nir.py"),
}


def main() -> None:
    """Hand the rest of the command line to the format's own command."""
    given = sys.argv[1:]
    usage = "usage: spikegate import FORMAT [OPTIONS]\n\n" + "\n".join(f"  {name:14}{text}" for name, (_, text) in FORMATS.items())
    usage += "\n\nNetX files need no import: spikegate run any.net --input x.npy"
    if given and given[0] in ("-h", "--help"):
        print(usage)
        return
    if not given or given[0] not in FORMATS:
        print(f"{usage}\n\nspikegate import: {'no format named' if not given else f'there is no format {given[0]!r}'}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"{sys.argv[0]} {given[0]}", *given[1:]]
    import_module(FORMATS[given[0]][0]).main()
