"""A stand-in for the pipeline's commands: writes the files that a bench reads, trains nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bench.measure import Bench, measure, ordered
from bench.plan import Plan
from spikegate.formats.netx.graph_file import write_graph
from spikegate.graph.ir import DeployError
from spikegate.train.settings.options import from_yaml
from spikegate.train.settings.runfolder import CONFIG, METRICS, WEIGHTS
from tests.graphs import halting_graph

TABLES = ["paper45", "loihi1-davies"]
PLAN: dict[str, Any] = {
    "dataset": "digits",
    "options": {"train.epochs": 3},
    "rows": [
        {"name": "base", "system": "spikformer", "base": True, "seeds": 2, "options": {"train.epochs": 5}},
        {"name": "static", "system": "spikformer", "policy": "static", "start": "base", "seeds": 2},
        {
            "name": "halting", "system": "at_snn", "policy": "token halting", "start": "base", "twin": "static", "seeds": 2,
            "options": {"train.alive_target": 0.6},
        },
        {"name": "exit", "system": "at_snn", "policy": "exit", "run": "halting", "twin": "static", "export": {"exit_drop": 0.01}},
        {"name": "other", "system": "stmixer"},
    ],
    "curves": [
        {"name": "target", "row": "halting", "knob": "train.alive_target", "values": [0.4, 0.6, 0.8]},
        {"name": "margin", "row": "exit", "knob": "export.exit_drop", "values": [0.01, 0.1]},
    ],
    "claims": {"at_snn": ["halting", "exit"], "stas": "exit"},
}


def plan(**changes: Any) -> Plan:
    return Plan.model_validate(PLAN | changes)


class Commands:
    """Takes the place of `bench.measure.command_output`; `fail` names a script and a word of its run folder's name."""

    def __init__(self, fail: tuple[str, str] = ("", "-"), equal: bool = True) -> None:
        self.calls: list[list[str]] = []
        self.fail, self.equal = fail, equal

    @property
    def scripts(self) -> list[str]:
        return [Path(c[0]).stem if "--halt" not in c else "run off" for c in self.calls]

    def __call__(self, command: list[str], log: Path) -> str:
        self.calls.append(command)
        if command[0] == self.fail[0] and any(self.fail[1] in word for word in command):
            raise DeployError(f"python {command[0]}", "ended with 1", "mend it")
        getattr(self, command[0].replace("/", "_").removesuffix(".py"))(command)
        return ""

    def train_run(self, command: list[str]) -> None:
        folder = Path(command[-1])
        folder.mkdir(parents=True, exist_ok=True)
        if command[1] != "--resume":
            shutil.copyfile(command[2], folder / CONFIG)
        facts = {"test": {"accuracy": 0.9}, "total_seconds": 60.0, "machine": {"cores": 1}}
        (folder / METRICS).write_text(json.dumps(facts))
        (folder / WEIGHTS).write_bytes(b"weights")

    def convert_export(self, command: list[str]) -> None:
        folder = Path(command[command.index("--output") + 1]) if "--output" in command else Path(command[1]) / "export"
        folder.mkdir(exist_ok=True)
        model = from_yaml(folder.parent / CONFIG).model
        halting = bool(model.halting.enabled or model.merge.enabled or model.mask.enabled or "--prune-loss" in command)
        write_graph(halting_graph(gated=halting), folder / "model.net")
        (folder / "manifest.json").write_text(json.dumps({"halting": halting, "parameters": 1000, "timesteps": 4, "options": command[2:]}))

    def deploy_run(self, command: list[str]) -> None:
        off, halting = "--halt" in command, self.manifest(command)["halting"] and "--halt" not in command
        facts = {
            "accuracy": 0.91 if halting else 0.9, "images": 360, "mean_tokens": 0.5 if halting else 1.0, "mean_timesteps": 4.0,
            "chip_events_per_inference": 400.0 if halting else 1000.0, "images_per_s": 10.0,
        }  # fmt: skip
        path = Path(command[1]) / "deploy" / ("result_off.json" if off else "result.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts))

    def deploy_compare(self, command: list[str]) -> None:
        images = int(command[command.index("--data") + 1].removeprefix("test:"))
        targets = command[command.index("--targets") + 1].split(",")
        facts = {"targets": targets, "images": images, "equal": self.equal, "spikes": 7 * images, "values": 20 * images}
        Path(command[command.index("--output") + 1]).write_text(json.dumps(facts))

    def hw_sim_estimate(self, command: list[str]) -> None:
        halting = self.manifest(command)["halting"]
        energy = {t: {"chip_pj": 400.0 if halting else 1000.0, "host_pj": 100.0, "partial": False} for t in TABLES}
        rows = {"embedding_once": 0.0, "token_halting": 650.0, "timestep_halting": 0.0, "gates": -40.0, "backbone_difference": -10.0}
        split = {t: {"before_pj": 1000.0, "after_pj": 400.0, "rows_pj": rows} for t in TABLES}
        saving = {"baseline": "static", "energy": split} if "--static" in command else None
        path = Path(command[1]) / "report" / "energy.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"main": "net", "nets": {"net": {"energy": energy}}, "saving": saving}))

    @staticmethod
    def manifest(command: list[str]) -> dict[str, Any]:
        return json.loads((Path(command[1]) / "export" / "manifest.json").read_text())


def bench_of(folder: Path, made: Plan | None = None, call: Commands | None = None, **more) -> Bench:
    return Bench(made or plan(), TABLES, folder / "runs", folder / "results", call=call or Commands(), **more)


def measure_all(work: Bench, rows: list[str] | None = None) -> None:
    chosen = work.plan.rows if rows is None else [work.plan.row(name) for name in rows]
    for row, seed in work.left(ordered(work.plan, chosen, None)):
        measure(work, row, seed)
