"""Training steps on one device, ours and SpikingJelly's, and what must be equal there: the rows of bench/gpu.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from spikegate.train import devices, models
from spikegate.train.backends.choose import using
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.optimize import fuse, make_optimizer, set_rate
from spikegate.train.settings.config import MODELS, Config, ModelConfig, merge
from spikegate.train.settings.options import from_mapping
from spikegate.train.step import LOSS, Step

WARM = 6  # steps before the clock: compilation, and on a GPU the capture of a graph
JELLY = ("torch", "cupy", "triton")
SMALL = {"dim": 32, "depth": 1, "heads": 4, "stem_channels": 16, "attention_threshold": 1, "embedding_levels": 2}


@dataclass(frozen=True)
class Case:
    """One row: who computes (`spikegate`, or a backend of SpikingJelly's neurons), phase, timesteps, batch, type of the operands."""

    program: str
    phase: str
    timesteps: int
    batch: int
    precision: str

    @property
    def text(self) -> str:
        return f"{self.program}, {self.phase}, T {self.timesteps}, batch {self.batch}, {self.precision}"


def cases(batches: tuple[int, ...], timesteps: tuple[int, ...], precisions: tuple[str, ...]) -> list[Case]:
    """All rows, those that decide most first: T 4 before T 1."""
    found = []
    for batch in batches:
        for t in sorted(timesteps, reverse=True):
            found += [Case("spikegate", phase, t, batch, p) for p in precisions for phase in ("float", "deployed")]
            found += [Case(f"spikingjelly {b}", "float", t, batch, p) for b in JELLY for p in precisions if p != "bfloat16"]
    return found


def measure(settings: dict[str, Any], case: Case, device: torch.device, seconds: float) -> dict[str, Any]:
    """Images per second of whole steps (forward, backward, clipping, update), median over rounds, and the peak of the memory.

    Raises whatever the program raises that cannot run: the row then says why.
    """
    config = from_mapping(merge(settings, {"train": {"precision": case.precision}, "model": {"timesteps": case.timesteps}}))
    g = torch.Generator().manual_seed(0)
    side = 32
    x = torch.randint(0, 256, (case.batch, 3, side, side), generator=g).to(torch.uint8).to(device)
    y = torch.randint(0, 10, (case.batch,), generator=g).to(device)
    torch.manual_seed(0)
    devices.forget_peak(device)
    if case.program == "spikegate":
        step: Callable[[], Any] = _ours(config, case, device, x, y, side)
    else:
        step = _jelly(config, case, device, x, y, side)
    for _ in range(WARM):
        step()
    devices.wait(device)
    rounds: list[float] = []
    until = time.perf_counter() + seconds
    while len(rounds) < 3 or (time.perf_counter() < until and len(rounds) < 30):
        start = time.perf_counter()
        step()
        devices.wait(device)
        rounds.append(time.perf_counter() - start)
    return {"images_per_s": case.batch / statistics.median(rounds), "steps": len(rounds), "peak_bytes": devices.peak_bytes(device)}


def _ours(config: Config, case: Case, device: torch.device, x: torch.Tensor, y: torch.Tensor, side: int) -> Callable[[], Any]:
    net = models.build(config.model, (3, side, side), 10, 255).to(device)
    net.set_precision(case.precision)
    net.set_phase(case.phase)
    net.counting = False
    net.train()
    optimizer = make_optimizer(net, config.train)
    if device.type == "cuda":
        fuse(optimizer, device)
    set_rate(optimizer, 1e-4)
    step = Step(net, optimizer, config.train, None, device)
    return lambda: step(x, y, len(y))


def _jelly(config: Config, case: Case, device: torch.device, x: torch.Tensor, y: torch.Tensor, side: int) -> Callable[[], Any]:
    from spikingjelly.activation_based import neuron

    from bench.jelly_twin import Jelly

    net = Jelly(config.model, (3, side, side), 10, 255).to(device)
    for module in net.modules():
        if isinstance(module, neuron.LIFNode):
            module.backend = case.program.split()[1]  # one that is not installed fails, here or in its first step
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=device.type == "cuda")
    half = case.precision == "float16"
    scaler = torch.amp.GradScaler(device.type, enabled=half)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.float16) if half else nullcontext():
            loss = cross_entropy(net(x), y, label_smoothing=0.1)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return step


def check(device: torch.device, backend: str | None = None, names: tuple[str, ...] = MODELS) -> Iterator[dict[str, Any]]:
    """What must hold on a device, one row for each model and type of operands: the deployed form equals the processor's to the bit,
    gradients to rounding. `backend` forces one, for a check without a GPU."""
    for name in names:
        model = ModelConfig.model_validate({"name": name, **SMALL})
        g = torch.Generator().manual_seed(1)
        x = torch.randint(0, 17, (8, 1, 8, 8), generator=g).to(torch.uint8)
        torch.manual_seed(4)
        net = models.build(model, (1, 8, 8), 5, 16)
        for _ in range(10):
            net(x)
        for module in net.modules():
            if isinstance(module, FoldedNorm):
                module.beta.data += module.gamma.data  # so that every layer spikes
        net.set_phase("deployed")
        want, wanted = _passes(net, x)
        for precision in ("float32", "bfloat16", "float16"):
            net.to(device).set_precision(precision)
            with using(backend) if backend else nullcontext():
                have, found = _passes(net, x.to(device))
            net.to("cpu").set_precision("float32")
            far = max((float((a - b).norm() / a.norm().clamp(min=1e-6)) for a, b in zip(wanted, found)), default=0.0)
            limit = 1e-3 if precision == "float32" else 0.1
            yield {"model": name, "precision": precision, "equal": torch.equal(want, have), "gradient_error": far,
                   "good": torch.equal(want, have) and far <= limit}  # fmt: skip


def _passes(net: Any, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Cumulative logits [T, batch, classes] and gradients of a training pass, on the processor."""
    net.train()
    net.zero_grad(set_to_none=True)
    out = net(x)
    scale = 1.0 / out.logits.detach().float().abs().max().clamp(min=1e-6)
    ((out.logits * scale).square().mean() + out.alive).backward()
    return out.steps.detach().cpu(), [p.grad.float().cpu() for p in net.parameters() if p.grad is not None]


def check_graphs(settings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Whether steps replayed as a graph end with the weights of steps launched one by one (on a GPU; elsewhere they are the same)."""
    found = []
    for graphs in (False, True):
        config = from_mapping(merge(settings, {"train": {"graphs": graphs}}))
        torch.manual_seed(0)
        x, y = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8).to(device), torch.arange(64).to(device) % 10
        step = _ours(config, Case("spikegate", "deployed", config.model.timesteps, 64, config.train.precision), device, x, y, 32)
        rows = [step() for _ in range(WARM + 2)]
        found.append(torch.stack(rows)[:, LOSS].cpu())
    return {"model": "graph", "precision": "-", "equal": torch.equal(*found), "gradient_error": float((found[0] - found[1]).abs().max()),
            "good": torch.allclose(*found, rtol=1e-3)}  # fmt: skip
