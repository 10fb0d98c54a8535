"""What a chip does beside its neurons' work, as bands: embedded processors, the host's events, the barrier; and power at a frame rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.latency import Latency
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.placed_energy import PlacedEnergy, host_io
from spikegate.hw_sim.energy.band import Band

PJ = 1e12  # in a joule


@dataclass(frozen=True)
class Beside:
    """Energy per inference in pJ that no cost table's total holds; None where the profile has no figure for it.

    Attributes
    ----------
    processors : embedded processors of all chips, over the interval between inferences
    host_io : static power and processors while the host's values are written one by one; 0 if they come as spikes by themselves
    barrier : the part of the static energy that falls into the barriers at the end of the chip steps (it is in the total)
    """

    processors: Band | None
    host_io: Band | None
    barrier: Band | None

    def to_json(self) -> dict[str, Any]:
        return {f"{n}_pj": None if b is None else b.to_json() for n, b in vars(self).items()}


def beside(mapping: Mapping, times: Latency) -> Beside:
    """Bands of a placed net; ends are taken at the ends of the profile's figures, times as they are."""
    chip, seconds = mapping.chip, float(times.interval_ns.mean()) * 1e-9
    static = _watts(chip.power["static_chip"], mapping.chips)
    x86 = _watts(chip.power.get("x86_chip"), mapping.chips)
    processors = None if x86 is None else Band(*(w * seconds * PJ for w in (x86.value, x86.low, x86.high)))
    host, value = None, chip.timing.get("host_value")
    if value is not None and value.value is not None and x86 is not None and static is not None:
        ends = (value.value, *value.band)
        powers = ((x86 + static).value, (x86 + static).low, (x86 + static).high)
        host = Band(*(host_io(mapping)["events_in"] * ns * 1e-9 * w * PJ for ns, w in zip(ends, powers)))
    barrier, steps = None, float(times.steps.mean())
    if static is not None:
        more = chip.ns("chip_barrier") if mapping.chips > 1 else 0.0
        ends = (chip.ns("barrier"), *chip.timing["barrier"].band)
        barrier = Band(*(steps * (ns + more) * 1e-9 * w * PJ for ns, w in zip(ends, (static.value, static.low, static.high))))
    return Beside(processors, host, barrier)


def _watts(entry: Any, chips: int) -> Band | None:
    return None if entry is None or entry.value is None else Band(*(w * chips for w in (entry.value, *entry.band)))


@dataclass(frozen=True)
class AtRate:
    """A net at so many inferences a second: power in W, and energy of an inference in pJ, idle time included."""

    rate: float
    power: Band
    energy: Band
    busy: float

    def to_json(self) -> dict[str, Any]:
        return {"frames_per_second": self.rate, "power_w": self.power.to_json(), "energy_pj": self.energy.to_json(), "busy": self.busy}


def at_rate(energy: PlacedEnergy, mapping: Mapping, times: Latency, rate: float) -> AtRate | None:
    """Static power all the time and dynamic energy for each inference; None where the table refuses a total for this chip.

    Between inferences the chip steps no further, so nothing is visited then.

    Raises
    ------
    DeployError
        A rate that the net does not reach on this chip, or none at all.
    """
    if rate <= 0:
        raise DeployError("--frames-per-second", f"{rate:g} inferences a second", "give a rate above 0")
    busy = rate * float(times.interval_ns.mean()) * 1e-9
    if busy > 1:
        most = rate / busy
        raise DeployError("--frames-per-second", f"{rate:g} inferences a second, the estimate is {most:.4g} at most", "give a lower rate")
    static = _watts(mapping.chip.power["static_chip"], mapping.chips)
    if energy.total is None or static is None:
        return None
    dynamic = energy.dynamic.ordered
    power = static + Band(*(v * rate / PJ for v in (dynamic.value, dynamic.low, dynamic.high)))
    return AtRate(rate, power, Band(*(v / rate * PJ for v in (power.value, power.low, power.high))), busy)
