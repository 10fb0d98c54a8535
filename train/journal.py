"""What a training run tells: a progress bar or plain lines, TensorBoard scalars, and metrics.json."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spikegate.files import atomic
from spikegate.train import machine
from spikegate.train.checkpoint import State
from spikegate.train.settings.runfolder import METRICS

SCALARS = (
    "loss", "train_accuracy", "validation_accuracy", "mean_tokens", "mean_timesteps", "mean_layer_timesteps", "learning_rate",
    "images_per_second",
)  # fmt: skip


class Listener:
    """A journal that writes nothing: of the processes that do not lead."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to close."""

    def epoch(self, number: int, phase: str, steps: int) -> None:
        """As `Journal.epoch`."""

    def step(self) -> None:
        """As `Journal.step`."""

    def row(self, row: dict[str, Any]) -> None:
        """As `Journal.row`."""

    def finish(self, test: dict[str, Any], images: int) -> None:
        """As `Journal.finish`."""


class Journal(Listener):
    """Open for the length of a run; `row` after each epoch, `finish` with the test's result. Lines go to `out`, a bar to a terminal."""

    def __init__(self, run: Path, epochs: int, state: State, parameters: int, device: torch.device, out: Console) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run, self.epochs, self.state, self.parameters, self.device, self.out = run, epochs, state, parameters, device, out
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=state.epoch + 1)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=out, transient=True,
            disable=out.quiet or not out.is_terminal,
        )
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> Journal:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
        with suppress(OSError):  # a full disk is reported where the weights are written
            self.board.close()

    def epoch(self, number: int, phase: str, steps: int) -> None:
        """Epoch `number` (from 1) begins."""
        self.bar.reset(self.task, total=steps, description=f"epoch {number}/{self.epochs} {phase}")

    def step(self) -> None:
        self.bar.advance(self.task)

    def row(self, row: dict[str, Any]) -> None:
        """Print, plot and save one epoch's metrics, which are the last of the state's history."""
        adaptive = f", {_adaptive(row)}" if row["phase"] == "deployed" else ""
        self.out.print(
            f"epoch {row['epoch']}/{self.epochs} {row['phase']}: loss {row['loss']:.3f}, train {row['train_accuracy']:.2%}, "
            f"validation {row['validation_accuracy']:.2%}{adaptive}, {row['seconds']:.1f} s, {row['images_per_second']:,.0f} images/s, "
            f"{row['peak_memory_bytes'] / 2**30:.2f} GiB", markup=False, soft_wrap=True,
        )
        for name in SCALARS:
            if row.get(name) is not None:
                self.board.add_scalar(name, row[name], row["epoch"])
        self._write({})

    def finish(self, test: dict[str, Any], images: int) -> None:
        """Print, plot and save the test result of the final weights."""
        self.out.print(
            f"test accuracy {test['accuracy']:.2%} over {images} images, {_adaptive(test)}, "
            f"{self.state.seconds:.1f} s in all", markup=False, soft_wrap=True,
        )
        self.board.add_scalar("test_accuracy", test["accuracy"], self.epochs)
        self._write({"test": test | {"images": images}})

    def _write(self, more: dict[str, Any]) -> None:
        history = self.state.history
        seconds = sum(row["seconds"] for row in history)
        seen = sum(row["images_per_second"] * row["seconds"] for row in history)
        facts = {
            "schema": 1, "config_hash": self.state.config_hash, "parameters": self.parameters, "epochs": history,
            "total_seconds": round(self.state.seconds, 3), "images_per_second": round(seen / seconds, 1) if seconds else 0.0,
            "phases": _phases(history), "machine": machine.describe(self.device), **more,
        }
        with atomic(self.run / METRICS) as part:
            part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _phases(history: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each phase: images trained on per second, validation left out, and the peak of the memory."""
    found: dict[str, dict[str, float]] = {}
    for phase in dict.fromkeys(row["phase"] for row in history):
        rows = [row for row in history if row["phase"] == phase and "peak_memory_bytes" in row]
        if rows:  # runs begun with an older version have none
            speed = len(rows) / sum(1 / row["images_per_second"] for row in rows)
            found[phase] = {"images_per_second": round(speed, 1), "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows)}
    return found


def _adaptive(found: dict[str, Any]) -> str:
    """What halting and masks leave, for people."""
    opened = found.get("mean_layer_timesteps")
    masked = "" if opened is None else f", {opened:.2f} open in a masked layer"
    return f"tokens {found['mean_tokens']:.0%}, timesteps {found['mean_timesteps']:.2f}{masked}"
