"""Three published claims and one of our own against what was measured here: reached, or by how much not, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.plan import Claimed, Plan

Result = dict[str, Any]
Pairs = list[tuple[Result, Result]]  # (row, its twin) of each seed
TABLE = "paper45"  # cost table of the energy claim: the prices that the papers use
FEWER_TOKENS = 42.4  # per cent: AT-SNN (arXiv 2408.12293) on CIFAR-100
LESS_ENERGY = {"cifar10": 45.9, "cifar100": 43.8}  # per cent: STAS (arXiv 2508.14138); for other sets CIFAR-10's
EVENTS_FOR_TOKENS = 90.0  # per cent: our own goal: what is left out should be worth what it is counted as
EFFECTS = {
    "embedding once": ("embedding_once",), "token halting": ("token_halting", "halting_and_masks"),
    "timestep masks": ("timestep_masks",), "timestep exit": ("timestep_halting",),
    "gates' own cost": ("gates",), "other blocks' activity": ("backbone_difference",),
}  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Values over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def range(self) -> float:
        """Largest minus smallest."""
        return max(self.values) - min(self.values)

    def text(self, digits: int = 1, unit: str = "") -> str:
        """``mean (smallest to largest)``; the mean alone for one value."""
        mean = f"{self.mean:.{digits}f}{unit}"
        return mean if len(self.values) < 2 else f"{mean} ({min(self.values):.{digits}f} to {max(self.values):.{digits}f})"


@dataclass(frozen=True)
class Claim:
    """One claim: what is claimed, what came out, and the verdict.

    Attributes
    ----------
    gain : what the claim is about, `unit` of it; `target` is the least that the claim asks for
    accuracy, twin_accuracy : per cent
    loss : points of accuracy that the row lies below its twin (negative: above), seed by seed
    parts : further facts by name
    planned : seeds of the plan; fewer may be measured so far
    """

    name: str
    row: str
    twin: str
    gain: Spread
    target: float
    unit: str
    accuracy: Spread
    twin_accuracy: Spread
    loss: Spread
    parts: dict[str, Spread]
    planned: int = 1

    @property
    def verdict(self) -> str:
        """``reached``, or by how much not. An accuracy below the twin's mean is reported as within the twin's own range or beyond it."""
        short = self.target - self.gain.mean
        lost = self.loss.mean
        found = [] if short <= 0 else [f"{short:.2f} {self.unit} short"]
        if lost > 0:
            noise = f"{'within' if self.in_noise else 'beyond'} the twin's own range of {self.twin_accuracy.range:.2f}"
            found.append(f"accuracy {lost:.2f} points below the twin ({noise if len(self.twin_accuracy.values) > 1 else 'one seed'})")
        so_far = f" ({len(self.gain.values)} of {self.planned} seeds so far)" if len(self.gain.values) < self.planned else ""
        details = "" if not found else ": " + "; ".join(found)
        return f"{'reached' if self.reached else 'not reached'}{details}{so_far}"

    @property
    def in_noise(self) -> bool:
        """Whether the accuracy lost is no more than the twin's seeds differ by."""
        return self.loss.mean <= (self.twin_accuracy.range if len(self.twin_accuracy.values) > 1 else 0)

    @property
    def reached(self) -> bool:
        """The gain is there, at no less accuracy or within the noise of the twin's seeds."""
        return self.gain.mean >= self.target and self.in_noise

    def facts(self) -> dict[str, Any]:
        """The claim as plain types."""
        def as_dict(s: Spread) -> dict[str, Any]:
            return {"mean": s.mean, "min": min(s.values), "max": max(s.values), "seeds": len(s.values)}

        return {
            "claim": self.name, "row": self.row, "twin": self.twin, "gain": as_dict(self.gain), "target": self.target, "unit": self.unit,
            "accuracy": as_dict(self.accuracy), "twin_accuracy": as_dict(self.twin_accuracy), "loss_points": as_dict(self.loss),
            "reached": self.reached, "verdict": self.verdict, "parts": {k: as_dict(v) for k, v in self.parts.items()},
        }


def total_pj(result: Result, table: str = TABLE) -> float:
    """Chip and host energy per inference."""
    return result["energy"][table]["chip_pj"] + result["energy"][table]["host_pj"]


def tokens(pairs: Pairs) -> tuple[Spread, dict[str, Spread]]:
    """Per cent fewer tokens processed."""
    return _spread(100 * (1 - row["mean_tokens"] / twin["mean_tokens"]) for row, twin in pairs), {
        "chip events, per cent fewer": _spread(100 * (1 - row["chip_events"] / twin["chip_events"]) for row, twin in pairs)
    }


def events_for_tokens(pairs: Pairs) -> tuple[Spread, dict[str, Spread]]:
    """Share of the events saved in per cent of the share of the tokens saved, both against the twin."""
    halted = [(row, twin) for row, twin in pairs if row["mean_tokens"] < twin["mean_tokens"]]
    saved = [(1 - row["chip_events"] / twin["chip_events"], 1 - row["mean_tokens"] / twin["mean_tokens"]) for row, twin in halted]
    return _spread((100 * events / gone for events, gone in saved) if saved else [0.0]), {
        "tokens, per cent fewer": _spread([100 * gone for _, gone in saved] or [0.0]),
        "chip events, per cent fewer": _spread([100 * events for events, _ in saved] or [0.0]),
    }


def energy(pairs: Pairs) -> tuple[Spread, dict[str, Spread]]:
    """Per cent less chip and host energy, and the share that each effect has in it (they add up to the whole)."""
    parts: dict[str, Spread] = {}
    split = [row["saving"][TABLE]["rows_pj"] for row, _ in pairs if row["saving"]]
    if len(split) == len(pairs):
        for name, rows in EFFECTS.items():
            parts[name] = _spread(100 * sum(s.get(r, 0.0) for r in rows) / total_pj(twin) for s, (_, twin) in zip(split, pairs))
        host = [twin["energy"][TABLE]["host_pj"] - row["energy"][TABLE]["host_pj"] for row, twin in pairs]
        parts["host embedding"] = _spread(100 * h / total_pj(twin) for h, (_, twin) in zip(host, pairs))
    return _spread(100 * (1 - total_pj(row) / total_pj(twin)) for row, twin in pairs), parts


def timesteps(pairs: Pairs) -> tuple[Spread, dict[str, Spread]]:
    """Average timesteps fewer, over masked layers."""
    return _spread(twin["timesteps"] - row["mean_layer_timesteps"] for row, twin in pairs), {
        "average timesteps": _spread(row["mean_layer_timesteps"] for row, _ in pairs)
    }


Measure = Callable[[Pairs], tuple[Spread, dict[str, Spread]]]


def claimed(key: Claimed, dataset: str) -> tuple[str, float, str, Measure]:
    """(title, least gain, its unit, how it is measured) of a claim on a data set."""
    if key == "at_snn":
        return f"AT-SNN: at least {FEWER_TOKENS} % fewer tokens at no less accuracy", FEWER_TOKENS, "%", tokens
    if key == "stas":
        less = LESS_ENERGY.get(dataset, LESS_ENERGY["cifar10"])
        return f"STAS: at least {less} % less chip and host energy ({TABLE}) at no less accuracy", less, "%", energy
    if key == "halting":
        worth = f"share of events saved at least {EVENTS_FOR_TOKENS:.0f} % of the share of tokens saved, at no less accuracy"
        return f"Halting that pays: {worth}", EVENTS_FOR_TOKENS, "%", events_for_tokens
    return "Dynamic Time Steps ViT: fewer average timesteps at the same accuracy", 1e-9, "timesteps", timesteps


def claims(plan: Plan, read: Callable[[str, int], Result | None]) -> list[Claim]:
    """Every claim of the plan for which row and twin were measured. `read` gives the result of (row name, seed)."""
    found = []
    for key, name in plan.claimed():
        row = plan.row(name)
        read_pairs = [(read(name, seed), read(row.twin or "", seed)) for seed in range(row.seeds)]
        pairs = [(r, t) for r, t in read_pairs if r is not None and t is not None]
        if not pairs:
            continue
        title, target, unit, measure = claimed(key, plan.dataset)
        gain, parts = measure(pairs)
        accuracy, twin_accuracy = (_spread(100 * p[i]["accuracy"]["deployed"] for p in pairs) for i in (0, 1))
        loss = _spread(t - a for a, t in zip(accuracy.values, twin_accuracy.values))
        found.append(Claim(title, name, row.twin or "", gain, target, unit, accuracy, twin_accuracy, loss, parts, row.seeds))
    return found


def _spread(values: Any) -> Spread:
    return Spread(tuple(values))
