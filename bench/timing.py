"""Times of training passes: contestants run alternately, many times, so that whatever else the machine does meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from bench.contestants import PLAIN, SHAPES, Shape, statistics_of_last_batch, steps
from bench.interleaved import interleaved
from spikegate.train import models
from spikegate.train.models.net import Net
from spikegate.train.settings.config import check, defaults, merge

IMAGES = {"digits": (1, 8, 8, 16), "fashion": (1, 28, 28, 255), "cifar10": (3, 32, 32, 255)}  # channels, height, width, largest pixel
FORMS = (("float", 1), ("float", 4), ("deployed", 4))
PRECISIONS = ("float32", "bfloat16")
Progress = Callable[[str], None]


def clock() -> tuple[str, Callable[[], float]]:
    """With one thread the processor's time, which other programs on the machine do not change as much; else the wall's."""
    return ("processor", time.process_time) if torch.get_num_threads() == 1 else ("wall", time.perf_counter)


def medians(contestants: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of each contestant, run alternately, after a first round that does not count: medians, and all in the order measured."""
    times = interleaved(contestants, repeats, clock()[1])
    return {name: statistics.median(found) for name, found in times.items()}, times


def layers(repeats: int, progress: Progress, shapes: Iterable[Shape] = SHAPES) -> tuple[list[dict[str, Any]], list[str]]:
    """One row for each shape and program: ``ms`` of a forward and backward pass, and ``ratio`` to plain torch.

    ``ratio`` is the median over rounds of the ratio within a round.
    """
    rows, left_out = [], []
    for shape in shapes:
        progress(shape.text)
        contestants, missing = steps(shape)
        left_out += [m for m in missing if m not in left_out]
        middle, times = medians(contestants, repeats)
        for name in contestants:
            ratio = statistics.median(a / b for a, b in zip(times[name], times[PLAIN]))
            rows.append({"layer": shape.text, "program": name, "ms": 1000 * middle[name], "ratio": ratio})
    return rows, left_out


def nets(datasets: Iterable[str], names: Iterable[str], batch: int, repeats: int, progress: Progress) -> list[dict[str, Any]]:
    """Images per second of a data set's default nets, random images, forward and backward; no optimiser, no data loading."""
    rows = []
    for dataset in datasets:
        for name in names:
            progress(f"{dataset}, {name}")
            net, step = _net(dataset, name, batch)
            contestants = {(p, t, q): step(p, t, q) for p, t in FORMS for q in PRECISIONS}
            middle, _ = medians(contestants, repeats)  # type: ignore[type-var, arg-type]
            for (phase, timesteps, precision), seconds in middle.items():  # type: ignore[misc]
                rows.append({
                    "dataset": dataset, "net": name, "parameters": net.parameter_count, "phase": phase, "timesteps": timesteps,
                    "precision": precision, "images_per_s": batch / seconds,
                })  # fmt: skip
    return rows


def _net(dataset: str, name: str, batch: int) -> tuple[Net, Callable[..., Callable[[], None]]]:
    *shape, high = IMAGES[dataset]
    given = {"data": {"name": dataset}, "model": {"name": name, "timesteps": FORMS[-1][1]}}
    torch.manual_seed(0)
    net = models.build(check(merge(defaults(dataset, name), given), "bench").model, tuple(shape), 10, high)
    net.train()
    x, y = torch.randint(0, high + 1, (batch, *shape), dtype=torch.uint8), torch.randint(0, 10, (batch,))
    net.float_timesteps = 1
    with statistics_of_last_batch(net), torch.no_grad():
        net(x)

    def step(phase: str, timesteps: int, precision: str) -> Callable[[], None]:
        def call() -> None:
            net.float_timesteps = timesteps
            net.set_precision(precision)
            net.set_phase(phase)
            net.zero_grad(set_to_none=True)
            cross_entropy(net(x).logits, y).backward()

        return call

    return net, step
