"""One measured quantity of a real chip beside ours: its source, its inputs (given or assumed), its constants and what it has to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COMPLETE, ROUGH = 0.10, 1.0  # the goals: within 10 % where every input is given, within a factor of two elsewhere


@dataclass(frozen=True)
class Source:
    """Who measured a net on which chip, where it is printed, and what our figures of it rest on.

    Attributes
    ----------
    given, assumed : inputs of our figures that the source gives, and those that we had to take from elsewhere or to guess
    """

    chip: str
    net: str
    printed: str
    given: tuple[str, ...]
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One figure: ours and the one to compare with.

    Attributes
    ----------
    tolerance : what the figure has to keep, as a factor less one: 0.1 allows 1 / 1.1 to 1.1, 1 a factor of two either way, 0 equality
    constants : where the prices and times used come from, other than from this measurement
    assumed : further assumptions of this figure alone
    low, high : ends of ours where an input could only be bracketed
    fitted : whether this measurement itself set a price or a time that was used; agreement then shows consistency, no prediction
    """

    source: Source
    name: str
    unit: str
    ours: float
    measured: float
    tolerance: float
    constants: str = ""
    assumed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    fitted: bool = False

    @property
    def error(self) -> float:
        """Relative; ours above the measurement is positive."""
        return self.ours / self.measured - 1

    @property
    def holds(self) -> bool:
        return self.within(self.tolerance)

    @property
    def assumptions(self) -> tuple[str, ...]:
        return self.source.assumed + self.assumed

    @property
    def goal(self) -> float:
        return ROUGH if self.assumptions else COMPLETE

    @property
    def reaches_goal(self) -> bool:
        return self.within(self.goal)

    def within(self, tolerance: float) -> bool:
        """Whether ours is the measured figure up to a factor of 1 + tolerance."""
        slack = 1 + tolerance + 1e-12
        return bool(self.measured / slack <= self.ours <= self.measured * slack)

    def to_json(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in ("source", "assumed")}
        return {
            "chip": self.source.chip, "net": self.source.net, **own, "error": self.error, "holds": self.holds,
            "given": list(self.source.given), "assumed": list(self.assumptions), "goal": self.goal, "reaches_goal": self.reaches_goal,
            "printed": self.source.printed,
        }
