"""Where each page of the site comes from, and where a link in it leads."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages that are made of a file outside docs/, or of a notebook: page of the site -> file of the repository.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    **{f"tutorials/{p.stem}.md": f"docs/notebooks/{p.name}" for p in sorted((ROOT / "docs/notebooks").glob("*.ipynb"))},
}
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)


def origin(page: str) -> str:
    """The repository's file of a page, relative to the root."""
    return PAGES.get(page, f"docs/{page}")


def local_links(text: str) -> list[str]:
    """Targets of a Markdown text's links that lead to files of the repository, code blocks left out."""
    found = LINK.findall(FENCE.sub("", text))
    return [t for t in found if not re.match(r"[a-z]+:|#", t)]


def target_of(link: str, page: str) -> tuple[str, str]:
    """(repository path, anchor) that a link on a page leads to."""
    path, _, anchor = link.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin(page)), path)), anchor


def page_of(path: str) -> str:
    """The page of the site that shows a file or folder of the repository."""
    for page, source in PAGES.items():
        if source == path:
            return page
    shown = path.startswith("docs/") and not path.startswith("docs/hooks/")
    return path.removeprefix("docs/") if shown else f"source/{path}.md"


def rewritten(text: str, page: str) -> str:
    """The text with each link into the repository turned into one to the site's page of it."""

    def moved(match: re.Match[str]) -> str:
        link = match[1]
        if re.match(r"[a-z]+:|#", link):
            return match[0]
        path, anchor = target_of(link, page)
        to = posixpath.relpath(page_of(path), posixpath.dirname(page) or ".")
        return f"]({to}{'#' + anchor if anchor else ''})"

    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(moved, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(moved, text[at:])])
