"""An energy with what it would be at either end of the prices' bands; differences are taken end by end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """An energy in pJ and what it would be with the prices at either end of their bands.

    An end is the same one in every figure of a table, so differences may be taken end by end. Where a table says that prices go against
    each other (`CostTable.against`) a part of a sum can be lower at its high end; `ordered` puts the ends of a whole in order.
    """

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Band) -> Band:
        return Band(self.value + other.value, self.low + other.low, self.high + other.high)

    def __sub__(self, other: Band) -> Band:
        return Band(self.value - other.value, self.low - other.low, self.high - other.high)

    @property
    def ordered(self) -> Band:
        """The smaller end as low; the value is never outside."""
        ends = (self.low, self.value, self.high)
        return Band(self.value, min(ends), max(ends))

    @property
    def excludes_zero(self) -> bool:
        return self.ordered.low > 0 or self.ordered.high < 0

    def to_json(self) -> dict[str, float]:
        band = self.ordered
        return {"value": band.value, "low": band.low, "high": band.high}

    def relative_to(self, whole: Band) -> Band:
        """This as a share of `whole` in per cent, both at the same end of the prices: what they share cancels out."""
        return Band(*(100 * a / b if b else 0.0 for a, b in ((self.value, whole.value), (self.low, whole.low), (self.high, whole.high))))
