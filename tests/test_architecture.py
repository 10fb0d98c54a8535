"""House rules that a program can check: the import arrows, file names that would shadow the standard library, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("train", "convert", "deploy", "hw_sim")
SOURCES = sorted(p for stage in STAGES for p in (ROOT / stage).rglob("*.py"))
# Commands that join stages: they may import what their stage's library may not, inside their functions.
JOINS = {"convert/exporting.py": {"train"}, "deploy/targets.py": {"train"}}
ALLOWED = {"train": {"train", "convert"}, "convert": {"convert"}, "deploy": {"deploy", "convert"}, "hw_sim": {"hw_sim", "convert"}}
TORCH = ("convert/exporting.py",)  # besides training: what reads torch models; plan and integers of an import need none
PURE = ("plan", "quantising")  # of convert/imported
LAVA_HOMES = ("deploy/lava_import.py", "deploy/lava_processes/", "deploy/network.py")


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    name = str(path.relative_to(ROOT))
    stage, found = name.split("/")[0], imports(path)
    allowed = ALLOWED[stage] | JOINS.get(name, set())
    assert found & set(STAGES) <= allowed, f"{name} imports {found & set(STAGES) - allowed}"
    if "torch" in found:
        assert stage == "train" or name in TORCH or (name.startswith("convert/imported/") and Path(name).stem not in PURE)
    if "lava" in found:
        assert name.startswith(LAVA_HOMES) or name == "train/slayer_import.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_shadows_the_standard_library_or_grows_too_long(path):
    if path.parent.parent == ROOT:  # `python train/run.py` puts train/ first on the path
        assert path.stem not in sys.stdlib_module_names
    assert path.stem != "utils" and len(path.read_text().splitlines()) <= 300


def test_the_integer_side_needs_neither_torch_nor_lava():
    code = (
        "import sys, convert.engine, convert.netx, convert.host, convert.audit, convert.ir; convert.ir.load_ops(); "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'lava', 'train')])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


COMMANDS = {
    "train/run.py": "output",
    "convert/export.py": "output",
    "convert/from_spikingjelly.py": "output",
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
