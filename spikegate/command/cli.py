"""How every command behaves: exit 0 done, 1 a problem the user can act on (no traceback), 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from spikegate.command import stdout
from spikegate.command.ending import as_ctrl_c
from spikegate.command.extras import absent
from spikegate.command.table import as_called
from spikegate.errors import DeployError, escaped, hint_of

stdout.ensure()
T = TypeVar("T")


class CommandConsole(Console):
    """Prints texts with the commands named as they were called."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(as_called(escaped(o)) if isinstance(o, str) else o for o in objects), **options)


console = CommandConsole(highlight=False, width=None if sys.stdout.isatty() else 140)
errors = CommandConsole(stderr=True, highlight=False)


def parse(cls: type[T], description: str, args: list[str] | None = None, default: T | None = None) -> T:
    """Make the command line from a dataclass or pydantic model; an unknown option suggests the nearest, exit 2."""
    import tyro

    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    if default is None:
        return tyro.cli(cls, args=args, description=description, config=config)
    return tyro.cli(cls, args=args, description=description, default=default, config=config)


def run(main: Callable[[], None]) -> None:
    """Run a command's main function as a process: errors become one paragraph, never a traceback (unless SPIKEGATE_DEBUG is set)."""
    logging.basicConfig(level=os.environ.get("SPIKEGATE_LOG", "WARNING"), format="%(name)s: %(message)s")
    try:
        with as_ctrl_c():
            try:
                main()
            finally:
                sys.stdout.flush()
    except DeployError as e:
        if os.environ.get("SPIKEGATE_DEBUG"):
            raise
        errors.print(f"error: {e}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except ModuleNotFoundError as e:
        found = absent(e.name, sys.argv[0] if sys.argv[0].startswith("spikegate ") else Path(sys.argv[0]).name)
        if found is None or os.environ.get("SPIKEGATE_DEBUG"):
            raise
        errors.print(f"error: {found}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        stdout.discard()
        sys.exit(0)
    except (OSError, MemoryError, ImportError) as e:
        said = _of_the_system(e)
        if said is None or os.environ.get("SPIKEGATE_DEBUG"):
            raise
        stdout.discard()
        errors.print(f"error: {said}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be gone
            errors.print("interrupted", style="red")
        sys.exit(130)


def _of_the_system(e: BaseException) -> DeployError | None:
    """What the system refused, as an error to act on; None for an import that failed for another reason."""
    if isinstance(e, MemoryError):
        return DeployError("memory", "there is not enough", "use fewer images or a smaller --batch, or close other programs")
    if isinstance(e, OSError):
        hint = hint_of(e, "check the path, its permissions and the free space")
        return DeployError(str(e.filename or "the system"), str(e.strerror or e), hint)
    few = os.strerror(errno.EMFILE)
    return DeployError("the system", few, hint_of(OSError(errno.EMFILE, few), "")) if few in str(e) else None


def print_json(value: Any) -> None:
    """Machine-readable output: JSON alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=float) + "\n")
