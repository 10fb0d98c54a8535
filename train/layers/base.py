"""What every torch twin of an op has in common: phases, per-sample state, and handing its op over."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from spikegate.graph.ir import HOLD, MUTE, OPEN, SKIP, Op
from spikegate.neurons.cuba import DECAY_ONE, Cuba
from spikegate.neurons.resets import SUBTRACT, ZERO
from spikegate.ops.base.patches import patches
from spikegate.train.backends.seam import HELD, IDLE, RUNS
from spikegate.train.layers.dynamics import MANT, neurons

PHASES = ("float", "deployed")


@dataclass
class Moment:
    """Where a forward pass stands: first timestep of the chunk (from 1), its length, T, and the twins' state.

    `work` collects the accumulates per sample that the twins' inputs cause (differentiable; border taps counted), unless `counting` is off.
    """

    first: int
    steps: int
    timesteps: int
    state: dict[Hashable, Any] = field(default_factory=dict)
    work: list[torch.Tensor] = field(default_factory=list)
    batch: int = 1
    counting: bool = True
    sums: dict[tuple[int, ...], tuple[list[torch.Tensor], torch.Tensor]] = field(default_factory=dict)

    def book(self, x: torch.Tensor, fanout: float) -> None:
        """Book the events of `x`, one sample along axis -3, each reaching `fanout` synapses."""
        if self.counting:
            events = getattr(x, "events", None)
            self.work.append((x.sum(dtype=torch.float32) if events is None else events) * (fanout / x.shape[-3]))

    def total(self, sources: list[torch.Tensor]) -> torch.Tensor:
        """Sum of a slot's sources; layers that read the same stream share it, and a longer stream builds on a shorter one."""
        if len(sources) == 1:
            return sources[0]
        key = tuple(id(s) for s in sources)
        if key not in self.sums:
            first, last = self.total(sources[:-1]), sources[-1]
            both = first + last
            if hasattr(first, "events") and hasattr(last, "events"):
                both.events = first.events + last.events  # type: ignore[attr-defined]
            self.sums[key] = list(sources), both  # the sources are kept: their ids must not pass to others
        return self.sums[key][1]


class Exports(Protocol):
    def to_op(self) -> Op: ...


class Twin(nn.Module):
    """Torch form of one op. Signals are float tensors [T, batch, *shape] that hold the op's integers.

    In phase ``float`` a twin trains with batch statistics and real weights; in phase ``deployed`` it computes exactly
    what its op computes, with straight-through gradients. A twin with `once` set works at the first timestep only
    and its signal has no time axis.
    """

    once = False
    halts = False  # takes part from phase ``deployed`` on
    gates_tokens = False  # its signal is the credit of each token
    reset = ZERO  # of its neurons; with SUBTRACT a spike takes the threshold from the voltage
    levels = 1  # most spikes that such a neuron sends in a timestep

    if TYPE_CHECKING:  # torch types every unknown attribute of a module as Tensor or Module, methods of subclasses included

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self.phase = "float"
        self.operands: torch.dtype | None = None  # type of the products' operands in training where that is cheaper; None: float32

    @property
    def deployed(self) -> bool:
        return self.phase == "deployed"

    @property
    def halved(self) -> torch.dtype | None:
        """Type of the products' operands now, None: float32."""
        return self.operands if self.training else None

    def cuba(self, threshold: float, decay: int) -> Cuba:
        """The chip's neurons of this twin; `threshold` in SLAYER units."""
        return Cuba(DECAY_ONE, decay, round(threshold * MANT), self.reset, levels=self.levels)

    def prepare(self) -> None:
        """Called once before each forward pass: fold and quantise what stays the same for all timesteps."""

    def forward(self, inputs: dict[str, Any], now: Moment) -> torch.Tensor:
        raise TypeError(f"{type(self).__name__} has no forward")

    def to_op(self) -> Op:
        """The op with the integers as they stand now."""
        raise TypeError(f"{type(self).__name__} has no op")


def total(sources: list[torch.Tensor]) -> torch.Tensor:
    """Sum of a slot's sources."""
    out = sources[0]
    for more in sources[1:]:
        out = out + more
    return out


def alive_mask(inputs: dict[str, Any]) -> torch.Tensor | None:
    """Mask [T, batch, tokens, 1] of the living tokens from slot ``alive``, without gradient; None where there is none."""
    credit = inputs.get("alive")
    return None if credit is None else (credit.detach() > 0).to(credit.dtype).unsqueeze(-1)


def spread(inputs: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
    """Inputs whose slot ``alive`` has a credit for each position of a map, not for each token (`spikegate.ops.base.patches`)."""
    credit = inputs.get("alive")
    if credit is None or credit.shape[-1] == grid[0] * grid[1]:
        return inputs
    return {**inputs, "alive": credit[..., _patches(grid, credit.shape[-1], credit.device)]}


@cache
def _patches(grid: tuple[int, int], tokens: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(patches(grid, tokens), device=device)


def fire(
    twin: Twin,
    current: torch.Tensor,
    neuron: Any,
    decay: int,
    inputs: dict[str, Any],
    now: Moment,
    *,
    alive: torch.Tensor | None = None,
    **more: Any,
) -> torch.Tensor:
    """Spikes of a twin's neurons for a chunk's currents [T, batch, ...]: keeps their state, applies their timestep mask.

    `neuron` is SLAYER's, for its threshold; slot ``open`` carries the words of `spikegate.ops.timestep_gate` [T, batch, 1].
    `alive` [T, batch, ...] multiplies the spikes; `more` are `scale`, `shift` and `norm` of `neurons`. The tensor's attribute
    ``events`` is the number of spikes, which `Moment.book` reads: its gradient then costs no pass of its own.
    In a chunk of several timesteps a token may come back: then the state of its neurons has waited, as on chip.
    """
    words, modes, waits = inputs.get("open"), None, None
    if words is not None:
        code = words.detach()[:, 0, 0]
        modes = _modes(code.device)[code.long()]
        straight = (words - words.detach())[:, 0, 0] + (code == OPEN).to(current.dtype)
        bits = straight.reshape(-1, *[1] * (current.dim() - 2)).expand(current.shape[:-1])
        alive = bits if alive is None else alive * bits
    if now.steps > 1 and "alive" in inputs:
        waits = (inputs["alive"].detach() <= 0).expand(current.shape[:-1])
    v = now.state.get(twin.name)
    spikes, now.state[twin.name], events = neurons(
        current, v, decay, neuron.threshold, twin.deployed, alive=alive, modes=modes, waits=waits,
        step=neuron.threshold if twin.reset == SUBTRACT else 0.0, levels=twin.levels,
        keep_v=now.first + now.steps <= now.timesteps, counts=now.counting, dtype=signal_type(twin, current.device), **more,
    )  # fmt: skip
    if now.counting:
        spikes.events = events  # type: ignore[attr-defined]
    return spikes


def signal_type(twin: Twin, device: torch.device) -> torch.dtype:
    """Type of a twin's spikes: on a GPU that of the products' operands, which holds bits and the sums of up to 256 of them exactly."""
    return twin.halved or torch.float32 if device.type == "cuda" and twin.levels == 1 else torch.float32


MODES = {OPEN: RUNS, MUTE: RUNS, HOLD: HELD, SKIP: IDLE}


@cache
def _modes(device: torch.device) -> torch.Tensor:
    """`MODES` as a table on `device`, so that no forward pass waits for the host to read a word."""
    table = torch.zeros(1 + max(MODES), dtype=torch.int32)
    for word, mode in MODES.items():
        table[word] = mode
    return table.to(device)
