"""A spiking net as wiring: named twins and where their inputs come from. Training and export read the same wiring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from spikegate.graph import credit
from spikegate.graph.ir import INPUT, Edge, Graph, Payload
from spikegate.train.layers.base import PHASES, Moment, Twin, total
from spikegate.train.layers.current import Branch
from spikegate.train.layers.event_input import EventInput
from spikegate.train.layers.exit_gate import Exit
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.layers.readout import Head
from spikegate.train.layers.timestep_gate import TimestepMask

Signals = dict[str, torch.Tensor]
LISTS = ("x", "current")  # slots whose sources add up


@dataclass
class Output:
    """Result of a forward pass: scaled logits [batch, classes] at the exit, mean share of alive (block, timestep, token)
    cells (1 without gates; straight-through), timesteps run [batch], unscaled cumulative logits [T, batch, classes] (`steps`, `scale`),
    accumulates per sample relative to a fully active static net (`activity`, differentiable), mean share of open (timestep
    mask, timestep) cells (`open`, 1 without masks; straight-through), logits of the surrogate modules (`taps`, in training)."""

    logits: torch.Tensor
    alive: torch.Tensor
    exit_step: torch.Tensor
    steps: torch.Tensor
    activity: torch.Tensor
    open: torch.Tensor = field(default_factory=lambda: torch.ones(()))
    taps: list[torch.Tensor] = field(default_factory=list)
    scale: torch.Tensor = field(default_factory=lambda: torch.ones(()))

    @property
    def answers(self) -> torch.Tensor:
        """What an exit after each timestep says [T, batch, classes]: `steps` as means over the timesteps so far, in units of `logits`."""
        so_far = torch.arange(1, len(self.steps) + 1, device=self.steps.device)[:, None, None]
        return self.steps * self.scale * (len(self.steps) / so_far)


class Net(nn.Module):
    """Host stem, or event input, then twins in order. `add` connects them exactly as `spikegate.graph.ir.Graph.add` does for ops."""

    def __init__(self, stem: HostStem | EventInput, timesteps: int, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.timesteps, self.image_shape = stem, timesteps, image_shape
        self.counting = True  # whether passes count accumulates (`Output.activity`); off, it is 0
        self.float_timesteps = timesteps  # phase ``float`` may run fewer, which costs less
        self.twins = nn.ModuleDict()
        self.modules_aside = nn.ModuleList()  # surrogate modules: they help in training and are no part of the graph
        self.edges: list[Edge] = []
        self.phase = "float"

    def add(self, name: str, twin: Twin, *, delayed: Iterable[str] = (), **sources: str | list[str]) -> str:
        """Append a twin; returns its name."""
        twin.name = name
        self.twins[name.replace(".", "/")] = twin
        for slot, given in sources.items():
            for source in [given] if isinstance(given, str) else given:
                self.edges.append(Edge(source, name, slot, int(slot in delayed)))
                if isinstance(stream := self.named.get(source), Branch):
                    stream.copies += 1
        return name

    def twin(self, name: str) -> Twin:
        return cast(Twin, self.twins[name.replace(".", "/")])

    @property
    def named(self) -> dict[str, Twin]:
        """Twins by name, in order."""
        return {twin.name: twin for twin in cast("Iterable[Twin]", self.twins.values())}

    @property
    def span(self) -> int:
        """Timesteps of the present phase."""
        return self.float_timesteps if self.phase == "float" else self.timesteps

    @property
    def gates(self) -> list[str]:
        return [n for n, t in self.named.items() if t.gates_tokens]

    @property
    def masks(self) -> list[TimestepMask]:
        return [t for t in self.named.values() if isinstance(t, TimestepMask)]

    @property
    def parameter_count(self) -> int:
        """Learned parameters of host and chip, without surrogate modules and SLAYER's fixed decays."""
        return sum(p.numel() for n, p in self.named_parameters() if p.requires_grad and not n.startswith("modules_aside"))

    @property
    def has_gates(self) -> bool:
        return bool(self.gates)

    def set_phase(self, phase: str) -> None:
        """``float``: batch statistics, no halting; ``deployed``: integers and halting as on chip."""
        if phase not in PHASES:
            raise ValueError(f"phase {phase!r}: use one of {PHASES}")
        self.phase = self.stem.phase = phase
        for twin in self.named.values():
            twin.phase = phase

    def set_precision(self, precision: str) -> None:
        """``float32``, or ``bfloat16`` or ``float16``: faster products in training where the device has them. What is deployed stays
        exact, evaluation is always float32."""
        for twin in self.named.values():
            twin.operands = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]

    def forward(self, x: torch.Tensor) -> Output:
        """Run uint8 images [batch, channels, height, width], or frames [batch, T, 2, height, width], over all timesteps of the phase."""
        collected: dict[str, list[torch.Tensor]] = {}
        work: list[torch.Tensor] = []
        aside: list[Any] = list(self.modules_aside) if self.training else []
        keep = {*self.gates, *(n for n, t in self.named.items() if isinstance(t, Head | Exit)), *(n for m in aside for n in m.taps)}
        for signals in self.run(x, work):
            for name in keep:
                if name in signals:
                    collected.setdefault(name, []).append(signals[name])
        found = {n: torch.cat(v) for n, v in collected.items()}
        activity = torch.stack(work).sum() / self.layout[0] if work else torch.zeros((), device=x.device)
        out = self._output(found, len(x), activity)
        out.taps = [m(total([found[n] for n in m.taps])) for m in aside]
        return out

    @cached_property
    def layout(self) -> tuple[float, str | None, list[int]]:
        """Of the deployed net: accumulates of one sample if every neuron fired once in every timestep; which credit
        comes back, and which credits gate the blocks (`spikegate.graph.credit`)."""
        phase = self.phase
        self.set_phase("deployed")
        graph = self.graph()
        self.set_phase(phase)
        dense = sum(op.dense_ops for op in graph.ops.values() if op.kind != "spiking_attention")
        return float(self.timesteps * dense), credit.start(graph), credit.entering(graph)

    def run(self, x: torch.Tensor, work: list[torch.Tensor] | None = None):
        """Yield the signals of each chunk of timesteps: one chunk of T without feedback, T chunks of one with it."""
        for twin in self.named.values():
            twin.prepare()
        skipped = {n for n, t in self.named.items() if t.halts and self.phase == "float"}
        wiring: dict[str, list[Edge]] = {
            n: [e for e in self.edges if e.target == n and e.source not in skipped] for n in self.named if n not in skipped
        }
        chunk = 1 if any(e.delay for edges in wiring.values() for e in edges) else self.span
        state: dict = {}
        fed_back: Signals = {}
        embedded, stepwise = self.stem(x), isinstance(self.stem, EventInput)
        for first in range(1, self.span + 1, chunk):
            now = Moment(first, chunk, self.span, state, [] if work is None else work, len(x), self.counting and work is not None)
            signals: Signals = {INPUT: embedded[first - 1 : first - 1 + chunk] if stepwise else embedded}
            for name, edges in wiring.items():
                twin = self.twin(name)
                if twin.once and first > 1:
                    continue
                inputs: dict = {}
                for edge in edges:
                    if edge.delay:
                        value = fed_back.get(edge.source)
                        value = self.twin(edge.source).initial(len(x)) if value is None else value
                    else:
                        value = signals.get(edge.source)
                        if value is None:  # a source that works once
                            continue
                    if edge.slot in LISTS:
                        inputs.setdefault(edge.slot, []).append(value)
                    else:
                        inputs[edge.slot] = value
                signals[name] = twin(inputs, now)
            fed_back = {e.source: signals[e.source] for e in self.edges if e.delay and e.source in signals}
            yield signals

    def _output(self, found: Signals, batch: int, activity: torch.Tensor) -> Output:
        head, gate = (next(t for t in self.named.values() if isinstance(t, kind)) for kind in (Head, Exit))
        steps, done = found[head.name], found[gate.name][..., 0] > 0
        exit_step = done.float().argmax(0) + 1
        alive = torch.ones((), device=steps.device)
        at = exit_step.clone()
        if self.gates and self.gates[0] in found:
            alive = torch.stack([self._entering(k, found, batch).mean() for k in self.layout[2]]).mean()
            for e in self.edges:
                if e.target == gate.name and e.slot == "alive":
                    empty = ~(found[e.source].detach() > 0).any(-1)
                    at = torch.where(empty.gather(0, exit_step[None] - 1)[0], self.span, exit_step)  # the rest is added at once
        if self.training:
            at = torch.full_like(at, self.span)
        final = steps.gather(0, (at - 1)[None, :, None].expand(1, -1, steps.shape[-1]))[0]
        masks = self.masks if self.phase == "deployed" else []
        opened = torch.stack([m.bits().mean() for m in masks]).mean() if masks else torch.ones((), device=steps.device)
        scale = head.log_scale.exp() * (self.timesteps / self.span)
        return Output(final * scale, alive, exit_step, steps, activity, opened, scale=scale)

    def _entering(self, entry: int, found: Signals, batch: int) -> torch.Tensor:
        """Alive bits [T, batch, tokens] of one of the credits that gate the blocks, numbered as in `Record.alive`."""
        if entry:
            name = self.gates[entry - 1]
            return self.twin(name).alive(found[name])
        twin = self.twin(self.layout[1])  # type: ignore[arg-type]
        return twin.alive(torch.cat([twin.initial(batch), found[twin.name][:-1]]))

    def graph(self) -> Graph:
        """The deployed integers as a graph of ops, same names and wiring."""
        return Graph(
            ops={n: t.to_op() for n, t in self.named.items()},
            edges=list(self.edges),
            timesteps=self.timesteps,
            input_shape=self.stem.out_shape,
            input_payload=Payload(self.stem.low, self.stem.high),
        )
