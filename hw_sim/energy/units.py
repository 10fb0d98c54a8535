"""Numbers for people: energies in the unit that fits, few digits."""

from __future__ import annotations

import math

from spikegate.hw_sim.energy.band import Band

STEPS = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ"))


def unit_for(pj: float) -> tuple[float, str]:
    """(pJ per unit, unit) in which the energy has one to three digits before the point."""
    size = abs(pj)
    return next(((factor, unit) for factor, unit in STEPS if size >= factor), STEPS[-1])


def digits(value: float, significant: int = 3) -> str:
    """`value` with so many significant digits, never in exponent form."""
    if not value or not math.isfinite(value):
        return "0" if not value else str(value)
    value = float(f"{value:.{significant}g}")  # first, so that 0.9996 counts as 1
    places = significant - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}"


def energy_text(pj: float) -> str:
    """An energy in pJ as text: 1,234,000 -> '1.23 uJ'."""
    factor, unit = unit_for(float(f"{pj:.3g}"))
    return f"{digits(pj / factor)} {unit}"


def band_text(band: Band) -> str:
    """An energy with its band where it has one that can be seen in so many digits."""
    band = band.ordered
    value, low, high = (energy_text(v) for v in (band.value, band.low, band.high))
    return value if value == low == high else f"{value} ({low} to {high})"


def count_text(value: float) -> str:
    """A mean number of events: whole from 100 upwards."""
    return f"{value:,.0f}" if abs(value) >= 100 or not value else digits(value)


def saving_text(saved: Band, before: Band) -> str:
    """A change in per cent of the baseline with its band ('-52 % (-54 % to -49 %)'), or that its band holds zero."""
    if not saved.excludes_zero:
        return "no sure change" if saved.value or saved.low != saved.high else "no change"
    share = (Band() - saved).relative_to(before).ordered
    ends = [f"{'+' if v > 0 else ''}{digits(v)} %" for v in (share.value, share.low, share.high)]
    return ends[0] if ends[1] == ends[2] else f"{ends[0]} ({ends[1]} to {ends[2]})"


def share_text(part: float, whole: float) -> str:
    """Percentage with three significant digits and sign; empty if there is nothing to compare with."""
    return f"{'+' if part > 0 else ''}{digits(100 * part / whole)} %" if whole else ""
