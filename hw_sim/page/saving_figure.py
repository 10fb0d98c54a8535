"""Where the saving comes from: from the baseline's energy, step by step, down to the halting net's."""

from __future__ import annotations

from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import CostTable
from spikegate.hw_sim.energy.saving import ROWS
from spikegate.hw_sim.energy.units import band_text, energy_text, saving_text, share_text, unit_for
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, axis, ident

MEANING = {
    "embedding_once": "the static twin's embedding minus this net's, which computes it once",
    "embedding_difference": "what the two nets' embeddings do differently; both compute theirs in every timestep",
    "backbone_difference": "what the two nets' blocks do differently before anything halts",
    "token_halting": "what halted tokens spare before an image's exit",
    "timestep_masks": "what masked timesteps spare",
    "halting_and_masks": "what halted tokens and masked timesteps save, not separable",
    "timestep_halting": "the work after an image's exit",
    "gates": "what halting itself costs: gates, messages to them, held values",
    "idle_visits": "a chip visits every mapped neuron in every timestep, also those of what is halted",
    "unsplit": "halting and backbone together; a run with --halt off tells them apart",
}


def waterfall(view: RunView, table: CostTable) -> Figure | None:
    """The split of the saving; None for a net with nothing to compare."""
    saving = view.estimate.saving
    if saving is None:
        return None
    (whole, rest), rows, saved = saving.ends(table), saving.bands(table), saving.saved(table)
    before, after = whole.value, rest.value
    bars: list[tuple[str, float, float, str, str]] = [(view.baseline, 0.0, before, "end", energy_text(before))]
    level = before
    for key, value in ((k, b.value) for k, b in rows.items()):
        sign = "-" if value > 0 else "+" if value < 0 else ""
        bars.append((ROWS[key], min(level, level - value), max(level, level - value), "saved" if value >= 0 else "spent",
                     sign + energy_text(abs(value))))
        level -= value
    bars.append((view.label, 0.0, after, "main", energy_text(after)))
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
    says = f"Chip energy (estimate) from {view.baseline} to {view.label}, {saving_text(saved, whole)} in all"
    says += f"; saved: {band_text(saved)}." if saved.low != saved.high else "."
    skipped = saving.ends(table, visited=False)
    if saving.visits_priced(table):
        share = saving_text(skipped[0] - skipped[1], skipped[0])
        says += f" Neurons that have nothing to update are visited (mute). If they are not visited: {band_text(skipped[1])}, {share}."
    else:
        reason = "this table has no price of a neuron's update" if saving.visits else "the exports do not say how many neurons there are"
        says += f" What visiting idle neurons would cost is not known here: {reason}."
    alt = f"Waterfall from {energy_text(before)} to {energy_text(after)}: " + "; ".join(f"{b[0]} {b[4]}" for b in bars[1:-1]) + "."
    data = [[view.baseline, band_text(whole), "", "the baseline"]]
    data += [[ROWS[k], band_text(Band() - b), _share(b, whole), MEANING[k]] for k, b in rows.items()]
    data.append([view.label, band_text(rest), saving_text(saved, whole), "all rows together"])
    if saving.visits_priced(table):
        data.append(["if idle neurons are not visited", band_text(skipped[1]), saving_text(skipped[0] - skipped[1], skipped[0]),
                     "both nets without the visits"])
    missing = saving.unpriced(table)
    note = f"Partial: no price for {', '.join(missing)}." if missing else ""
    return Figure(name, table.label, says, c.svg(name, alt), ["", "energy, or change", "of the baseline", "what it is"], data, note)


def _share(saved: Band, whole: Band) -> str:
    """A row as a change of the baseline; in words where its band holds zero."""
    return share_text(-saved.value, whole.value) if saved.excludes_zero or not saved.value else "within the band"
