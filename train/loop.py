"""The training loop: float phase, then as deployed; resumable after every epoch, bit for bit on the same machine and threads."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikegate.command.cli import console
from spikegate.engine.memory import keep_memory
from spikegate.graph.ir import DeployError
from spikegate.train import models
from spikegate.train.checkpoint import State, load_checkpoint, save_checkpoint
from spikegate.train.criterion import loss_of
from spikegate.train.data import Splits, load
from spikegate.train.evaluate import evaluate
from spikegate.train.journal import Journal
from spikegate.train.layers.timestep_gate import keep_open
from spikegate.train.models.net import Net
from spikegate.train.optimize import learning_rate, make_optimizer, set_rate
from spikegate.train.restore import Facts, save_weights, start_from
from spikegate.train.settings.config import Config, flat
from spikegate.train.settings.options import of_run, write_yaml
from spikegate.train.settings.runfolder import CHECKPOINT, CONFIG, WEIGHTS, claim, find_unfinished
from spikegate.train.teacher import Teacher, load_teacher


def fit(config: Config) -> Path:
    """Train as `config` says and write a run folder; returns it.

    The weights are those after the last epoch; the test part is looked at once, at the end. After each epoch
    ``last.ckpt`` holds everything that `config.resume` needs to end with exactly the weights of an uninterrupted run.

    Raises
    ------
    DeployError
        Bad data, a folder in use, settings that differ from the resumed run's, a loss that is no number, a full disk.
    """
    torch.set_num_threads(config.train.threads)
    keep_memory()
    resumed = find_unfinished(None if config.resume is True else Path(config.resume)) if config.resume else None
    if resumed:
        _same_training(config, resumed)
    splits = load(config.data)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.train.seed)
    net = models.build(config.model, splits.image_shape, len(splits.classes), splits.levels)
    net.set_precision(config.train.precision)
    teacher = load_teacher(config.train.teacher, config.train.distill, splits) if config.train.teacher is not None else None
    run = resumed or claim(config.output, f"{config.data.name}-{config.model.name}")
    optimizer = make_optimizer(net, config.train)
    state = State(config.hash)
    if resumed and (run / CHECKPOINT).exists():
        state = load_checkpoint(run / CHECKPOINT, net, optimizer)
        if state.config_hash != config.hash:
            raise DeployError(str(run / CONFIG), "changed since the run was begun", "undo the change, or start a new run")
    else:
        if config.train.start is not None:
            fresh = start_from(config.train.start, net)
            console.print(f"starts from {config.train.start}" + (f"; new: {len(fresh)} parameters of gates and masks" if fresh else ""))
        write_yaml(config, run / CONFIG)
    parameters = net.parameter_count
    console.print(
        f"{run}: {config.model.name}, {parameters:,} parameters, {splits.name} ({len(splits.train):,} train, "
        f"{len(splits.validation):,} validation, {len(splits.test):,} test {splits.noun})"
        + (f", resumed after epoch {state.epoch}" if state.epoch else ""), markup=False, soft_wrap=True,
    )
    saved = state.epoch
    with Journal(run, config.train.epochs, state, parameters) as journal:
        try:
            while state.epoch < config.train.epochs:
                _epoch(net, optimizer, splits, config, state, journal, teacher)
                save_checkpoint(run / CHECKPOINT, net, optimizer, state)
                saved = state.epoch
        except DeployError as e:
            raise DeployError(f"{run}: {e.where}", e.problem, f"{e.hint}; {_kept(run, saved)}") from None
        except KeyboardInterrupt:
            console.print(f"stopped; {_kept(run, saved)}; go on: python train/run.py --resume {run}", markup=False, soft_wrap=True)
            raise
        net.set_phase("deployed")
        test = evaluate(net, splits.test, config.train.eval_batch)
        journal.finish(test, len(splits.test))
    facts = Facts(config.hash, splits.name, splits.image_shape, splits.classes, splits.levels)
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


def _epoch(
    net: Net, optimizer: torch.optim.Optimizer, splits: Splits, config: Config, state: State, journal: Journal, teacher: Teacher | None,
) -> None:
    """Train one epoch and validate; updates `state`, which then holds one more row of history."""
    settings, number, phase = config.train, state.epoch + 1, phase_of(state.epoch, config)
    start = time.perf_counter()
    net.set_phase(phase)
    net.float_timesteps = float_timesteps(state.epoch, config)
    net.train()
    steps = splits.train.count(settings.batch_size)
    journal.epoch(number, phase, steps)
    loss_sum, right, step, rate = 0.0, 0, state.step, 0.0
    for x, y in splits.train.batches(settings.batch_size, settings.seed, state.epoch, splits.augment):
        rate = learning_rate(step, steps, settings)
        set_rate(optimizer, rate)
        out = net(x)
        loss = loss_of(net, out, x, y, settings, teacher)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip or math.inf)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient's norm is {norm.item()}"
            where = f"epoch {number}, step {step - state.step + 1} of {steps}"
            raise DeployError(where, what, "lower train.lr, or clip harder with train.clip")
        optimizer.step()
        if phase == "deployed" and net.masks:
            keep_open(net.masks, settings.timestep_target)
        loss_sum += value * len(y)
        right += int((out.logits.detach().argmax(1) == y).sum())
        step += 1
        journal.step()
    seen, trained = len(splits.train), time.perf_counter() - start
    checked = evaluate(net, splits.validation, settings.eval_batch)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {
        "epoch": number, "phase": phase, "loss": loss_sum / seen, "train_accuracy": right / seen,
        "validation_accuracy": checked["accuracy"], "mean_tokens": checked["mean_tokens"], "mean_timesteps": checked["mean_timesteps"],
        "mean_layer_timesteps": checked["mean_layer_timesteps"],
        "learning_rate": rate, "images_per_second": seen / trained, "seconds": seconds,
    }
    state.history.append(row)
    state.epoch, state.step, state.seconds = number, step, state.seconds + seconds
    journal.row(row)


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
