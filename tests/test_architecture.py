"""House rules that a program can check: floors, circles, torch and Lava in their places, names, sizes (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A folder may import what stands before it, and itself; files of a stage's own folder stand above its rooms.
FLOORS = (
    "spikegate", "spikegate/reading", "spikegate/command", "spikegate/kernels",
    "spikegate/graph", "spikegate/synapses", "spikegate/neurons",
    "spikegate/ops/base", "spikegate/ops", "spikegate/engine", "spikegate/engine/chip_time", "spikegate/data", "spikegate/formats",
    "spikegate/formats/netx", "spikegate/formats/nir",
    "train/settings", "train/backends", "train/layers", "train/models", "train",
    "convert/checks", "convert/frameworks", "convert/spikingjelly", "convert",
    "deploy/lava", "deploy/lava_processes", "deploy/network", "deploy",
    "hw_sim/energy", "hw_sim/chip", "hw_sim/tables", "hw_sim/measurements", "hw_sim/page", "hw_sim/sanafe", "hw_sim",
    "spikegate/api", "spikegate/installation", "front", "bench",
)  # fmt: skip
STAGES = ("train", "convert", "deploy", "hw_sim")
# What a stage needs of another: the trained net to export, the torch form to compare with.
JOINS = {("convert", "train"), ("deploy", "train"), ("deploy", "convert/spikingjelly")}


# What a user meets: the public names and the command. They stand on top of all stages, and import a module when it is asked for.
FRONT = ("spikegate/__init__.py", "spikegate/__main__.py")


def room_of(path: Path) -> str:
    return "front" if path.as_posix() in FRONT else path.parent.as_posix()


@cache
def sources() -> dict[str, Path]:
    """Module name -> file, relative to the root; the links in spikegate/ are left out, their files are found where they lie."""
    found = {}
    for top in ("spikegate", *STAGES, "bench"):
        for path in sorted((ROOT / top).rglob("*.py")):
            file = path.relative_to(ROOT)
            if any((ROOT / parent).is_symlink() for parent in file.parents) or "__pycache__" in file.parts:
                continue
            parts = [*file.parent.parts, *([] if file.stem == "__init__" else [file.stem])]
            found[".".join(parts if top in ("spikegate", "bench") else ["spikegate", *parts])] = file
    return found


@cache
def imports(file: Path) -> frozenset[str]:
    """Modules that a file imports anywhere in it, type-only ones included; ``from package import module`` names the module."""
    known, found = sources(), set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}: relative import"
            found |= {m if (m := f"{node.module}.{a.name}") in known else node.module for a in node.names}
    return frozenset(found)


FILES = sorted(sources().values())
each_file = pytest.mark.parametrize("file", FILES, ids=str)


@each_file
def test_imports_go_down(file):
    here = room_of(file)
    for module in imports(file):
        if module.split(".")[0] in STAGES:
            raise AssertionError(f"{file} imports {module}: installed it is called spikegate.{module}")
        there = sources().get(module)
        if there is None:
            continue
        ours, theirs = here.split("/")[0], room_of(there).split("/")[0]
        assert FLOORS.index(room_of(there)) <= FLOORS.index(here), f"{file} imports {module}, which stands above it"
        if ours != theirs and ours in STAGES and theirs in STAGES:
            assert (ours, theirs) in JOINS or (ours, room_of(there)) in JOINS, f"{file} imports {module} of another stage"


def test_no_circle_of_files():
    names = {file: module for module, file in sources().items()}
    arrows = {module: {m for m in imports(file) if m in sources()} - {module} for module, file in sources().items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as e:
        pytest.fail(" -> ".join(str(sources()[m]) for m in e.args[1]))
    assert len(names) == len(FILES)


def test_no_circle_of_folders():
    rooms: dict[str, set[str]] = {}
    for file in FILES:
        targets = {room_of(sources()[m]) for m in imports(file) if m in sources()}
        rooms.setdefault(room_of(file), set()).update(targets - {room_of(file)})
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as e:
        pytest.fail(" -> ".join(e.args[1]))


TORCH = ("convert/", "train/", "bench/")  # besides training: what reads torch models
NO_TORCH = ("convert/spikingjelly/plan.py", "convert/spikingjelly/quantising.py", "convert/checks/audit.py", "convert/calibrate.py")
LAVA = ("deploy/lava/", "deploy/lava_processes/", "deploy/network/network.py")


@each_file
def test_torch_and_lava_stay_in_their_places(file):
    tops = {m.split(".")[0] for m in imports(file)}
    name = file.as_posix()
    if "torch" in tops:
        assert name.startswith(TORCH) and name not in NO_TORCH
    if "lava" in tops:
        assert name.startswith(LAVA) or name == "train/layers/slayer_import.py"


@each_file
def test_no_file_shadows_the_standard_library_or_grows_too_long(file):
    if len(file.parts) == 2 and file.stem != "__init__":  # `python train/run.py` puts train/ first on the path
        assert file.stem not in sys.stdlib_module_names or file.stem == "__main__"
    assert file.stem != "utils" and len((ROOT / file).read_text().splitlines()) < 300


def test_no_test_file_grows_too_long():
    assert not [p.name for p in (ROOT / "tests").rglob("*.py") if len(p.read_text().splitlines()) >= 300]


def test_half_of_the_files_are_short():
    lengths = sorted(len((ROOT / f).read_text().splitlines()) for f in FILES if f.parts[0] != "bench" and f.stem != "__init__")
    assert lengths[len(lengths) // 2] < 120


def test_the_table_of_commands_names_modules_that_exist():
    from spikegate.command.table import COMMANDS as table

    assert {module for module, _ in table.values()} <= set(sources())


def test_links_lead_to_the_stages():
    for stage in (*STAGES, "zoo"):
        link = ROOT / "spikegate" / stage
        assert link.is_symlink() and link.resolve() == ROOT / stage


def test_what_needs_neither_torch_nor_lava_imports_neither():
    modules = [m for m in sources() if m.startswith("spikegate.") and m.split(".")[1] not in ("train", "convert", "deploy")]
    code = (
        f"import importlib, sys; [importlib.import_module(m) for m in {modules!r}]; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'lava')])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


COMMANDS = {
    "train/run.py": "output",
    "convert/export.py": "output",
    "convert/from_spikingjelly.py": "output",
    "convert/from_nir.py": "output",
    "convert/from_framework.py": "output",
    "deploy/run.py": "mapping",
    "deploy/compare.py": "targets",
    "hw_sim/estimate.py": "costs",
    "hw_sim/place.py": "schedule",
    "hw_sim/sweep.py": "images",
    "hw_sim/report.py": "images",
    "hw_sim/validate.py": "file",
}


@pytest.mark.parametrize("script, option", COMMANDS.items())
def test_every_command_has_help_and_suggests_the_nearest_option(script, option, tmp_path):
    help_text = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert help_text.returncode == 0 and "--" in help_text.stdout
    typo = f"--{option[:-2]}{option[-1]}"
    wrong = subprocess.run([sys.executable, ROOT / script, typo, "x"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert option in wrong.stdout + wrong.stderr and "Traceback" not in wrong.stderr
