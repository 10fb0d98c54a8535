"""Notebooks as pages: executed by nbclient, then written as Markdown with their outputs."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from places import ROOT

ANSI = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 6_000  # characters of an output that are shown


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs. It runs in an empty folder, with this checkout's code; a failing cell raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(cwd=folder, env=environment)
    return notebook


def as_markdown(notebook: nbformat.NotebookNode, name: str) -> str:
    """The cells one after the other: text as it is, code and outputs fenced, pictures in the page."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts += [f"```python\n{cell.source}\n```", *_outputs(cell.outputs)]
    parts.insert(1, f"[Download this notebook](../notebooks/{name}.ipynb). It needs `spikegate[all]` and Lava (`spikegate install-lava`).")
    return "\n\n".join(parts) + "\n"


def _outputs(outputs: list[nbformat.NotebookNode]) -> list[str]:
    """Markdown of a cell's outputs; texts that follow each other become one block."""
    parts: list[str] = []
    text = ""
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data or "text/markdown" in data:
            parts += [_block(text), data.get("text/markdown") or f"![output](data:image/png;base64,{''.join(data['image/png'].split())})"]
            text = ""
        else:
            printed = ANSI.sub("", output.get("text") or data.get("text/plain", "")).rstrip()
            text += printed + "\n" if printed else ""
    return [part for part in (*parts, _block(text)) if part]


def _block(text: str) -> str:
    return f'```text title="Output"\n{text.rstrip()[:LONGEST]}\n```' if text.strip() else ""
