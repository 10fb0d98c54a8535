"""Notebooks as pages: executed by nbclient, then written as Markdown with their outputs."""

from __future__ import annotations

import base64
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
            parts.append(f"```python\n{cell.source}\n```")
            parts += [_output(o) for o in cell.outputs]
    parts.insert(1, f"[Download this notebook](../notebooks/{name}.ipynb). It needs nothing but an installed Spikegate.")
    return "\n\n".join(parts) + "\n"


def _output(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return _block(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{base64.b64encode(base64.b64decode(data['image/png'])).decode()})"
    if "text/markdown" in data:
        return data["text/markdown"]
    return _block(data.get("text/plain", ""))


def _block(text: str) -> str:
    text = ANSI.sub("", text).rstrip()
    return f"```text title=\"Output\"\n{text[:LONGEST]}\n```" if text else ""
