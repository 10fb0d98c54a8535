"""What a Loihi 1 takes beside its neurons' work: static power and embedded processors, from measurements that disagree.

Each figure is tested on the others, never on itself: static power as the geometric mean of the other sources.
"""

from __future__ import annotations

import math

STATIC_MW = {"relnet": 191.14991 / 22, "keywords": 29.5417, "32 chips": 104.0}
"""Of one chip: RelNet's monitor (cores and processors, 22 chips); ABR's idle board at 0.75 V (729 readings; assumed to be of one chip);
Frady et al. 2020, 3.34 W of 32 chips."""
X86_MW = {"relnet": (407.43483 + 9.54115) / 22, "lsnn": 23.195125 + 0.149004}
"""Embedded processors of a chip, dynamic and static power."""
RUNNING_MW = 70.0
"""What ABR's board takes more when idle after a run than before any (arXiv 1812.01739)."""


def static_mw_per_chip(without: str = "") -> float:
    """Geometric mean of the sources other than `without`, mW."""
    others = [v for n, v in STATIC_MW.items() if n != without]
    return math.prod(others) ** (1 / len(others))


def x86_mw(of: str) -> float:
    """Embedded processors of a chip as one measurement has them, mW."""
    return X86_MW[of]
