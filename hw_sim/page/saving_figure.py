"""Where the saving comes from: from the baseline's energy, step by step, down to the halting net's."""

from __future__ import annotations

from spikegate.hw_sim.energy.cost_tables import CostTable
from spikegate.hw_sim.energy.saving import ROWS
from spikegate.hw_sim.energy.units import band_text, energy_text, share_text, unit_for
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, axis, ident

MEANING = {
    "embedding_once": "the static twin's embedding minus this net's, which computes it once",
    "backbone_difference": "what the two nets' blocks do differently before anything halts",
    "token_halting": "what halted tokens spare before an image's exit",
    "timestep_masks": "what masked timesteps spare",
    "halting_and_masks": "what halted tokens and masked timesteps save, not separable",
    "timestep_halting": "the work after an image's exit",
    "gates": "what halting itself costs: gates, messages to them, held values",
    "unsplit": "halting and backbone together; a run with --halt off tells them apart",
}
HALTED = "halted neurons, visited"


def waterfall(view: RunView, table: CostTable) -> Figure | None:
    """The split of the saving; None for a net with nothing to compare."""
    saving = view.estimate.saving
    if saving is None:
        return None
    before, after = saving.ends_pj(table)
    rows = saving.rows_pj(table)
    residual = saving.halted_visits_pj(table)
    bars: list[tuple[str, float, float, str, str]] = [(view.baseline, 0.0, before, "end", energy_text(before))]
    level = before
    for key, value in rows.items():
        sign = "-" if value > 0 else "+" if value < 0 else ""
        bars.append((ROWS[key], min(level, level - value), max(level, level - value), "saved" if value >= 0 else "spent",
                     sign + energy_text(abs(value))))
        level -= value
    bars.append((view.label, 0.0, after, "main", energy_text(after)))
    level = after + (residual or 0.0)
    if residual:
        bars.insert(-1, (HALTED, after, level, "spent", "+" + energy_text(residual)))
        bars[-1] = (view.label, 0.0, level, "main", energy_text(level))
    top = max(high for _, _, high, _, _ in bars) or 1.0
    factor, unit = unit_for(top)
    c = Canvas(0)
    y, width = 0.0, WIDTH - 66
    last = before
    for i, (label, low, high, cls, text) in enumerate(bars):
        c.text(0, y + 10, label, "b" if cls in ("end", "main") else "t", within=WIDTH)
        if i:
            c.line(width * last / top, y - 3, width * last / top, y + 14, "edge")
        c.rect(width * low / top, y + 14, max(1.0, width * (high - low) / top), 13, cls, tip=f"{label}: {text}")
        c.text(width * high / top + 4, y + 24.5, text, "b" if cls in ("end", "main") else "t")
        last = low if cls == "saved" else high
        y += 34
    axis(c, 0, width, top / factor, 12, y - 3, f"chip energy per inference in {unit} (estimate)")
    c.height = y + 25
    name = f"saving-{ident(view.label)}-{ident(table.name)}"
    saved = saving.saved(table)
    share = share_text(-saved.value, before) or "no change"
    says = f"Chip energy (estimate) from {view.baseline} to {view.label}, {share if saved.excludes_zero else 'no sure change'} in all"
    says += f"; saved: {band_text(saved)}." if saved.low != saved.high else "."
    if residual:
        skipped = share_text(after - before, before) or "no change"
        says += f" The neurons of what is halted or masked are visited (mute). If they are not visited: {energy_text(after)}, {skipped}."
    elif residual is None:
        reason = "how many they are takes a run with --halt off" if "unsplit" in rows else "this table has no price of a neuron's update"
        says += f" What visiting the neurons of what is halted would cost is not known here: {reason}."
    alt = f"Waterfall from {energy_text(before)} to {energy_text(level)}: " + "; ".join(f"{b[0]} {b[4]}" for b in bars[1:-1]) + "."
    data = [[view.baseline, energy_text(before), "", "the baseline"]]
    data += [[ROWS[k], energy_text(-v), share_text(-v, before), MEANING[k]] for k, v in rows.items()]
    if residual is not None:
        data.append([HALTED, energy_text(residual), share_text(residual, before), "a chip visits every mapped neuron"])
    data.append([view.label, energy_text(level), share_text(level - before, before), "all rows together"])
    if residual:
        data.append(["if they are not visited", energy_text(after), share_text(after - before, before), "without the row of visits"])
    missing = saving.unpriced(table)
    note = f"Partial: no price for {', '.join(missing)}." if missing else ""
    return Figure(name, table.label, says, c.svg(name, alt), ["", "energy, or change", "of the baseline", "what it is"], data, note)
