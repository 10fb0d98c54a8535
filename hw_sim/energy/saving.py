"""Where the saving comes from: static twin against adaptive net, split into rows of integers that add up exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import IDLE, QUANTITIES, CostTable
from spikegate.hw_sim.energy.ledger import Ledger
from spikegate.hw_sim.energy.pricing import band_pj, unpriced, without_visits

ROWS = {
    "embedding_once": "embedding once",
    "embedding_difference": "embedding difference",
    "backbone_difference": "backbone difference",
    "token_halting": "token halting",
    "timestep_masks": "timestep masks",
    "halting_and_masks": "token halting and timestep masks",
    "timestep_halting": "timestep halting",
    "gates": "gates' own cost",
    "idle_visits": "visits to idle neurons",
    "unsplit": "halting and backbone, not separated",
}
SYNOP = QUANTITIES.index("synop")


@dataclass(frozen=True)
class Saving:
    """Events saved, positive = fewer events than the baseline.

    Attributes
    ----------
    baseline : "static" (the static twin) or "halt_off" (the same net without halting)
    rows : row -> int64 [QUANTITIES], summed over samples; they add up to `before` - `after`
    before, after : int64 [QUANTITIES], all chip events of the baseline and of the halting net, visits to idle neurons included
    samples : over which they are summed
    visits : whether the number of idle visits is known for every net; else none are counted
    """

    baseline: str
    rows: dict[str, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    samples: int
    visits: bool = False

    def rows_pj(self, table: CostTable) -> dict[str, float]:
        """Energy saved per inference by row, chip only."""
        return {name: band.value for name, band in self.bands(table).items()}

    def bands(self, table: CostTable) -> dict[str, Band]:
        """The same with what it is at either end of the prices' bands; an end is the same one in all rows."""
        return {name: band_pj(events / self.samples, table) for name, events in self.rows.items()}

    def ends(self, table: CostTable, *, visited: bool = True) -> tuple[Band, Band]:
        """Chip energy per inference of the baseline and of the halting net; `visited` False: of a chip that skips idle neurons."""
        both = (self.before, self.after) if visited else (without_visits(self.before), without_visits(self.after))
        before, after = (band_pj(events / self.samples, table) for events in both)
        return before, after

    def ends_pj(self, table: CostTable, *, visited: bool = True) -> tuple[float, float]:
        """`ends` without the bands."""
        before, after = self.ends(table, visited=visited)
        return before.value, after.value

    def saved(self, table: CostTable, *, visited: bool = True) -> Band:
        """Chip energy saved per inference, both nets priced alike at each end of the prices' bands."""
        before, after = self.ends(table, visited=visited)
        return before - after

    def visits_priced(self, table: CostTable) -> bool:
        """Whether idle visits are part of the totals: known, and priced by this table."""
        return self.visits and bool(table.pj(IDLE))

    def unpriced(self, table: CostTable) -> dict[str, float]:
        """Counters, with events per inference of both nets, that the table cannot price."""
        return unpriced((self.before + self.after) / self.samples, 0, table)


def split(on: Ledger, off: Ledger | None, static: Ledger | None, exit_step: np.ndarray, kinds: Iterable[str] = ()) -> Saving | None:
    """Split the difference between the baseline and the halting net.

    Parameters
    ----------
    on, off, static : the halting net, the same net on the same samples without halting, and its static twin
    exit_step : int64 [N], timesteps that the halting net ran
    kinds : kinds of the halting net's ops

    ``embedding_once`` is the static embedding minus this net's, if this net computes it once and the static net in every timestep
    (``embedding_difference`` if both do it alike, and differ only in how many neurons fire); ``backbone_difference`` what else differs
    before anything halts; ``timestep_halting`` what the net without halting does after the sample's exit; ``token_halting`` what
    halting saves up to it (``timestep_masks`` or ``halting_and_masks`` where `kinds` has timestep gates); ``gates`` is what halting costs
    (negative); ``idle_visits`` are visits to neurons that are not updated, of all parts (negative where halting makes them). Without
    `static` the baseline is `off`; without `off`, halting and backbone cannot be separated and share a row. None without both.

    Raises
    ------
    DeployError
        If the records hold different numbers of samples or timesteps.
    """
    for other in (off, static):
        if other is not None and other.samples != on.samples:
            raise DeployError("saving", f"records of {on.samples} and {other.samples} samples", "run deploy/run.py on the same images")
    baseline = off if static is None else static
    if baseline is None:
        return None
    visits = on.visits and baseline.visits
    before, after = (x.total if visits else without_visits(x.total) for x in (baseline, on))
    s_embedding, s_body, s_gates = without_visits(baseline.groups.sum((0, 1)))
    a_embedding, a_body, a_gates = without_visits(on.groups.sum((0, 1)))
    rows: dict[str, np.ndarray] = {}
    if off is None:
        rows[_embedding(on, baseline)], rows["unsplit"] = s_embedding - a_embedding, s_body - a_body
    else:
        if off.groups.shape != on.groups.shape:
            raise DeployError(
                "saving",
                f"{on.groups.shape[1]} timesteps with halting, {off.groups.shape[1]} without",
                "record both from the same export: python deploy/run.py, then again with --halt off",
            )
        if static is not None:
            f_embedding, f_body, _ = without_visits(off.groups.sum((0, 1)))
            rows[_embedding(off, static)], rows["backbone_difference"] = s_embedding - f_embedding, s_body - f_body
        spared = without_visits((off.groups - on.groups)[:, :, :2].sum(2))  # without the gates
        after_exit = np.arange(1, spared.shape[1] + 1) > exit_step[:, None]
        policy = _policy(set(kinds))
        rows[policy], rows["timestep_halting"] = spared[~after_exit].sum(0), spared[after_exit].sum(0)
    rows["gates"] = s_gates - a_gates
    if visits:
        rows["idle_visits"] = before - after - without_visits(before - after)
    return Saving("static" if static is not None else "halt_off", rows, before, after, on.samples, visits)


def _embedding(net: Ledger, static: Ledger) -> str:
    """Row of the embeddings' difference: a net embeds once if it accumulates nothing there after the first timestep."""
    later, static_later = (x.groups[:, 1:, 0, SYNOP].any() for x in (net, static))
    goes_on = bool(net.groups[:, 1:].any())  # a net that always ends at the first timestep shows nothing of it
    return "embedding_once" if goes_on and static_later and not later else "embedding_difference"


def _policy(kinds: set[str]) -> str:
    """Row of what halting saves before a sample's exit: one run without any of it cannot tell masks from token gates."""
    if "timestep_gate" not in kinds:
        return "token_halting"
    return "halting_and_masks" if kinds & {"token_gate", "rectangle_gate", "token_merge"} else "timestep_masks"
