"""The bench: plans, what is stale, what is done in which order. Nothing is trained here."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from bench.measure import Bench, command_output, measure, ordered
from bench.plan import PLANS, Plan, Row, read_plan
from bench.schedule import run_all
from spikegate.graph.ir import DeployError
from tests.standin_bench import PLAN, TABLES, Commands, bench_of, measure_all, plan

SHIPPED = sorted(p.stem for p in PLANS.glob("*.yml"))


# Plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plan_can_be_done(name):
    made = read_plan(name)
    assert made.name == name
    for row in made.needed(made.rows):
        assert made.config(row, 0).data.name == made.dataset
        if row.twin:
            twin = made.config(made.row(row.twin), 0).model
            assert not (twin.halting.enabled or twin.merge.enabled or twin.mask.enabled), f"{row.name}: {row.twin} is not static"
            assert sum(made.epochs(row)) == sum(made.epochs(made.row(row.twin))), f"{row.name}: its twin has other epochs"
    for curve in made.curves:
        points = made.points(curve)
        assert len({p.name for p in points}) == len(curve.values)
        [made.config(p, 0) for p in points]


BASE = PLAN["rows"][0]
WRONG = {
    "no such row": ({"rows": [BASE, {"name": "a", "system": "stas", "start": "b"}]}, "a: start b is no row"),
    "twice": ({"rows": [BASE, BASE]}, "two rows are called base"),
    "circle": ({"rows": [{"name": n, "system": "stas", "start": m} for n, m in ("ab", "ba")]}, "a -> b -> a goes round in a circle"),
    "base as twin": ({"rows": [BASE, {"name": "a", "system": "stas", "twin": "base"}]}, "its twin base is only a base"),
    "more seeds": ({"rows": [BASE, {"name": "a", "system": "stas", "start": "base", "seeds": 3}]}, "more seeds than its start base"),
    "run with options": (
        {"rows": [BASE, {"name": "a", "system": "stas", "run": "base", "options": {"train.epochs": 1}}]}, "takes over that row's training",
    ),
    "export": ({"rows": [{"name": "a", "system": "stas", "export": {"exit": 1}}]}, "export has no option exit; there is exit_drop"),
    "embedding alone": (
        {"rows": [{"name": "a", "system": "stas", "export": {"prune_embedding": True}}]}, "prune_embedding goes with prune_loss",
    ),
    "exits twice": ({"rows": [{"name": "a", "system": "stas", "export": {"exit_drop": 0.1, "exit_loss": 0.1}}]}, "two ways to calibrate"),
    "unknown key": ({"rows": [BASE | {"twins": "x"}]}, "twins"),
    "claim": ({"claims": {"stas": "nobody"}}, "nobody is no row"),
    "claim of no paper": ({"claims": {"stass": "base"}}, "claims.stass"),
    "one point": ({"curves": [{"name": "c", "row": "base", "knob": "train.epochs", "values": [1]}]}, "curves.0.values"),
    "setting": ({"rows": [BASE | {"options": {"train.epoch": 1}}]}, "did you mean train.epochs?"),
    "system": ({"rows": [BASE | {"system": "spikeformer"}]}, "did you mean spikformer?"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_refused_by_name(case, tmp_path):
    change, said = WRONG[case]
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump({k: v for k, v in PLAN.items() if k not in ("curves", "claims")} | change))
    with pytest.raises(DeployError) as e:
        read_plan(str(path))
    assert said in str(e.value) and ("mine.yml" in str(e.value) or "digits.yml, row base" in str(e.value))


def test_a_plan_that_is_not_there_is_told_which_there_are():
    with pytest.raises(DeployError, match="digits, fashion"):
        read_plan("mnist")
    with pytest.raises(DeployError, match="no row 'x'"):
        plan().row("x")


def test_a_plan_goes_by_its_files_name_not_its_data_set(tmp_path):
    path = tmp_path / "digits-short.yml"
    path.write_text(yaml.safe_dump(PLAN))
    made = read_plan(str(path))
    work = bench_of(tmp_path, made)
    assert (made.name, made.dataset) == ("digits-short", "digits")
    assert work.result_path(made.row("other"), 0) == tmp_path / "results" / "digits-short" / "other-0.json"
    assert plan().name == "digits"


def test_points_of_a_curve_train_no_more_than_they_must():
    made = plan()
    target, margin = (made.points(c) for c in made.curves)
    assert [p.run for p in target] == [None, "halting", None], "0.6 is the row itself"
    assert [p.options.get("train.alive_target") for p in target] == [0.4, None, 0.8]
    assert [(p.run, p.export) for p in margin] == [("halting", {"exit_drop": 0.01}), ("halting", {"exit_drop": 0.1})]
    assert made.epochs(margin[1]) == [5, 3] and made.epochs(target[0]) == [5, 3]


# One net -----------------------------------------------------------------------------------------------------------


def test_a_net_goes_through_the_pipeline_once(tmp_path):
    call = Commands()
    work = bench_of(tmp_path, call=call)
    measure_all(work, ["halting"])
    pipeline = ["export", "run", "compare", "estimate"]
    halting = ["run", "export", "run", "run off", *pipeline[2:]]
    assert call.scripts == [*["run", "run", *pipeline, *halting] * 2], "base, static twin, halting net; for two seeds"
    trained = [c for c in call.calls if c[0] == "train/run.py"]
    assert str(work.plan.folder(work.plan.row("base"), 0, work.runs)) in Path(trained[1][2]).read_text(), "does not start from its base"
    result = work.read(work.plan.row("halting"), 1)
    assert (result["epochs"], result["train_seconds"], result["plan"], result["exact"]["int"]["images"]) == ([5, 3], 120.0, "digits", 360)
    assert result["accuracy"] == {"torch": 0.9, "deployed": 0.91, "halt_off": 0.9} and result["saving"]["paper45"]["before_pj"] == 1000
    measure_all(work, ["halting"])
    assert len(call.calls) == 24, "done again"


def test_an_exit_row_exports_the_run_of_another_in_its_own_folder(tmp_path):
    call = Commands()
    work = bench_of(tmp_path, call=call)
    measure_all(work, ["exit"])
    assert sum(c[0] == "train/run.py" for c in call.calls) == 3
    exports = [c for c in call.calls if c[0] == "convert/export.py"]
    assert [c[2:] for c in exports] == [[], [], ["--exit-drop", "0.01"]] and len({c[1] for c in exports}) == 3


def test_a_pruned_row_prunes_the_export_of_another_row(tmp_path):
    options = {"prune_loss": 0.01, "prune_embedding": True}
    row = {"name": "pruned", "system": "spikformer", "run": "static", "twin": "static", "export": options}
    call = Commands()
    work = bench_of(tmp_path, plan(rows=[*PLAN["rows"], row]), call=call)
    measure(work, work.plan.row("base"), 0)
    measure(work, work.plan.row("static"), 0)
    for _ in range(2):
        measure(work, work.plan.row("pruned"), 0)
    folder = work.plan.folder(work.plan.row("pruned"), 0, work.runs)
    whole, pruned = [c for c in call.calls if c[0] == "convert/export.py"][1:]
    assert whole[1:] == [str(folder), "--output", str(folder / "whole")]
    assert pruned[1:] == [str(folder / "whole"), "--prune-loss", "0.01", "--prune-embedding", "--output", str(folder / "export")]
    assert sum(c[0] == "train/run.py" for c in call.calls) == 2 and sum("--static" in c for c in call.calls) == 1
    found = work.read(work.plan.row("pruned"), 0)
    assert found["halting"] and found["export"] == row["export"] and work.state(work.plan.row("pruned"), 0) == "fresh"


def test_a_training_that_was_begun_goes_on_and_later_steps_follow_their_inputs(tmp_path):
    call = Commands(fail=("deploy/compare.py", "other"))
    work = bench_of(tmp_path, call=call)
    row = work.plan.row("other")
    with pytest.raises(DeployError, match="compare"):
        measure(work, row, 0)
    call.calls.clear()
    call.fail = ("", "-")
    measure(work, row, 0)
    assert call.scripts == ["compare", "estimate"], "what was done is kept"
    folder = work.plan.folder(row, 0, work.runs)
    (folder / "model.safetensors").unlink()
    call.calls.clear()
    measure(work, row, 0)
    assert call.calls[0] == ["train/run.py", "--resume", str(folder)] and call.scripts == ["run"], "the same weights need no second export"
    (folder / "model.safetensors").write_bytes(b"others")
    call.calls.clear()
    measure(work, row, 0)
    assert call.scripts == ["export"], "the same net needs no second deployment"


def test_lava_is_compared_where_it_is_asked_for(tmp_path):
    call = Commands()
    measure_all(bench_of(tmp_path, call=call), ["other"])
    call.calls.clear()
    work = bench_of(tmp_path, call=call, lava=True)
    measure_all(work, ["other"])
    assert all("torch,int,lava" in command and "test:128" in command for command in call.calls)
    mapped = [command[command.index("--mapping") + 1] for command in call.calls if "--mapping" in command]
    assert mapped == ["block", "op"] and len(call.calls) == 3
    exact = work.read(work.plan.row("other"), 0)["exact"]
    assert all(exact[key]["targets"] == ["torch", "int", "lava"] for key in ("lava", "lava_block", "lava_op"))


def test_results_grow_stale_with_their_settings_or_their_twins(tmp_path):
    work = bench_of(tmp_path)
    measure_all(work)
    rows = {r.name: r for r in work.plan.rows}

    def states(made: Plan, **more) -> dict[str, str]:
        other = bench_of(tmp_path, made, **more)
        return {r.name: other.state(r, 0) for r in made.rows if not r.base}

    assert set(states(work.plan).values()) == {"fresh"}
    elsewhere = Bench(plan(), TABLES, tmp_path / "elsewhere", tmp_path / "results")
    assert {elsewhere.state(r, 0) for n, r in rows.items() if n != "base"} == {"fresh"}, "where the runs lie decides nothing"

    def changed(name: str, **change) -> Plan:
        return plan(rows=[r | change if r["name"] == name else r for r in PLAN["rows"]])

    longer = {"options": {"train.epochs": 9}}
    assert states(changed("other", **longer)) == {"static": "fresh", "halting": "fresh", "exit": "fresh", "other": "stale"}
    assert states(changed("static", **longer)) == {"static": "stale", "halting": "stale", "exit": "stale", "other": "fresh"}
    assert states(changed("base", **longer)) == {"static": "stale", "halting": "stale", "exit": "stale", "other": "fresh"}
    assert states(changed("exit", export={"exit_drop": 0.02}))["exit"] == "stale"
    threads = {"options": {"train.threads": 2}}
    assert states(changed("other", **threads))["other"] == "fresh", "threads decide no weights"
    work.result_path(rows["other"], 0).write_text('{"half": ')
    assert work.state(rows["other"], 0) == "missing"


def test_committed_results_need_no_runs_until_something_starts_from_them(tmp_path):
    work = bench_of(tmp_path)
    measure_all(work)
    bare = Bench(plan(), TABLES, tmp_path / "none", tmp_path / "results")
    assert bare.left(ordered(bare.plan, bare.plan.rows, None)) == []
    bare.result_path(bare.plan.row("exit"), 0).unlink()
    left = [(row.name, seed) for row, seed in bare.left(ordered(bare.plan, bare.plan.rows, None))]
    assert left == [("base", 0), ("static", 0), ("halting", 0), ("exit", 0)]


def test_seeds_come_one_after_another_and_bring_what_they_need():
    made = plan()
    assert [(r.name, s) for r, s in ordered(made, [made.row("exit"), made.row("static")], None)] == [
        ("base", 0), ("static", 0), ("halting", 0), ("exit", 0), ("base", 1), ("static", 1),
    ]  # fmt: skip
    assert {s for _, s in ordered(made, made.rows, 1)} == {0}


# Several nets ------------------------------------------------------------------------------------------------------


def nets_of(made: Plan) -> list[tuple[Row, int]]:
    return ordered(made, made.rows, 1)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("broken, lost", [("base", {"static", "halting", "exit"}), ("halting", {"exit"}), ("exit", ()), ("other", ())])
def test_a_failure_takes_only_its_dependants_along(jobs, broken, lost):
    done, said, lock = [], [], threading.Lock()

    def work(row: Row, seed: int) -> None:
        if row.name == broken:
            raise RuntimeError("boom")
        with lock:
            done.append(row.name)

    made = plan()
    failed = run_all(made, nets_of(made), work, jobs=jobs, tell=said.append)
    assert {name for name, _ in failed} == {broken, *lost}
    assert set(done) == {r.name for r in made.rows} - {broken, *lost}
    assert failed[broken, 0] == "RuntimeError: boom" and any(f"{broken}, seed 0 failed" in line for line in said)
    assert all(why.startswith("not tried, because") for (name, _), why in failed.items() if name in lost)


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_each_net_waits_for_what_it_needs(jobs):
    made, done = plan(), []

    def work(row: Row, seed: int) -> None:
        assert all(other in done for other in row.others), (row.name, done)
        done.append(row.name)

    assert run_all(made, nets_of(made), work, jobs=jobs) == {} and len(done) == 5


def test_an_interrupt_ends_it_all():
    def work(row: Row, seed: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(plan(), nets_of(plan()), work)


def test_a_failing_command_is_told_with_the_end_of_its_log(tmp_path):
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(DeployError) as e:
        command_output(["bench/systems.py", "no-such-plan"], log)
    assert "bench/systems.py no-such-plan" in str(e.value) and "ended with 1" in str(e.value) and "no such plan" in str(e.value)
    assert str(log) in str(e.value) and "$ python bench/systems.py no-such-plan" in log.read_text()
