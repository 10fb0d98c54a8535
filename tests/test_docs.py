"""The docs keep up with the code: links and paths exist, commands take the options shown, every folder is explained, notebooks run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs/hooks"))
places = pytest.importorskip("places", reason="docs/hooks is not there")

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
STAGES = ("train", "convert", "deploy", "hw_sim")
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:train|convert|deploy|hw_sim|spikegate|bench|tests|conf|docs|zoo)/[\w./-]*[\w/]")


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as Markdown makes them."""
    found = set()
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        if line.startswith("#"):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("# "))
            found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words.lower()).strip()))
    return found


@each_page
def test_links_lead_to_files_and_headings(page):
    for link in places.local_links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or target.suffix != ".md" or anchor in headings(target.read_text()), f"{page.name}: no heading for {link}"


@each_page
def test_paths_in_the_text_exist(page):
    """Paths in code spans that start with a folder of the repository."""
    if page.name == "CHANGELOG.md":
        pytest.skip("it names paths of earlier versions")
    prose = places.FENCE.sub("", page.read_text())
    for span in SPAN.findall(prose):
        for path in PATH.findall(span) if span.split("/")[0] in ("tests", "bench", "conf", "docs", "spikegate", *STAGES) else []:
            given = path == "spikegate/ops/refractory.py" or re.search(r"/[A-Z]+(/|$)", path)  # the reader's own; a placeholder
            assert (ROOT / path).exists() or given, f"{page.name} names {path}"


@each_page
def test_named_tests_exist(page):
    for name, test in re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", page.read_text()):
        assert (ROOT / "tests" / name).is_file(), f"{page.name} names {name}"
        assert not test or f"def {test}(" in (ROOT / "tests" / name).read_text(), f"{page.name} names {name}::{test}"


@cache
def options(script: str) -> frozenset[str]:
    words = [sys.executable, ROOT / script, "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return frozenset(re.findall(r"--[\w.-]+", done.stdout)) | {"-c", "--help"}


def test_commands_of_the_pages_exist_and_take_their_options():
    seen, command = 0, re.compile(r"(?:^|`|: )python ((?:train|convert|deploy|hw_sim|bench)/\w+\.py)([^`\n|]*)", re.M)
    for page in PAGES:
        for script, rest in command.findall(page.read_text()):
            assert (ROOT / script).is_file(), f"{page.name}: {script}"
            for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", rest.split("#")[0].split(";")[0]):
                seen += 1
                assert option in options(script), f"{page.name}: {script} has no {option}"
    assert seen > 30


def test_the_architecture_page_names_every_folder():
    page = (ROOT / "docs/architecture.md").read_text()
    (tree,) = re.findall(r"^```\n(spikegate/ .*?)^```", page, re.M | re.S)
    named, above = set(), {}
    for line in tree.splitlines():
        if match := re.match(r"( *)(\w+)/ +\S", line):
            depth = len(match[1]) // 2
            above[depth] = match[2]
            named.add("/".join(above[d] for d in range(depth + 1)))
    real = {
        str(path.relative_to(ROOT))
        for top in ("spikegate", *STAGES)
        for path in [ROOT / top, *(ROOT / top).rglob("*")]
        if path.is_dir() and not path.is_symlink() and "__pycache__" not in path.parts and any(path.iterdir())
    }
    real = {r for r in real if r.split("/")[0] != "spikegate" or r.count("/") == 0 or r.split("/")[1] not in STAGES}
    assert named - {"bench"} == {r for r in real if list((ROOT / r).glob("*.*"))}


def test_the_architecture_page_holds_the_floors():
    source = (ROOT / "tests/test_architecture.py").read_text()
    (floors,) = [ast.literal_eval(n.value) for n in ast.parse(source).body if isinstance(n, ast.Assign) and n.targets[0].id == "FLOORS"]
    text = (ROOT / "docs/architecture.md").read_text().partition("## Floors")[2].partition("\n## ")[0]
    listed = [f for f in SPAN.findall(text.partition("\n1. ")[2].partition("\n\n")[0]) if f in floors]
    assert listed == list(floors)


@pytest.mark.parametrize("name", ["README.md", "docs/hardware.md", "docs/systems.md", "docs/quickstart.md", "docs/zoo.md", "docs/limits.md",
                                  "docs/how-to/price-and-place.md"])
def test_pages_with_energies_say_which_chip_is_meant(name):
    text = " ".join((ROOT / name).read_text().split())
    assert "Loihi 1 and Loihi 2 as published" in text and "othing runs on a chip" in text


def test_the_op_of_the_contributing_page_passes_the_conformance_test(tmp_path):
    """As the page says it: the file beside the others, then tests/test_ops.py."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops/refractory.py").write_text(block)
    (tmp_path / "beside.py").write_text(f"import spikegate.ops\nspikegate.ops.__path__.append({str(tmp_path / 'ops')!r})\n")
    words = ["-m", "pytest", "-n", "0", "-p", "beside", "-p", "no:cacheprovider", "tests/test_ops.py", "-k", "refractory or registry"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 14


@each_notebook
def test_notebooks_carry_no_outputs(notebook):
    import nbformat

    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    assert cells and not any(c.outputs or c.execution_count for c in cells)


@pytest.mark.lava
@pytest.mark.timeout(280)
@each_notebook
def test_notebooks_run(notebook):
    from notebook_pages import as_markdown, executed

    page = as_markdown(executed(notebook), notebook.stem)
    assert 'title="Output"' in page or "| --- |" in page  # printed lines, or tables


def test_the_site_builds_strictly_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ | {"NOTEBOOKS": "show"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        for address in re.findall(r"""(?:<link[^>]*href|<script[^>]*src|<img[^>]*src)=["']?(https?:[^"' >]+)""", page.read_text()):
            raise AssertionError(f"{page.name} fetches {address}")
