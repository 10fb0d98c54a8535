"""The command spikegate: the scripts under one name, its own commands, shell completion, and one module identity however it is called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikegate.command import table
from spikegate.command.extras import OPTIONAL, absent, needs
from spikegate.command.runs import zoo_names
from spikegate.command.table import COMMANDS
from spikegate.errors import DeployError
from spikegate.installation import bench, completion, inventory, self_check

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.lava  # doctor starts Lava
SCRIPTS = {command: script for script, command in table.SCRIPTS.items()}


def call(*words: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A process in which spikegate is this checkout's."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})}
    return subprocess.run([str(w) for w in words], cwd=cwd, env=given, capture_output=True, text=True)


def spikegate(*words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return call(sys.executable, "-m", "spikegate", *words, cwd=cwd)


def said(text: str) -> list[str]:
    """Options of a help text, in order."""
    return re.findall(r"(?<![\w-])--[a-z][\w.-]*", text.split("options", 1)[1])


def test_the_overview_names_every_command_and_is_quick():
    out = spikegate("--help")
    assert out.returncode == 0 and all(f"  {name} " in out.stdout for name in COMMANDS)
    code = "import sys; sys.argv = ['spikegate', '--help']\nfrom spikegate.__main__ import main\ntry: main()\nexcept SystemExit: pass\n"
    modules = call(sys.executable, "-c", code + "print(*sys.modules)").stdout.splitlines()[-1].split()
    assert "spikegate" in modules and not {"numpy", "numba", "tyro", "rich", "torch"} & set(modules)


@pytest.mark.parametrize("command, script", SCRIPTS.items())
def test_a_command_has_the_options_of_its_script(command, script):
    ours, theirs = spikegate(*command.split(), "--help"), call(sys.executable, ROOT / script, "--help")
    assert ours.returncode == theirs.returncode == 0
    assert said(ours.stdout) == said(theirs.stdout) != []
    assert f"usage: spikegate {command}" in ours.stdout


@pytest.mark.parametrize("words, code, text", [
    (["run", "--targt", "int"], 2, "--target"),
    (["run", "zoo:nothing", "--target", "int"], 1, "no such net in the zoo"),
    (["run", "zoo:stas-digits", "--data", "test:2", "--target", "int", "--output", "out"], 0, "accuracy"),
])  # fmt: skip
def test_exit_codes_are_those_of_the_script(words, code, text, tmp_path):
    for out in (spikegate(*words, cwd=tmp_path), call(sys.executable, ROOT / "deploy/run.py", *words[1:], cwd=tmp_path)):
        assert out.returncode == code and text in out.stdout + out.stderr and "Traceback" not in out.stderr


@pytest.mark.parametrize("words, code, text", [
    ([], 2, "usage: spikegate"),
    (["rnu"], 2, "did you mean run?"),
    (["import"], 2, "no format named"),
    (["import", "onnx"], 2, "there is no format 'onnx'"),
    (["import", "--help"], 0, "a NIR file"),
    (["import", "nir", "nothing.nir"], 1, "no such file"),
    (["export", "zoo:stas-digits", "--format", "nir"], 1, "nets of the zoo are left as they are"),
    (["export", "zoo:stas-digits", "--format", "nir", "--output", "x.nir"], 1, "has no word for"),
    (["bench"], 2, "no bench named"),
    (["bench", "engin"], 2, "did you mean engine?"),
    (["bench", "startup", "--repeats", "0"], 1, "is less than 1"),
    (["completion", "tcsh"], 2, "bash"),
])  # fmt: skip
def test_wrong_calls_are_explained(words, code, text, tmp_path):
    out = spikegate(*words, cwd=tmp_path)
    assert out.returncode == code and text in out.stdout + out.stderr and "Traceback" not in out.stderr


def test_benches_are_those_of_the_checkout_and_an_installation_has_none(monkeypatch, tmp_path):
    assert {"engine", "startup", "regress"} <= set(bench.benches())
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "site-packages" / "spikegate" / "installation" / "bench.py"))
    monkeypatch.setattr(sys, "argv", ["spikegate bench", "engine"])
    with pytest.raises(DeployError, match="only a checkout has them"):
        bench.main()


def test_the_zoo_lists_every_net_with_what_its_files_say():
    rows = {r["name"]: r for r in json.loads(spikegate("zoo", "--json").stdout)}
    assert set(rows) == {f"zoo:{n}" for n in zoo_names()} and len(rows) >= 13
    row, folder = rows["zoo:stas-digits"], ROOT / "zoo" / "stas-digits"
    assert row["accuracy"] == json.loads((folder / "metrics.json").read_text())["test"]["accuracy"]
    assert row["bytes"] == sum(p.stat().st_size for p in folder.iterdir()) and row["system"] == "stas"
    assert all(name in spikegate("zoo").stdout for name in rows)


@pytest.mark.parametrize("name", ["stas-digits", "zoo:stas-digits"])
def test_the_zoo_shows_a_nets_card(name):
    card = (ROOT / "zoo" / "stas-digits" / "README.md").read_text()
    assert json.loads(spikegate("zoo", name, "--json").stdout)["card"] == card
    shown = spikegate("zoo", name).stdout
    assert "97.78 % of 360 test images" in shown and all(line in shown for line in card.split("```")[1].splitlines())
    wrong = spikegate("zoo", f"{name}s")
    assert wrong.returncode == 1 and "no such net in the zoo" in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_nir_file_becomes_a_net_that_runs(tmp_path):
    from spikegate.formats.nir.exporter import write_nir
    from tests.test_nir import net

    graph = net(np.random.default_rng(3))
    write_nir(graph, tmp_path / "small.nir")
    np.save(tmp_path / "half.npy", np.full((2, 3, 4), 0.5))
    refused = spikegate("import", "nir", tmp_path / "small.nir", "--output", tmp_path / "no", "--calibrate", tmp_path / "half.npy")
    assert refused.returncode == 1 and "holds fractions" in refused.stderr and not (tmp_path / "no").exists()
    out = spikegate("import", "nir", tmp_path / "small.nir", "--output", tmp_path / "small", "--json")
    assert out.returncode == 0, out.stderr
    facts = json.loads(out.stdout)
    assert facts["input_shape"] == list(graph.input_shape) and facts["timesteps"] == graph.timesteps
    np.save(tmp_path / "x.npy", np.random.default_rng(4).integers(-200, 200, (2, 1, *graph.input_shape)).repeat(graph.timesteps, 1))
    ran = spikegate("run", facts["net"], "--input", tmp_path / "x.npy", "--target", "int", "--output", tmp_path / "out")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "out" / "outputs.npz").is_file()


def completed(line: str) -> list[str]:
    """What bash offers at the end of a command line, with the script sourced as a user would."""
    script = (
        'eval "$(cat "$SCRIPT")"; complete -p spikegate >&2 || exit 3; COMP_LINE="$LINE" COMP_POINT=${#LINE}; '
        'COMP_WORDS=($LINE); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _spikegate; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "LINE": line, "SCRIPT": str(SCRIPT)})
    assert out.returncode == 0 and "-F _spikegate spikegate" in out.stderr, out.stderr
    return [w for w in out.stdout.splitlines() if w]


SCRIPT = Path()


@pytest.fixture
def sourced(tmp_path, monkeypatch):
    global SCRIPT
    SCRIPT = tmp_path / "spikegate.bash"
    SCRIPT.write_text(spikegate("completion", "bash").stdout)
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_options_values_nets_and_files(sourced, tmp_path):
    (tmp_path / "my-run").mkdir()
    assert set(completed("spikegate ")) == set(COMMANDS)
    assert completed("spikegate es") == ["estimate"]
    assert set(completed("spikegate run --ta")) == {"--target"}
    assert set(completed("spikegate run --target ")) == {"int", "lava", "torch"}
    assert completed("spikegate train --model.name at") == ["at_snn"]
    assert {f"{n}" for n in zoo_names()} == set(completed("spikegate compare zoo:"))  # bash splits words at the colon
    assert completed("spikegate estimate my-") == ["my-run"]
    assert {"spikingjelly", "nir"} <= set(completed("spikegate import "))
    assert "engine" in completed("spikegate bench eng")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse_and_hold_every_option_of_every_help(shell, tmp_path):
    text = completion.script(shell)
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        assert subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True).stderr == ""
    for command, (_, options) in completion.table().items():
        if shell == "bash" and command in SCRIPTS:  # the table itself, against what the command prints
            assert set(said(spikegate(command, "--help").stdout)) - {"--help"} <= set(options), command
        for option in options:
            assert (option if shell != "fish" else f"-l {option[2:]}" if option[1] == "-" else f"-s {option[1:]}") in text


def test_a_missing_package_is_one_paragraph_that_says_how_to_get_it(tmp_path):
    for known in OPTIONAL:
        found = absent(known.module, "spikegate x")
        assert found is not None and known.install in str(found)
    assert absent("numpy", "x") is None and absent(None, "x") is None
    with pytest.raises(ModuleNotFoundError, match="nothing_of_ours"), needs("x"):
        import nothing_of_ours  # type: ignore[import-not-found]  # noqa: F401
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    words = ("compare", "zoo:stas-digits", "--data", "test:2", "--targets", "torch,int", "--output", tmp_path / "c.json")
    out = call(sys.executable, "-m", "spikegate", *words, cwd=tmp_path, env=env)
    assert out.returncode == 1 and "pip install 'spikegate[train]'" in out.stderr and "Traceback" not in out.stderr
    out = call(sys.executable, "-m", "spikegate", "train", "--output", tmp_path / "run", cwd=tmp_path, env=env)
    assert out.returncode == 1 and "spikegate train: needs torch" in out.stderr and "Traceback" not in out.stderr


def test_doctor_ends_with_ok_and_tells_programs_everything():
    out = spikegate("doctor", "--json")
    found = json.loads(out.stdout)
    assert out.returncode == 0 and found["ok"] and found["problem"] is None, out.stdout
    assert found["steps"][0]["outcome"] == "ok" and sum(s["seconds"] for s in found["steps"]) <= self_check.SECONDS
    assert {p["name"] for p in found["packages"]} >= {"numpy", "torch", "lava-nc", "nir"}
    assert found["machine"]["cores"] >= 1 and found["machine"]["zoo_nets"] == len(zoo_names())


def test_doctor_names_the_first_thing_wrong(monkeypatch, capsys):
    from spikegate.installation import doctor

    monkeypatch.setattr(self_check, "CHIP_EVENTS", (1, 2, 3, 4))
    monkeypatch.setattr(inventory, "gpus", lambda: {})
    monkeypatch.setattr(doctor, "gpus", lambda: {"cuda": None, "gpus": [], "problem": "not asked"})
    monkeypatch.setattr(sys, "argv", ["spikegate doctor"])
    with pytest.raises(SystemExit) as stopped:
        doctor.main()
    out = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "wrong: integer reference" in out.splitlines()[-2] + out.splitlines()[-1] and "Lava = integer reference" not in out


def test_the_self_check_stops_after_its_time():
    import time

    with pytest.raises(DeployError, match="took more than 1 s"), self_check.at_most(1):
        time.sleep(5)


def test_doctor_says_which_needed_package_is_missing():
    from spikegate.installation.doctor import wrong

    here = inventory.machine()
    bad = [inventory.Package("numba", None, True, "everything", "pip install x"), inventory.Package("torch", None, False, "", "")]
    assert "numba is not installed" in str(wrong(bad, here))
    assert wrong(bad[1:], here) is None


IDENTITY = """
import sys, runpy, collections, os
sys.argv = [sys.argv[1], *sys.argv[2:]]
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit: pass
files = collections.Counter(os.path.realpath(m.__file__) for n, m in list(sys.modules.items())
                            if n != "__main__" and getattr(m, "__file__", None) and m.__file__.endswith(".py"))
print("TWICE", [f for f, n in files.items() if n > 1 and f.startswith(os.environ["REPOSITORY"])])
print("BARE", [n for n in sys.modules if n.split(".")[0] in ("train", "convert", "deploy", "hw_sim")])
"""


@pytest.mark.parametrize("script", ["deploy/run.py", "spikegate/deploy/run.py", "spikegate/__main__.py"])
def test_no_module_is_loaded_twice_whichever_way_a_command_is_called(script, tmp_path):
    words = [*(["run"] if script.endswith("__main__.py") else []), "zoo:stas-digits", "--data", "test:1", "--target", "int"]
    for folder in (tmp_path, ROOT / "deploy"):
        called = (sys.executable, "-c", IDENTITY, ROOT / script, *words, "--output", tmp_path / "out")
        out = call(*called, cwd=folder, env={"REPOSITORY": str(ROOT)})
        assert "accuracy" in out.stdout, out.stderr
        assert "TWICE []" in out.stdout and "BARE []" in out.stdout


def test_hints_name_the_command_as_it_was_called(tmp_path):
    installed, script = spikegate("run", cwd=tmp_path), call(sys.executable, ROOT / "deploy" / "run.py", cwd=tmp_path)
    assert installed.returncode == script.returncode == 1
    assert "hint: export one first: spikegate export\n" in installed.stderr
    assert "hint: export one first: python convert/export.py\n" in script.stderr


def test_every_script_of_the_table_exists_and_stands_for_a_command():
    assert all((ROOT / script).is_file() and command.split()[0] in COMMANDS for script, command in table.SCRIPTS.items())
