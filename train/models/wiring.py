"""What every model shares: layers with their timestep masks and halting inputs, residual streams of both kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikegate.ops.readout import REACH
from spikegate.train.layers.base import Twin
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.current import Branch
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.exit_gate import Exit
from spikegate.train.layers.membrane import StreamNeurons
from spikegate.train.layers.readout import Head
from spikegate.train.layers.timestep_gate import TimestepMask
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net

SPREAD = 0.25  # standard deviation of the head's weights at the start, SLAYER units
STREAM_THETA = 8.0  # threshold of the neurons on a membrane stream, SLAYER units: one scale for all its branches


class Wiring:
    """Adds a model's layers to its net and connects the gates that the settings ask for."""

    def __init__(self, net: Net, config: Any) -> None:
        self.net, self.config = net, config

    def neurons(self, name: str, twin: Twin, halting: TokenHalting | None = None, mask: str | None = None, **sources: Any) -> str:
        """Append a twin with neurons. It is gated by the token gates of `halting` and, with masks on, the timestep mask `mask`
        (its own, ``<name>.open``, unless one is named that several layers share). Returns its name."""
        if self.config.mask.enabled:
            gate = mask or f"{name}.open"
            if gate not in self.net.named:
                self.net.add(gate, TimestepMask(self.config.timesteps, self.config.mask.rule))
            sources["open"] = gate
        return self.plain(name, twin, halting, **sources)

    def plain(self, name: str, twin: Twin, halting: TokenHalting | None = None, **sources: Any) -> str:
        """Append a twin without a timestep mask."""
        credit_inputs, delayed = halting.credit_inputs if halting else ({}, [])
        return self.net.add(name, twin, delayed=delayed, **credit_inputs, **sources)

    def linear(self, i: int, o: int, grid: tuple[int, int], *, high: int = 1, branch: bool = False) -> SpikingConv:
        """A token-wise linear layer with neurons; with `branch`, its alive bit passes a gradient to the halting score."""
        halting = self.config.halting
        return SpikingConv(i, o, 1, grid, branch=branch, high=high, slope=halting.slope, unit=float(1 << halting.bits))

    def finish(
        self, stream: list[str], tokens: int, channels: int, classes: int, halting: TokenHalting | None = None, *, high: int = 1
    ) -> None:
        """Append read-out and exit gate; the sources of `stream` add up to at most `high`."""
        t, spread = self.config.timesteps, SPREAD
        while 0.8 * spread * MANT * tokens * channels * high * t > 0.7 * REACH:
            spread /= 2  # smaller weights, so that no input can overflow the class accumulators
        ends, delayed, alive = halting.ends if halting else ({}, [], {})
        head = Head(tokens, channels, classes, t, spread, shared=self.config.head == "mean", start=self.config.head_start)
        self.net.add("readout", head, x=stream, delayed=delayed, **ends)
        self.net.add("exit", Exit(classes, t), logits="readout", **alive)


@dataclass
class Spikes:
    """Residual stream of added spikes (SEW): `sources` of integers that add up to at most `high`."""

    sources: list[str]
    high: int

    def add(self, source: str, high: int = 1) -> None:
        self.sources = [*self.sources, source]
        self.high += high


class Membrane:
    """Residual stream of currents (membrane shortcut): branches add up in the dendrites of the neurons that read it."""

    def __init__(self, wiring: Wiring, grid: tuple[int, int], channels: int, theta: float = STREAM_THETA) -> None:
        self.wiring, self.grid, self.channels, self.theta = wiring, grid, channels, theta
        self.share = 2 * wiring.config.depth + 3  # branches at the end, and the host's constant current
        self.currents: list[str] = []
        self.inputs: list[str] = []  # host integers

    def branch(
        self, name: str, i: int, source: str, *, kernel: int = 1, stride: int = 1, grid: tuple[int, int] | None = None,
        silent: int = 0, halting: TokenHalting | None = None,
    ) -> str:
        """Append synapses from `source` (`i` channels, spikes) into the stream, but for its first `silent` channels."""
        shared = {"slope": self.wiring.config.halting.slope, "unit": float(1 << self.wiring.config.halting.bits)}
        twin = Branch(i, self.channels, kernel, grid or self.grid, stride, theta=self.theta, silent=silent, share=self.share, **shared)
        self.currents = [*self.currents, self.wiring.plain(name, twin, halting, x=source)]
        return name

    def spikes(self, name: str, halting: TokenHalting | None = None) -> str:
        """Append neurons that read the stream as it is here; returns their name."""
        shape = self.grid[0] * self.grid[1], self.channels
        more: dict[str, Any] = {"x": list(self.inputs)} if self.inputs else {}
        return self.wiring.neurons(name, StreamNeurons(shape, self.theta), halting, current=list(self.currents), **more)
