"""The training loop: float phase, then as deployed; resumable after every epoch, bit for bit on the same device and threads."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from spikegate.command.cli import console
from spikegate.command.folder_lock import alone_in
from spikegate.engine.memory import keep_memory
from spikegate.graph.ir import DeployError
from spikegate.train import devices, models, parallel
from spikegate.train.backends import ranks
from spikegate.train.checkpoint import State, load_checkpoint, save_checkpoint
from spikegate.train.data import load
from spikegate.train.evaluate import evaluate
from spikegate.train.images import Splits
from spikegate.train.journal import Journal, Listener
from spikegate.train.optimize import fuse, learning_rate, make_optimizer, masks_learn, set_rate, settle_heads
from spikegate.train.profiling import traced
from spikegate.train.restore import Facts, save_weights, start_from
from spikegate.train.settings.config import Config, TrainConfig, flat
from spikegate.train.settings.options import of_run, write_yaml
from spikegate.train.settings.runfolder import CHECKPOINT, CONFIG, WEIGHTS, claim, find_unfinished
from spikegate.train.step import LOSS, RIGHT, Step
from spikegate.train.teacher import load_teacher

CHECKED = 32  # steps on a GPU after which their losses are looked at: each look waits for the device


def fit(config: Config, out: Console = console, progress: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Train as `config` says and write a run folder; returns it. What happens is printed to `out`.

    `progress` is called after each epoch with what metrics.json says of it.

    The weights are those after the last epoch (with `train.ema` their average); the test part is looked at once, at the end. After each
    epoch ``last.ckpt`` holds everything that `config.resume` needs to end with exactly the weights of an uninterrupted run. Started by
    `torchrun`, all processes train one net together and the first one writes.

    Raises
    ------
    DeployError
        Bad data, a device that is not there, a folder in use, settings that differ from the resumed run's, a loss that is no number, a full
        disk or memory, another process that is gone.
    """
    torch.set_num_threads(config.train.threads)
    keep_memory()
    device = devices.resolve(config.train.device)
    devices.prepare(device)
    with parallel.joined(device):
        try:
            return _fit(config, device, out, progress)
        except torch.OutOfMemoryError as e:
            hint = "use a smaller train.batch_size, or train.accumulate"
            raise DeployError(str(device), f"out of memory ({str(e).splitlines()[0]})", hint) from None


def _fit(config: Config, device: torch.device, out: Console, progress: Callable[[dict[str, Any]], None] | None) -> Path:
    resumed = find_unfinished(None if config.resume is True else Path(config.resume)) if config.resume else None
    if resumed:
        _same_training(config, resumed)
    splits = load(config.data)
    _parts_fit(config.train, len(splits.train))
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.train.seed)
    net = models.build(config.model, splits.image_shape, len(splits.classes), splits.levels)
    net.set_precision(config.train.precision)
    net.counting = bool(config.train.activity)
    teacher = load_teacher(config.train.teacher, config.train.distill, splits, device) if config.train.teacher is not None else None
    run = resumed or parallel.from_leader(claim(config.output, f"{config.data.name}-{config.model.name}") if parallel.leads() else None)
    net.to(device)
    splits.move(device)
    optimizer = make_optimizer(net, config.train)
    if device.type == "cuda":
        fuse(optimizer, device)
    step = Step(net, optimizer, config.train, teacher, device)
    state = State(config.hash)
    if resumed and (run / CHECKPOINT).exists():
        state = load_checkpoint(run / CHECKPOINT, net, optimizer, step.load)
        if state.config_hash != config.hash:
            raise DeployError(str(run / CONFIG), "changed since the run was begun", "undo the change, or start a new run")
    else:
        if config.train.start is not None:
            begun = start_from(config.train.start, net, splits.classes, config.train.fresh or ())
            out.print(f"starts from {config.train.start}{begun}", markup=False, soft_wrap=True)
            step.restart()
        if parallel.leads():
            write_yaml(config, run / CONFIG)
    parameters = net.parameter_count
    out.print(
        f"{run}: {config.model.name}, {parameters:,} parameters, {splits.name} ({len(splits.train):,} train, "
        f"{len(splits.validation):,} validation, {len(splits.test):,} test {splits.noun}), {_where(device)}"
        + (f", resumed after epoch {state.epoch}" if state.epoch else ""), markup=False, soft_wrap=True,
    )
    saved = state.epoch
    leads = parallel.leads()
    with (alone_in(run) if leads else nullcontext()), (Journal(run, config.train.epochs, state, parameters, device, out)
                                                       if leads else Listener()) as journal:
        try:
            while state.epoch < config.train.epochs:
                _epoch(step, splits, config, state, journal, run)
                if parallel.leads():
                    save_checkpoint(run / CHECKPOINT, net, optimizer, state, step.state())
                saved = state.epoch
                if progress is not None:
                    progress(dict(state.history[-1]))
        except DeployError as e:
            raise DeployError(f"{run}: {e.where}", e.problem, f"{e.hint}; {_kept(run, saved)}") from None
        except KeyboardInterrupt:
            out.print(f"stopped; {_kept(run, saved)}; go on: python train/run.py --resume {run}", markup=False, soft_wrap=True)
            raise
        net.set_phase("deployed")
        with step.averaged():
            test = evaluate(net, splits.test, config.train.eval_batch)
            journal.finish(test, len(splits.test))
            facts = Facts(config.hash, splits.name, splits.image_shape, splits.classes, splits.levels)
            if parallel.leads():
                save_weights(run / WEIGHTS, net, facts)
    return run


def phase_of(epoch: int, config: Config) -> str:
    """Phase of an epoch counted from 0; the last one is always as deployed."""
    return "float" if epoch < _float_epochs(config) else "deployed"


def float_timesteps(epoch: int, config: Config) -> int:
    """Timesteps of a float epoch: `train.float_timesteps`, but in the last ones those of the model, so that norms know them."""
    full = round(config.train.full_share * config.train.epochs)
    few = config.train.float_timesteps or config.model.timesteps
    return few if epoch < _float_epochs(config) - full else config.model.timesteps


def _float_epochs(config: Config) -> int:
    return min(int(config.train.float_share * config.train.epochs), config.train.epochs - 1)


def _epoch(step: Step, splits: Splits, config: Config, state: State, journal: Listener, run: Path) -> None:
    """Train one epoch and validate; updates `state`, which then holds one more row of history."""
    settings, number, phase, net, device = config.train, state.epoch + 1, phase_of(state.epoch, config), step.net, step.device
    start = time.perf_counter()
    devices.forget_peak(device)
    if config.model.head_start == "linear" and phase == "deployed" and state.epoch and phase_of(state.epoch - 1, config) == "float":
        settle_heads(net, step.optimizer)
        step.restart()  # an average of weights of two scales would be neither
    net.set_phase(phase)
    net.float_timesteps = float_timesteps(state.epoch, config)
    net.train()
    first = not state.history or state.history[-1]["phase"] != phase
    if first:
        step.phase_begins()
    sizes = [len(index) for index in splits.train.indices(settings.batch_size, settings.seed, state.epoch)]
    journal.epoch(number, phase, len(sizes))
    rate, rows = 0.0, []
    batches = splits.train.batches(
        settings.batch_size, settings.seed, state.epoch, splits.augment, splits.mix, device, settings.accumulate
    )
    with traced(run / f"trace-{phase}.json" if config.profile and first and parallel.leads() else None, device) as tick:
        for done, (x, y) in enumerate(batches):
            rate = learning_rate(state.step + done, len(sizes), settings)
            set_rate(step.optimizer, rate, masks_learn(state.step + done, len(sizes), settings))
            rows.append(step(x, y, sizes[done]))
            if device.type == "cpu" or len(rows) % CHECKED == 0 or len(rows) == len(sizes):
                _check(rows, number, len(sizes), 1 if device.type == "cpu" else CHECKED)
            journal.step()
            tick()
    devices.wait(device)
    seen, trained = len(splits.train), time.perf_counter() - start
    found = parallel.summed(torch.stack(rows)[:, [LOSS, RIGHT]].double()).cpu()
    with step.averaged():
        checked = evaluate(net, splits.validation, settings.eval_batch)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {
        "epoch": number, "phase": phase, "loss": float(found[:, 0] @ torch.tensor(sizes).double()) / seen,
        "train_accuracy": float(found[:, 1].sum()) / seen,
        "validation_accuracy": checked["accuracy"], "mean_tokens": checked["mean_tokens"], "mean_timesteps": checked["mean_timesteps"],
        "mean_layer_timesteps": checked["mean_layer_timesteps"],
        "learning_rate": rate, "images_per_second": seen / trained, "peak_memory_bytes": devices.peak_bytes(device), "seconds": seconds,
    }
    state.history.append(row)
    state.epoch, state.step, state.seconds = number, state.step + len(sizes), state.seconds + seconds
    journal.row(row)


def _check(rows: list[torch.Tensor], epoch: int, steps: int, last: int) -> None:
    """Raise a DeployError if one of the `last` steps had a loss or gradient that is no number."""
    since = max(0, len(rows) - last)
    for at, (loss, norm, _, left_out) in enumerate(torch.stack(rows[since:]).tolist(), since + 1):
        if not (math.isfinite(loss) and (left_out or math.isfinite(norm))):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
            raise DeployError(f"epoch {epoch}, step {at} of {steps}", what, "lower train.lr, or clip harder with train.clip")


def _parts_fit(settings: TrainConfig, images: int) -> None:
    """Refuse batches that leave a process or a pass without images."""
    smallest = images // -(-images // settings.batch_size)
    if smallest < 2 * ranks.count() * settings.accumulate:
        what = f"{smallest} images for {ranks.count()} processes with {settings.accumulate} passes each"
        raise DeployError("train.batch_size", what, "give at least two images to each pass: larger batches, fewer processes or passes")


def _where(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return name + (f", {ranks.count()} processes" if ranks.count() > 1 else "")


def _same_training(config: Config, run: Path) -> None:
    """Refuse to resume with other settings than the run was begun with."""
    begun, now = of_run(run).decisive(), config.decisive()
    odd = [f"{key} was {begun.get(key)}, now {now.get(key)}" for key in sorted(flat(begun) | flat(now)) if begun.get(key) != now.get(key)]
    if odd:
        raise DeployError(str(run), f"begun with other settings: {'; '.join(odd)}", "leave these settings out, or start a new run")
    if config.output is not None and config.output.resolve() != run.resolve():
        raise DeployError("output", f"--resume goes on in {run}", "leave --output out")


def _kept(run: Path, epoch: int) -> str:
    return f"{run / CHECKPOINT} holds epoch {epoch}" if epoch else "no epoch is saved yet"
