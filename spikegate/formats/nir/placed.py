"""A layer between its numbers and its op."""

from __future__ import annotations

from dataclasses import dataclass

from spikegate.formats.nir.arranging import ones
from spikegate.formats.nir.fitting import Fitted
from spikegate.formats.nir.linear import Shape


@dataclass
class Placed:
    """A layer with its integers: its NIR shape, whether it lies as a map."""

    shape: Shape
    is_map: bool
    fit: Fitted

    @property
    def form(self) -> str:
        """What stands for it: `each` (neurons one to one), `single` (one set of synapses), `several`."""
        f = self.fit
        if f.units.shared and f.proven and all(ones(m) for m in f.maps) and not (f.bias.any() or any(b.any() for b in f.biases)):
            return "each"
        slow_drive = f.units.slow and any(b.any() for b in f.biases)
        return "single" if len(f.maps) == 1 and not slow_drive else "several"
