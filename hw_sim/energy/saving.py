"""Where the saving comes from: static twin against adaptive net, split into rows of integers that add up exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import ACTIVE, INACTIVE, QUANTITIES, CostTable
from spikegate.hw_sim.energy.ledger import Ledger
from spikegate.hw_sim.energy.pricing import band_pj, unpriced, weights_pj

ROWS = {
    "embedding_once": "embedding once",
    "backbone_difference": "backbone difference",
    "token_halting": "token halting",
    "timestep_masks": "timestep masks",
    "halting_and_masks": "token halting and timestep masks",
    "timestep_halting": "timestep halting",
    "gates": "gates' own cost",
    "unsplit": "halting and backbone, not separated",
}


@dataclass(frozen=True)
class Saving:
    """Events saved, positive = fewer events than the baseline.

    Attributes
    ----------
    baseline : "static" (the static twin) or "halt_off" (the same net without halting)
    rows : row -> int64 [QUANTITIES], summed over samples; they add up to `before` - `after`
    before, after : int64 [QUANTITIES], all chip events of the baseline and of the halting net
    samples : over which they are summed
    """

    baseline: str
    rows: dict[str, np.ndarray]
    before: np.ndarray
    after: np.ndarray
    samples: int

    def rows_pj(self, table: CostTable) -> dict[str, float]:
        """Energy saved per inference by row, chip only."""
        weights = weights_pj(table)
        return {name: float(events @ weights) / self.samples for name, events in self.rows.items()}

    def ends_pj(self, table: CostTable) -> tuple[float, float]:
        """Chip energy per inference of the baseline and of the halting net."""
        weights = weights_pj(table)
        return float(self.before @ weights) / self.samples, float(self.after @ weights) / self.samples

    def halted_visits_pj(self, table: CostTable) -> float | None:
        """What visits to the neurons of halted tokens cost per inference, idle, up to the sample's exit. Not part of the rows.

        None where the table has no price of an idle update, or no run without halting tells how many there are.
        """
        number = self._halted_visits(table)
        return None if number is None else number * (table.pj(INACTIVE) or 0.0)

    def saved(self, table: CostTable, *, visited: bool = True) -> Band:
        """Chip energy saved per inference, both nets priced alike at each end of the prices' bands.

        The neurons of halted tokens are visited, idle, where their number and price are known; `visited` False counts them as skipped.
        """
        whole = band_pj((self.before - self.after) / self.samples, table)
        number = self._halted_visits(table) if visited else None
        if number is None:
            return whole
        idle = np.zeros(len(QUANTITIES))
        idle[QUANTITIES.index(INACTIVE)] = number
        return whole - band_pj(idle, table)

    def _halted_visits(self, table: CostTable) -> float | None:
        """Idle visits per inference; see `halted_visits_pj`."""
        row = next((self.rows[n] for n in ("token_halting", "halting_and_masks", "timestep_masks") if n in self.rows), None)
        if row is None or "neuron_update" in table.leaves_out or table.pj(INACTIVE) is None:
            return None
        spared = int(row[QUANTITIES.index(ACTIVE)] + row[QUANTITIES.index(INACTIVE)])
        return max(0, spared) / self.samples

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

    ``embedding_once`` is the static embedding minus this net's; ``backbone_difference`` what else differs before anything halts;
    ``timestep_halting`` what the net without halting does after the sample's exit; ``token_halting`` what halting saves up to it
    (``timestep_masks`` or ``halting_and_masks`` where `kinds` has timestep gates);
    ``gates`` is what halting costs (negative). Without `static` the baseline is `off`; without `off`, halting and
    backbone cannot be separated and share a row. None without both.

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
    before, after = baseline.total, on.total
    s_embedding, s_body, s_gates = baseline.groups.sum((0, 1))
    a_embedding, a_body, a_gates = on.groups.sum((0, 1))
    rows: dict[str, np.ndarray] = {}
    if off is None:
        rows["embedding_once"], rows["unsplit"] = s_embedding - a_embedding, s_body - a_body
    else:
        if off.groups.shape != on.groups.shape:
            raise DeployError(
                "saving",
                f"{on.groups.shape[1]} timesteps with halting, {off.groups.shape[1]} without",
                "record both from the same export: python deploy/run.py, then again with --halt off",
            )
        if static is not None:
            f_embedding, f_body, _ = off.groups.sum((0, 1))
            rows["embedding_once"], rows["backbone_difference"] = s_embedding - f_embedding, s_body - f_body
        spared = (off.groups - on.groups)[:, :, :2].sum(2)  # without the gates
        after_exit = np.arange(1, spared.shape[1] + 1) > exit_step[:, None]
        policy = _policy(set(kinds))
        rows[policy], rows["timestep_halting"] = spared[~after_exit].sum(0), spared[after_exit].sum(0)
    rows["gates"] = s_gates - a_gates
    return Saving(baseline="static" if static is not None else "halt_off", rows=rows, before=before, after=after, samples=on.samples)


def _policy(kinds: set[str]) -> str:
    """Row of what halting saves before a sample's exit: one run without any of it cannot tell masks from token gates."""
    if "timestep_gate" not in kinds:
        return "token_halting"
    return "halting_and_masks" if kinds & {"token_gate", "rectangle_gate", "token_merge"} else "timestep_masks"
