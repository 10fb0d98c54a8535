"""Pages that show a file or folder of the repository to which another page links, so that the site needs no other place."""

from __future__ import annotations

from pathlib import Path

from places import ROOT

LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".cff": "yaml", ".sh": "sh", ".json": "json"}
LONGEST = 60_000  # characters of a file that are shown


def source_page(path: str) -> str:
    """Markdown of a file's text, or of what a folder holds. Raises FileNotFoundError for what does not exist."""
    place = ROOT / path
    if place.is_dir():
        items = [p for p in sorted(place.iterdir()) if not p.name.startswith((".", "__"))]
        return f"# {path}/\n\n" + "".join(f"- {_line(p)}\n" for p in items)
    text = place.read_text(errors="replace")
    if len(text) > LONGEST:
        text = text[:LONGEST] + "\n... (cut here)\n"
    return f"# {path}\n\n````{LANGUAGES.get(place.suffix, 'text')}\n{text.rstrip()}\n````\n"


def _line(item: Path) -> str:
    """Name of a file, with the first line of its docstring."""
    if item.suffix == ".py" and (text := item.read_text()).startswith('"""'):
        return f"`{item.name}`: {text.splitlines()[0].strip(chr(34))}"
    return f"`{item.name}{'/' if item.is_dir() else ''}`"
