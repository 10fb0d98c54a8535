"""Files are written in full or not at all: a full disk, a limit on file sizes, an interruption, a closed output are one paragraph."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spikegate as sg
from spikegate import files
from spikegate.command import cli
from spikegate.engine import integer
from spikegate.errors import LONGEST, DeployError, shown
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph, write_graph
from tests.graphs import halting_graph, halting_input
from tests.run_folder import adaptive_graph, record_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def small_files():
    """No file of this process may grow beyond 4 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


RECORD = record_of(adaptive_graph())
WRITERS = {
    "model.net": lambda path: write_graph(halting_graph(), path),
    "events.npz": lambda path: RECORD.save(path),
    "images.npz": lambda path: files.write_npz(path, images=np.random.default_rng(0).integers(0, 255, 9000)),
    "manifest.json": lambda path: files.write_text(path, "x" * 9000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_file_sizes_leaves_the_old_file_and_nothing_else(tmp_path, name, small_files):
    (tmp_path / name).write_text("old")
    with pytest.raises(DeployError, match=r"cannot be written.*\n.*ulimit -f") as e:
        WRITERS[name](tmp_path / name)
    assert name in e.value.where and os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


def test_a_full_disk_leaves_the_old_export_and_nothing_else(tmp_path):
    """A tmpfs of its own, where this machine permits one."""
    script = f"""
mount -t tmpfs -o size=200k full {tmp_path} && cd {tmp_path} && mkdir old && echo old > old/model.net &&
{{ dd if=/dev/zero of=fill bs=1k count=190 2> /dev/null || true; }} &&
{sys.executable} -c 'import sys; sys.path.insert(0, {json.dumps(str(ROOT))})
from pathlib import Path
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import write_graph
from tests.graphs import halting_graph
try:
    write_graph(halting_graph(), Path("old/model.net"))
except DeployError as e:
    print("refused:", e.problem)' && ls -A old && cat old/model.net
"""
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "bash", "-c", script], capture_output=True, text=True)
    if "refused" not in done.stdout and ("permi" in done.stderr or "Operation not" in done.stderr):
        pytest.skip(f"no tmpfs here: {done.stderr.strip()[:80]}")
    assert done.stdout.splitlines() == ["refused: cannot be written (No space left on device)", "model.net", "old"], done.stderr[-500:]
    assert "Traceback" not in done.stderr


def test_several_files_move_together_and_the_one_that_vouches_comes_last(tmp_path, monkeypatch):
    moved = []
    real = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (moved.append(Path(b).name), real(a, b)))
    with files.together(tmp_path, "manifest.json") as part:
        for name in ("manifest.json", "z", "a"):
            (part / name).write_text("new")
    assert moved == ["a", "z", "manifest.json"] and sorted(os.listdir(tmp_path)) == ["a", "manifest.json", "z"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DeployError("x", "y", "z"), OSError(28, "No space left on device")], ids=repr)
def test_an_interrupted_export_leaves_the_old_one(tmp_path, error):
    (tmp_path / "manifest.json").write_text("old")
    with pytest.raises((DeployError, KeyboardInterrupt)), files.together(tmp_path, "manifest.json") as part:
        (part / "model.net").write_text("new")
        raise error
    assert os.listdir(tmp_path) == ["manifest.json"] and (tmp_path / "manifest.json").read_text() == "old"


def test_an_export_that_is_cut_while_files_move_does_not_count_as_one(tmp_path, monkeypatch):
    export = Path(shutil.copytree(ROOT / "zoo" / "stas-digits", tmp_path / "e"))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), files.together(export, "manifest.json") as part:
        shutil.copy(ROOT / "zoo" / "stas-fashion" / "model.net", part)
        (part / "manifest.json").write_text("{}")
    monkeypatch.undo()
    assert not [p for p in export.iterdir() if p.name.startswith(".")]
    with pytest.raises(DeployError, match=r"manifest|no such file"):
        read_manifest(export)


def test_what_a_killed_process_left_half_written_is_swept(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".writing.{gone.pid}-abc").mkdir()
    (tmp_path / f".x.{gone.pid}-abc.json").write_text("half")
    (tmp_path / f".x.{os.getpid()}-abc.json").write_text("mine")
    files.write_text(tmp_path / "x.json", "whole")
    with files.together(tmp_path, "manifest.json"):
        pass
    assert sorted(os.listdir(tmp_path)) == [f".x.{os.getpid()}-abc.json", "x.json"]


def spikegate(*words: object, tail: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    command = " ".join([sys.executable, "-m", "spikegate", *map(str, words)]) + tail
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.parametrize("tail, code", [(" >&-", 0), (" > /dev/full", 1), (" | true", 0), (" 2>&-", 0)])
@pytest.mark.parametrize("words", [("--help",), ("zoo", "--json")])
def test_an_output_that_is_closed_full_or_unread(tmp_path, tail, code, words):
    done = spikegate(*words, tail=tail, cwd=tmp_path)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode in (0, code) and (code == 0 or words == ("--help",) or "No space left" in done.stderr)


def test_too_few_open_files_are_one_paragraph(tmp_path):
    done = spikegate("run", "zoo:stas-digits", "--data", "test:2", "--target", "int", cwd=tmp_path, tail="")
    assert done.returncode == 0
    low = subprocess.run(
        ["bash", "-c", f"ulimit -n 9; {sys.executable} -m spikegate run zoo:stas-digits --data test:2 --target int"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert low.returncode in (0, 1) and "Traceback" not in low.stderr
    assert low.returncode == 0 or "ulimit -n" in low.stderr


def test_memory_that_is_not_there_is_one_paragraph(capsys):
    def main() -> None:
        raise MemoryError

    with pytest.raises(SystemExit) as e:
        cli.run(main)
    assert e.value.code == 1 and "error: memory: there is not enough" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "a\rb", "\u202eevnoc", "\x9b2J", "\x07", "a\u2028b"])
def test_no_text_of_a_file_commands_the_terminal(text, capsys):
    said = str(DeployError(text, text, text))
    assert said.replace("\n", "").isprintable()
    cli.console.print(text, markup=False)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_a_long_name_is_shortened():
    assert len(shown("A" * 5000)) < LONGEST + 10 and shown("a\nb") == "a\nb"


def test_names_of_ops_that_are_no_names_are_refused(tmp_path):
    import h5py

    write_graph(halting_graph(), tmp_path / "m.net")
    for name in ("\x1b[2J", "a\nb", "A" * 200, "", "input", "fc"):
        with h5py.File(tmp_path / "m.net", "a") as f:
            f["graph/ops/00000"].attrs["name"] = name
        if name != "fc":
            with pytest.raises(DeployError, match="names are printable") as e:
                read_graph(tmp_path / "m.net")
            assert "\x1b" not in str(e.value) and len(str(e.value)) < 2000


BAD = [
    ({"batch": 0}, "batch"), ({"batch": -1}, "batch"), ({"batch": 2.0}, "batch"), ({"batch": True}, "batch"),
    ({"labels": [1]}, "labels"), ({"labels": np.zeros(3, int)}, "labels"), ({"labels": np.zeros((2, 1), int)}, "labels"),
    ({"labels": np.array([0.0, 1.0])}, "labels"), ({"labels": [0, 99]}, "labels"), ({"labels": [-1, 0]}, "labels"),
    ({"labels": "ab"}, "labels"), ({"labels": 3}, "labels"),
]  # fmt: skip


@pytest.mark.parametrize("given, where", BAD, ids=str)
def test_arguments_of_a_run_are_checked(given, where):
    with pytest.raises(DeployError, match=f"^{where}"):
        integer.run(halting_graph(), halting_input(2), **given)


@pytest.mark.parametrize("x", ["text", None, 3, [[1], [1, 2]], np.int32(3), {}, [["a"]]], ids=str)
def test_inputs_that_are_no_arrays_are_named(x):
    with pytest.raises(DeployError, match="input"):
        integer.run(halting_graph(), x)


def test_lists_of_numbers_are_taken_as_arrays():
    graph, x = halting_graph(), halting_input(2)
    a, b = integer.run(graph, x, np.array([0, 1])), integer.run(graph, x.tolist(), [0, 1])
    assert np.array_equal(a.logits, b.logits) and a.accuracy == b.accuracy


def test_public_functions_name_what_they_cannot_take():
    net = sg.load("zoo:stas-digits")
    x, y = net.images("test", 2)
    for call in (
        lambda: sg.load(3), lambda: sg.read_netx(3), lambda: sg.read_nir(None), lambda: sg.write_netx(net.graph, 3), lambda: sg.export([]),
        lambda: net.run(x, labels=y[:1]), lambda: net.run(x, batch=0), lambda: net.run("x"), lambda: net.run(x, labels=y + 10),
        lambda: net.images("test", 0), lambda: sg.read_netx("a\0b"),
    ):  # fmt: skip
        with pytest.raises(DeployError):
            call()
    assert 0 <= net.run(x, labels=y.tolist()).accuracy <= 1
