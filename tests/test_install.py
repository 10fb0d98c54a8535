"""The wheel: one top-level module, and in an empty environment, beside a user's own train.py and utils.py, everything it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("train", "convert", "deploy", "utils", "hw_sim")  # names of a user's own modules
NEEDED = ("numpy", "numba", "h5py", "onnx", "onnxruntime", "pydantic", "tyro", "rich", "PyYAML", "jinja2", "pillow")
pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(find_spec("build") is None, reason="python -m build is not installed")]


def outside() -> dict[str, str]:
    """The environment as it was before tests/conftest.py closed it off: pip needs its own settings and the registry."""
    before = json.loads(os.environ.get("SPIKEGATE_TESTS_OUTSIDE", "{}"))
    whole = {k: v for k, v in {**os.environ, **before}.items() if v is not None}
    return {k: v for k, v in whole.items() if not k.startswith(("PYTHON", "NUMBA_CACHE", "SPIKEGATE_"))}


ENV = outside()


def call(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(w) for w in words], cwd=cwd, env=ENV | env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what git tracks or would, so that no build folder is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    files = call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in files:
        there = source / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            there.symlink_to(os.readlink(ROOT / name))
        elif (ROOT / name).is_file():
            there.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    done = call(sys.executable, "-m", "build", "--wheel", "-o", out, cwd=source)
    if done.returncode and "setuptools" in done.stdout + done.stderr and not reachable(source):
        pytest.skip("no package registry can be reached: the wheel needs setuptools to be built")
    assert done.returncode == 0, done.stderr[-2000:]
    return next(out.glob("*.whl"))


def reachable(folder: Path) -> bool:
    """Whether pip can fetch a package."""
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--timeout", "10", "--retries", "0")
    return call(*pip, "-d", folder / "probe", "tyro", cwd=folder).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the user works: their own modules have our stages' names, and say so when they are imported."""
    there = tmp_path_factory.mktemp("project")
    for name in OWN:
        (there / f"{name}.py").write_text(f"raise RuntimeError('the user\\'s own {name}.py was imported')\n")
    return there


def test_the_wheel_has_one_top_level_module_and_all_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"spikegate"}
    nets = {n.split("/")[2] for n in names if n.startswith("spikegate/zoo/")}
    assert nets == {p.name for p in (ROOT / "zoo").iterdir()}
    tracked = [Path(n) for n in call("git", "ls-files", "zoo", "hw_sim", cwd=ROOT).stdout.splitlines()]
    data = {f"spikegate/{p}" for p in tracked if p.suffix != ".py"}
    assert data <= set(names) and {"spikegate/py.typed", "spikegate/data/digits.npz"} <= set(names)
    parts = zipfile.ZipFile(wheel).infolist()
    assert sum(p.compress_size for p in parts if not p.filename.startswith("spikegate/zoo/")) < 3_000_000
    assert wheel.stat().st_size < 30_000_000  # most of it is the zoo


@pytest.fixture(scope="module")
def small(wheel, tmp_path_factory) -> Path:
    """An empty environment with the wheel and what it depends on; returns its bin folder."""
    there = tmp_path_factory.mktemp("small") / "venv"
    if not reachable(there.parent):
        pytest.skip("no package registry can be reached: nothing can be installed into an empty environment")
    venv.create(there, with_pip=True)
    done = call(there / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=there)
    assert done.returncode == 0, done.stderr[-2000:]
    return there / "bin"


def good(bin_: Path, *words: object, cwd: Path) -> str:
    done = call(bin_ / words[0], *words[1:], cwd=cwd)
    assert done.returncode == 0, f"{words}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_it_runs_prices_places_and_reports_without_torch_and_lava(small, folder):
    listed = good(small, "python", "-m", "pip", "list", cwd=folder).lower()
    assert all(name.lower() in listed for name in NEEDED)
    assert not [n for n in ("torch", "lava", "scipy", "scikit", "matplotlib") if n in listed]
    assert "accuracy" in good(small, "spikegate", "run", "zoo:stas-digits", "--data", "test:16", "--target", "int", cwd=folder)
    assert "paper45" in good(small, "spikegate", "estimate", "zoo:stas-digits", cwd=folder)
    assert "cores" in good(small, "spikegate", "place", "zoo:stas-digits", cwd=folder)
    assert "report.html" in good(small, "spikegate", "report", "zoo:stas-digits", cwd=folder)
    code = "import spikegate as sg; n = sg.load('zoo:stas-digits'); print(n.run(n.images('test', 2)[0]).chip_events.tolist(), sg.__file__)"
    out = good(small, "python", "-c", code, cwd=folder)
    assert out.startswith("[187872, 200379]") and str(small.parent) in out
    assert good(small, "spikegate", "doctor", cwd=folder).splitlines()[-1] == "ok"
    for words, hint in (
        (("train", "--output", "x"), "spikegate[train]"), (("run", "zoo:stas-digits", "--data", "test:2"), "spikegate[lava]"),
        (("compare", "zoo:stas-digits", "--targets", "torch,int"), "spikegate[train]"), (("bench", "engine"), "clone the repository"),
    ):  # fmt: skip
        done = call(small / "spikegate", *words, cwd=folder)
        assert done.returncode == 1 and hint in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def full(wheel, tmp_path_factory) -> Path:
    """An environment that sees this one's packages, with the wheel itself on top of them."""
    there = tmp_path_factory.mktemp("full") / "venv"
    venv.create(there, with_pip=True)
    assert call(there / "bin/python", "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=there).returncode == 0
    ours = there / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (ours / "zz-all.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return there / "bin"


@pytest.mark.slow
@pytest.mark.lava
def test_with_all_extras_lava_and_training_work(full, folder):
    where = good(full, "python", "-c", "import spikegate; print(spikegate.__file__)", cwd=folder)
    assert str(full.parent) in where
    assert "lava, block mapping" in good(full, "spikegate", "run", "zoo:stas-digits", "--data", "test:4", cwd=folder)
    tiny = ["--data.limit-train", "100", "--model.name", "stas", "--model.dim", "16", "--model.depth", "1", "--model.heads", "2",
            "--model.timesteps", "2", "--train.epochs", "1"]  # fmt: skip
    good(full, "spikegate", "train", "--output", "runs/tiny", *tiny, cwd=folder)
    assert "agree on" in good(full, "spikegate", "export", "runs/tiny", cwd=folder)
    assert "equal: " in good(full, "spikegate", "compare", "runs/tiny", "--data", "test:8", cwd=folder)
