"""RelNet on 22 chips of Loihi 1: static power and embedded processors beside the measured ones (its activity is not public)."""

from __future__ import annotations

from spikegate.hw_sim.measurements import background
from spikegate.hw_sim.measurements.check import Check, Source

SOURCE = Source(
    "Loihi 1", "RelNet, 22 chips", "nxsdk_modules_ncl, lsnn, RelNet_bAbI_Loihi_performance_measurements.ipynb (BSD-3)",
    ("number of chips",), ("every chip alike",),
)


def checks() -> list[Check]:
    """Both figures from other measurements."""
    return [
        Check(SOURCE, "static power of a chip", "mW", background.static_mw_per_chip("relnet"), background.STATIC_MW["relnet"], 6.0,
              "keyword spotter and 32 chips, leaving this one out"),
        Check(SOURCE, "embedded processors of a chip, power", "mW", background.x86_mw("lsnn"), background.x86_mw("relnet"), 0.30, "LSNN's"),
    ]
