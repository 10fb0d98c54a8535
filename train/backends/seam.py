"""The seam between the torch twins and the programs that compute for them: what every device must offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

RUNS, HELD, IDLE = 0, 1, 2  # what the neurons do in a timestep: all, integrate without firing or reset, nothing
STATE = 4096.0  # SLAYER's s_scale: states are integers / 4096


@dataclass(frozen=True)
class Lif:
    """Constants of a layer's neurons: factor kept of the voltage, threshold, whether the decayed voltage is rounded towards zero as
    the chip does (the deployed form), width of the arctan surrogate in 1 / threshold, and what each of up to `levels` spikes of a timestep
    takes from the voltage (`step`; 0: a spike sets it to 0)."""

    keep: float
    threshold: float
    exact: bool
    alpha: float = 2.0
    step: float = 0.0
    levels: int = 1


class Backend(Protocol):
    """One way to compute what the twins are made of, with gradients. `definition.Plain` defines the values; the others equal it to the bit
    where `Lif.exact` is set and to rounding elsewhere."""

    name: str

    def neurons(
        self, x: torch.Tensor, v: torch.Tensor | None, lif: Lif, steps: int, *, scale: torch.Tensor | None, shift: torch.Tensor | None,
        norm: Any, alive: torch.Tensor | None, modes: torch.Tensor | None, waits: torch.Tensor | None, keep_v: bool, counts: bool,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Spikes of type `dtype`, last voltage (may be None unless `keep_v`), their number (may be None unless `counts`).

        As `spikegate.train.layers.dynamics.neurons`; `modes` int [T], `steps` is T where `x` has one timestep for all.
        """

    def levels(self, x: torch.Tensor, unit: float, low: float, high: float, norm: Any) -> torch.Tensor:
        """``clip(floor(x / unit), low, high)``, straight-through inside the range; `norm` normalises `x` with the batch's statistics."""

    def reached(self, n: torch.Tensor, bound: int, alpha: float) -> torch.Tensor:
        """``n >= bound`` for integer counts, as 0 or 1; backward, an arctan surrogate centred between `bound` - 1 and `bound`."""

    def pool(self, x: torch.Tensor, grid: tuple[int, int], kernel: int, stride: int, padding: int) -> torch.Tensor:
        """OR over windows of bits [..., positions, channels]; backward, the slope of `reached` at the window's count."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        """Counts ``q (k^T v)`` in heads of bits [..., tokens, channels], float32."""

    def lookup(self, table: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """``table[n]`` for integer counts `n`."""
