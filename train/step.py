"""One step of optimisation: forward, backward, sums over ranks, clipping, update; on a GPU replayed as a CUDA graph where that works."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch

from spikegate.command.cli import console
from spikegate.train import parallel
from spikegate.train.backends import ranks
from spikegate.train.criterion import loss_of
from spikegate.train.ema import Average
from spikegate.train.images import parts_of
from spikegate.train.layers.timestep_gate import keep_open
from spikegate.train.loss_scale import LossScale
from spikegate.train.models.net import Net
from spikegate.train.settings.config import TrainConfig
from spikegate.train.teacher import Teacher

LOSS, NORM, RIGHT, LEFT_OUT = range(4)  # what a step returns: mean loss, gradient's norm, right answers, 1 where the update was left out
WARM = 3  # steps that run as they are before one is captured


class Step:
    """Callable: images uint8 [b, C, H, W] and labels (int64 [b], or shares float [b, classes]) of this rank's part of a batch.

    `size` is the whole batch's number of images. Returns a tensor of four numbers on the device (`LOSS`, `NORM`, `RIGHT`, `LEFT_OUT`);
    loss and right answers are this rank's share, to be added up over the ranks.
    """

    def __init__(
        self, net: Net, optimizer: torch.optim.Optimizer, settings: TrainConfig, teacher: Teacher | None, device: torch.device
    ) -> None:
        self.net, self.optimizer, self.settings, self.teacher, self.device = net, optimizer, settings, teacher, device
        self.scale = LossScale(device) if settings.precision == "float16" else None
        self.average = Average(net, settings.ema) if settings.ema else None
        self.fused = device.type == "cuda"
        self.graphs = settings.graphs and self.fused and ranks.count() == 1
        self.captured: dict[tuple, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {}
        self.seen: dict[tuple, int] = {}

    def __call__(self, x: torch.Tensor, y: torch.Tensor, size: int) -> torch.Tensor:
        row = self._replayed(x, y) if self.graphs else self._run(x, y, size)
        if self.average is not None:
            self.average.update()
        return row

    def restart(self) -> None:
        """The net was filled anew."""
        if self.average is not None:
            self.average = Average(self.net, self.average.decay)

    def phase_begins(self) -> None:
        """What was captured belongs to the phase before."""
        self.captured.clear()
        self.seen.clear()

    def _run(self, x: torch.Tensor, y: torch.Tensor, size: int) -> torch.Tensor:
        settings, net = self.settings, self.net
        self.optimizer.zero_grad(set_to_none=True)
        parts = [len(at) for at in parts_of(size, settings.accumulate)]
        loss_sum = right = None
        for x_part, y_part in zip(x.split(parts), y.split(parts)):
            out = net(x_part)
            loss = loss_of(net, out, x_part, y_part, settings, self.teacher, len(x_part) / size)
            (loss if self.scale is None else loss * self.scale.scale).backward()
            hit = (out.logits.detach().argmax(1) == (y_part if y_part.dim() == 1 else y_part.argmax(1))).sum()
            loss_sum, right = (loss.detach(), hit) if loss_sum is None else (loss_sum + loss.detach(), right + hit)
        assert loss_sum is not None and right is not None
        parallel.sum_gradients(net.parameters())
        norm, left_out = self._update()
        if net.phase == "deployed" and net.masks:
            keep_open(net.masks, settings.timestep_target)
        return torch.stack([loss_sum.float(), norm.float(), right.float(), left_out])

    def _update(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Clip and step; (the gradient's norm, 1 where the step was left out because it overflowed)."""
        limit = self.settings.clip or math.inf
        parameters = [p for p in self.net.parameters() if p.grad is not None]
        if self.scale is None and not self.fused:
            norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
            if torch.isfinite(norm):
                self.optimizer.step()
            return norm, torch.zeros(())
        scale = torch.ones((), device=self.device) if self.scale is None else self.scale.scale
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]) / scale
        overflow = (~torch.isfinite(norm)).float()
        share = (limit / (norm + 1e-6)).clamp(max=1.0)
        if self.fused:  # the fused step divides by the first and leaves out a step by the second
            self.optimizer.grad_scale = torch.where(overflow > 0, 1.0, scale / share)  # type: ignore[attr-defined]
            self.optimizer.found_inf = overflow  # type: ignore[attr-defined]
            self.optimizer.step()
        elif not overflow:
            for p in parameters:
                p.grad.mul_(share / scale)  # type: ignore[union-attr]
            self.optimizer.step()
        if self.scale is not None:
            self.scale.update(overflow)
        return norm, overflow

    def _replayed(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The step as a graph of all its kernels, one for each shape of a batch: launching them takes longer than running them."""
        key = (x.shape, y.shape, y.dtype, self.net.phase, self.net.span)
        if key in self.captured:
            return self.captured[key](x, y)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= WARM:
            return self._run(x, y, len(x))
        try:
            self.captured[key] = self._capture(x, y)
        except RuntimeError as e:
            console.print(f"no CUDA graph ({str(e).splitlines()[0]}): steps are launched kernel by kernel", markup=False, soft_wrap=True)
            torch.cuda.synchronize(self.device)
            self.graphs = False
            self.optimizer.zero_grad(set_to_none=True)
            return self._run(x, y, len(x))
        return self.captured[key](x, y)

    def _capture(self, x: torch.Tensor, y: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        graph, held_x, held_y = torch.cuda.CUDAGraph(), x.clone(), y.clone()
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize(self.device)
        with torch.cuda.graph(graph):
            row = self._run(held_x, held_y, len(x))

        def replay(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            held_x.copy_(x)
            held_y.copy_(y)
            graph.replay()
            return row.clone()

        return replay

    def averaged(self):
        """Context in which the net holds what is validated and kept: the average of its weights, or these as they are."""
        return nullcontext() if self.average is None else self.average.in_place()

    def state(self) -> dict[str, torch.Tensor]:
        """What an exact continuation needs besides net and optimizer."""
        found = {} if self.scale is None else {f"scale/{n}": t for n, t in self.scale.state().items()}
        return found | ({} if self.average is None else {f"average/{n}": t for n, t in self.average.state().items()})

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Raises KeyError where something is missing."""
        for name, part in (("scale/", self.scale), ("average/", self.average)):
            if part is not None:
                part.load({n[len(name):]: t for n, t in state.items() if n.startswith(name)})
