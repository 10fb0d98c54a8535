"""spikegate bench NAME: run a bench of a checkout; benches are no part of the installed package."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

from spikegate.errors import DeployError


def folder() -> Path | None:
    """bench/ of the checkout that this package is imported from, or None."""
    root = Path(__file__).resolve().parents[2]
    return root / "bench" if (root / "bench").is_dir() and (root / "pyproject.toml").is_file() else None


def benches() -> dict[str, str]:
    """Name -> first line of its text, of each bench that is a command."""
    found, here = {}, folder()
    for path in sorted(here.glob("*.py")) if here else ():
        text = path.read_text()
        if "__main__" in text:
            found[path.stem] = text.splitlines()[0].strip('"').split(": ", 1)[-1]
    return found


def main() -> None:
    """Run bench/NAME.py with the rest of the command line, in the current folder; its exit code is ours."""
    given, known = sys.argv[1:], benches()
    usage = "usage: spikegate bench NAME [OPTIONS]\n\n" + "\n".join(f"  {n:12}{text}" for n, text in known.items())
    if given and given[0] in ("-h", "--help"):
        print(usage if known else "usage: spikegate bench NAME [OPTIONS]\n\nThis is no checkout: the benches are not installed.")
        return
    here = folder()
    if here is None:
        raise DeployError("bench", "the benches are not installed, only a checkout has them", "clone the repository and pip install -e .")
    if not given:
        print(f"{usage}\n\nspikegate bench: no bench named", file=sys.stderr)
        sys.exit(2)
    if given[0] not in known:
        near = difflib.get_close_matches(given[0], known, 1)
        print(f"spikegate bench: there is no bench {given[0]!r}\n  hint: "
              f"{f'did you mean {near[0]}?' if near else 'spikegate bench --help lists them'}", file=sys.stderr)
        sys.exit(2)
    sys.exit(subprocess.run([sys.executable, here / f"{given[0]}.py", *given[1:]]).returncode)
