"""What the bench tells: claims, tables, the documentation's markers, curves. Nothing is trained here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import curve_points, pruning_report, system_report
from bench.claims import Claim, Spread, claimed, claims
from bench.measure import Bench, command_output
from bench.plan import PLANS, RESULTS, Plan, read_plan
from bench.table import fill, lines, markdown_claims, markdown_tables
from spikegate.graph.ir import DeployError
from tests.standin_bench import PLAN, TABLES, Commands, bench_of, measure_all, plan

SHIPPED = sorted(p.stem for p in PLANS.glob("*.yml"))


# Claims ------------------------------------------------------------------------------------------------------------


def result(accuracy: float, tokens: float = 1.0, chip: float = 900.0, host: float = 100.0, rows: dict | None = None, **more) -> dict:
    saving = None if rows is None else {"paper45": {"rows_pj": rows}}
    energy = {"paper45": {"chip_pj": chip, "host_pj": host}}
    return {
        "accuracy": {"deployed": accuracy}, "mean_tokens": tokens, "chip_events": chip, "energy": energy, "saving": saving,
        "timesteps": 4, "mean_layer_timesteps": None, **more,
    }  # fmt: skip


def claim_of(key: str, rows: list[dict], twins: list[dict]) -> Claim:
    made = plan(claims={key: "halting"})
    there = {("halting", i): r for i, r in enumerate(rows)} | {("static", i): r for i, r in enumerate(twins)}
    (found,) = claims(made, lambda name, seed: there.get((name, seed)))
    return found


def test_fewer_tokens_at_no_less_accuracy_is_reached():
    c = claim_of("at_snn", [result(0.91, 0.5, 450), result(0.89, 0.6, 540)], [result(0.9), result(0.88)])
    assert c.reached and c.verdict == "reached"
    assert replace(c, planned=len(c.gain.values) + 2).verdict == f"reached ({len(c.gain.values)} of {len(c.gain.values) + 2} seeds so far)"
    assert c.gain.values == pytest.approx((50, 40)) and c.gain.text(1, " %") == "45.0 % (40.0 to 50.0)"
    assert c.parts["chip events, per cent fewer"].mean == pytest.approx(45) and c.facts()["loss_points"]["mean"] == pytest.approx(-1)


def test_events_saved_for_tokens_saved():
    c = claim_of("halting", [result(0.91, 0.6, 576), result(0.9, 0.5, 450)], [result(0.9), result(0.9)])
    assert c.gain.values == pytest.approx((90, 100)) and c.reached
    assert c.parts["tokens, per cent fewer"].values == pytest.approx((40, 50))
    assert claim_of("halting", [result(0.9, 1.0, 900)], [result(0.9)]).gain.mean == 0, "no token halts"
    assert not claim_of("halting", [result(0.9, 0.5, 600)], [result(0.9)]).reached


@pytest.mark.parametrize("key", ["at_snn", "stas"])
def test_what_is_not_reached_says_by_how_much(key):
    short = claim_of(key, [result(0.9, 0.6, 500)], [result(0.9)])
    assert not short.reached and short.verdict == f"not reached: {2.4 if key == 'at_snn' else 5.9:.2f} % short (1 of 2 seeds so far)"
    inside = claim_of(key, [result(0.899, 0.5, 400), result(0.889, 0.5, 400)], [result(0.9), result(0.89)])
    assert inside.reached and inside.verdict == "reached: accuracy 0.10 points below the twin (within the twin's own range of 1.00)"
    beyond = claim_of(key, [result(0.88, 0.9, 800), result(0.87, 0.9, 800)], [result(0.9), result(0.89)])
    assert beyond.verdict.endswith("% short; accuracy 2.00 points below the twin (beyond the twin's own range of 1.00)")
    assert claim_of(key, [result(0.88, 0.1, 100)], [result(0.9)]).verdict.endswith("(one seed) (1 of 2 seeds so far)")


def test_a_claim_asks_for_what_was_published_for_its_data_set():
    assert [claimed("stas", data)[1] for data in ("cifar10", "cifar100", "fashion")] == [45.9, 43.8, 45.9]
    assert "43.8 %" in claimed("stas", "cifar100")[0] and claimed("at_snn", "cifar100")[:2] == (
        "AT-SNN: at least 42.4 % fewer tokens at no less accuracy", 42.4)  # fmt: skip


def test_the_parts_of_an_energy_claim_add_up_to_it():
    """Chip 900 -> 400 split by the report's rows, host 100 -> 40, of 1000 in all."""
    names = ("embedding_once", "token_halting", "timestep_masks", "timestep_halting", "gates", "backbone_difference")
    rows = dict(zip(names, (250.0, 300.0, 5.0, 35.0, -40.0, -50.0)))
    c = claim_of("stas", [result(0.9, chip=400, host=40, rows=rows)], [result(0.9)])
    assert c.gain.mean == pytest.approx(56) and c.reached
    assert sum(s.mean for s in c.parts.values()) == pytest.approx(c.gain.mean)
    assert c.parts["host embedding"].mean == pytest.approx(6) and c.parts["gates' own cost"].mean == pytest.approx(-4)


def test_average_timesteps_are_those_of_masked_layers():
    c = claim_of("dts_vit", [result(0.9, mean_layer_timesteps=2.5)], [result(0.9)])
    assert c.gain.mean == 1.5 and c.parts["average timesteps"].mean == 2.5 and c.reached
    assert not claim_of("dts_vit", [result(0.9, mean_layer_timesteps=4.0)], [result(0.9)]).reached


def test_a_claim_that_was_not_measured_is_left_out():
    assert claims(plan(), lambda name, seed: None) == []
    assert Spread((1.0,)).text() == "1.0"


# Tables and documentation ------------------------------------------------------------------------------------------


def shown(work: Bench) -> list:
    return lines(work.plan, work.plan.rows, system_report.reader(work), work.state)


def test_the_table_says_what_is_missing_stale_and_over_how_many_seeds(tmp_path):
    work = bench_of(tmp_path)
    measure_all(work, ["halting", "exit"])
    work.result_path(work.plan.row("halting"), 1).unlink()
    text = markdown_tables(shown(work), TABLES)
    named = {line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| `")}
    assert named == {"`static` (2 seeds)", "`halting`, missing (seed 1)", "`exit`"}, "a base is no row of the table"
    assert "Not measured yet: `other`." in text
    work_part = text.split("\n\n")[0]
    assert "| `exit` | exit | 90.00 % | 91.00 % | 1,000 | 50.0 % | 4.00 | 4.00 | 400 | 8 | 2.0 min | `static` |" in work_part
    assert "| 90.00 % (90.00 % to 90.00 %) |" in work_part
    assert "| `exit` | 400 pJ | 100 pJ | 45 % |" in text.split("\n\n")[1]
    assert text.endswith("Every spike equal: torch = int on 360 images of 4 nets (10,080 spikes); 4 nets in all.")


def test_a_net_that_is_not_exact_is_named(tmp_path):
    work = bench_of(tmp_path, call=Commands(equal=False))
    measure_all(work, ["other"])
    assert "**NOT exact**: `other`." in markdown_tables(shown(work), TABLES)


PAGE = """# Systems
<!-- table:digits -->
<!-- end -->
between
<!-- table:digits stmixer -->
old
<!-- end -->
<!-- table:digits-short -->
kept
<!-- end -->
<!-- claims:digits -->
<!-- end -->
<!-- curves:digits -->
<!-- end -->
"""


def test_updating_the_documentation_touches_its_own_markers_and_twice_is_once(tmp_path):
    work, page = bench_of(tmp_path), tmp_path / "systems.md"
    page.write_text(PAGE)
    system_report.update(page, work, TABLES)
    empty = page.read_text()
    assert empty.count("Not measured yet: `python bench/systems.py digits --update-docs`.") == 3 and "Not drawn yet" in empty
    measure_all(work)
    system_report.update(page, work, TABLES)
    once = page.read_text()
    system_report.update(page, work, TABLES)
    assert page.read_text() == once != empty
    assert "<!-- table:digits-short -->\nkept\n<!-- end -->" in once and "Not measured" not in once
    own = once.split("<!-- table:digits stmixer -->")[1].split("<!-- end -->")[0]
    assert "`other`" in own and "`halting`" not in own
    assert markdown_claims(claims(work.plan, system_report.reader(work))) in once
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "curves-digits.svg").write_text("<svg/>")
    system_report.update(page, work, TABLES)
    assert "](images/curves-digits.svg)" in page.read_text()
    short = Plan.model_validate(PLAN | {"name": "digits-short"})
    system_report.update(page, bench_of(tmp_path, short), TABLES)
    assert page.read_text().count("kept") == 0 and "`other`" in page.read_text()


@pytest.mark.parametrize(
    "text, said", [("# nothing\n", "has no marker of plan digits"), ("<!-- tables:digits -->\n<!-- end -->\n", "unknown marker")]
)
def test_a_page_without_a_place_for_the_table_is_refused_and_kept(text, said, tmp_path):
    page = tmp_path / "systems.md"
    page.write_text(text)
    with pytest.raises(DeployError, match=said):
        system_report.update(page, bench_of(tmp_path), TABLES)
    assert page.read_text() == text


def test_a_marker_without_an_end_swallows_no_other():
    text = "<!-- table:a -->\nlost\n<!-- table:b -->\nx\n<!-- end -->\n"
    assert fill(text, lambda key: key) == "<!-- table:a -->\nlost\n<!-- table:b -->\ntable:b\n<!-- end -->\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_documentation_has_a_place_for_every_shipped_plan(name):
    text, found = system_report.DOCS.read_text(), []
    assert fill(text, lambda key: found.append(key)) == text
    assert f"table:{name}" in found
    assert (f"claims:{name}" in found) == bool(read_plan(name).claims) and (f"curves:{name}" in found) == bool(read_plan(name).curves)


# Commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_report_of_what_is_committed_trains_nothing(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.measure.command_output", lambda *a: pytest.fail("a command was run"))
    assert system_report.bench(name, report_only=True, as_json=True, runs=tmp_path) == 0
    told = json.loads(capsys.readouterr().out)
    for row in told["rows"]:
        stored = sorted((RESULTS / name).glob(f"{row['row']}-[0-9].json"))
        assert len(row["results"]) == len(stored) and (stored or row["state"] == "missing")
        assert all(e["equal"] for r in row["results"] for e in r["exact"].values()), f"{row['row']} is not exact"
    assert system_report.bench(name, report_only=True, markdown=True, with_claims=True, runs=tmp_path) == 0
    assert system_report.bench(name, report_only=True, with_claims=True, runs=tmp_path) == 0
    assert "Traceback" not in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("change, said", [({"jobs": 0}, "--jobs"), ({"seeds": 0}, "--seeds"), ({"rows": "nobody"}, "no row 'nobody'")])
def test_wrong_options_are_refused(change, said):
    with pytest.raises(DeployError, match=said):
        system_report.bench("digits", report_only=True, **change)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(drawn):
    points = [{"total_pj": float(e), "accuracy": a / 6} for e, a in drawn]
    best = {(points[i]["total_pj"], points[i]["accuracy"]) for i in curve_points.front(points)}

    def beaten(p: dict) -> bool:
        return any(q["total_pj"] <= p["total_pj"] and q["accuracy"] >= p["accuracy"] and q != p for q in points)

    assert best == {(p["total_pj"], p["accuracy"]) for p in points if not beaten(p)}
    assert len(curve_points.front(points)) == len(best)


def test_curves_are_measured_drawn_and_read_again(tmp_path, monkeypatch):
    path = tmp_path / "digits-short.yml"
    path.write_text(yaml.safe_dump(PLAN))
    call = Commands()
    monkeypatch.setattr("bench.measure.command_output", call)
    svg = tmp_path / "curves.svg"
    args = {"plan_name": str(path), "runs": tmp_path / "runs", "results": tmp_path / "results", "output": svg, "as_json": True}
    with pytest.raises(DeployError, match="holds no results yet"):
        curve_points.curves(str(path), report_only=True, runs=tmp_path / "runs", results=tmp_path / "results", output=svg)
    assert curve_points.curves(**args) == 0
    facts = json.loads((tmp_path / "results" / "digits-short" / "curves.json").read_text())
    assert [(p["curve"], p["value"]) for p in facts["points"]] == [
        ("target", 0.4), ("target", 0.6), ("target", 0.8), ("margin", 0.01), ("margin", 0.1), (None, None),
    ]  # fmt: skip
    assert facts["points"][-1]["row"] == "static" and {p["state"] for p in facts["points"]} == {"fresh"}
    assert {p["total_pj"] for p in facts["points"] if p["front"]} == {500.0}
    assert svg.read_text().startswith("<svg") and "Pareto front" in svg.read_text()
    drawn, trained = svg.read_text(), sum(c[0] == "train/run.py" for c in call.calls)
    assert trained == 5, "base, static twin, halting net, and the points of its curve besides its own target of 0.6"
    assert not [c for c in call.calls if "compare" in c[0] and "@" in c[1]], "points of curves are not compared"
    call.calls.clear()
    assert curve_points.curves(**args) == 0 and not call.calls and svg.read_text() == drawn


@pytest.mark.parametrize("script", ["systems", "curves"])
def test_a_command_of_the_bench_explains_itself(script, tmp_path):
    assert "--report-only" in command_output([f"bench/{script}.py", "--help"], tmp_path / "log")


def test_pruning_is_drawn_and_told_from_its_rows():
    """Dropped from the blocks beside from the embedding, too; a row that has only one of both, patience 1 and share 0 are in no table."""
    def row(whole: bool, share: float, events: float, patience: int = 2, part: str = "test") -> dict:
        return {"net": "runs/mine", "part": part, "images": 1000, "embedding": whole, "patience": patience, "share": share, "cut": 3,
                "tokens": 1 - share, "events": events, "accuracy": 0.9, "accuracy_static": 0.95}  # fmt: skip

    rows = [row(w, s, e) for w, s, e in ((False, 0.2, 0.9), (True, 0.2, 0.8), (False, 0.0, 1.02), (True, 0.0, 1.01), (False, 0.4, 0.7))]
    rows += [row(w, 0.3, 0.5, patience=1) for w in (False, True)] + [row(True, 0.2, 0.1, part="validation")]
    (line,) = pruning_report.markdown(rows).splitlines()[2:]
    assert line == "| `mine`, 1,000 images | 2 | 20 % | 80.0 % | 90.0 % | 90.00 % | 80.0 % | 80.0 % | 90.00 % | 95.00 % |"
    exits = [{"net": "runs/mine", "images": 1000, "rule": rule, "share": 0.01, "timesteps": 2.5, "of": 4, "tokens": 0.6, "events": 0.55,
              "accuracy": 0.94, "accuracy_static": 0.95} for rule in ("--exit-drop", "--exit-loss")]  # fmt: skip
    assert pruning_report.exits_markdown(exits).splitlines()[3] == (
        "| `mine`, 1,000 images | `--exit-loss 0.01` | 2.50 of 4 | 60.0 % | 55.0 % | 94.00 % | 95.00 % |"
    )
    drawn = pruning_report.chart(rows, exits)
    words = ("mine, 1,000 images", "embedding and blocks, patience 2", "blocks, patience 1", "static", "exits")
    assert all(word in drawn for word in words)
    assert drawn == pruning_report.chart(rows, exits) != pruning_report.chart(rows, [])
