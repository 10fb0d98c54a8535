"""Where a run's own data lie: settings and import reports say it, a manifest does not, since exports go to other people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikegate.command.runs import trained_in
from spikegate.reading import limits
from spikegate.reading.text import read_json

SETTINGS, IMPORT = "config.yml", "import.json"


def data_path(export: Path) -> Path | None:
    """The path of the data in the run that an export lies in, or None where that says none."""
    run = trained_in(export)
    for name in (SETTINGS, IMPORT):
        if (run / name).is_file():
            found: Any = _content(run / name)
            data = found.get("data") if isinstance(found, dict) else None
            path = data.get("path") if isinstance(data, dict) else None
            if isinstance(path, str) and path:
                return Path(path)
    return None


def _content(path: Path) -> Any:
    """What a settings file or a report says; None where it cannot be read, which its own reader reports."""
    if path.suffix == ".json":
        return read_json(path, "a readable report", "import the net again")
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.stat().st_size < limits.JSON_BYTES else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
