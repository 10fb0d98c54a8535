"""The HTML report: one file, no outside resources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from convert.ir import COUNTERS
from hw_sim import drawing
from hw_sim.cost_tables import EVIDENCE
from hw_sim.printing import fact_rows, partial_text
from hw_sim.saving import ROWS
from hw_sim.summary import LABELS, Estimate
from hw_sim.units import count_text, digits, energy_text, share_text

NO_BREAK = "\u00a0"
TEMPLATES = Path(__file__).parent / "templates"


def drawings(e: Estimate) -> dict[str, str]:
    """File name without ending -> SVG text: energy and saving by cost table, tokens over time."""
    out = {}
    for table in e.tables:
        nets = {LABELS[n]: v.energy[table.name].components_pj for n, v in e.nets.items()}
        partial = any(v.energy[table.name].partial for v in e.nets.values())
        out[f"energy-{table.name}"] = drawing.bars(nets, "partial" if partial else "")
        if e.saving is not None:
            before, after = e.saving.ends_pj(table)
            rows = {ROWS[n]: v for n, v in e.saving.rows_pj(table).items()}
            out[f"saving-{table.name}"] = drawing.waterfall(
                (LABELS[e.saving.baseline], before), rows, (LABELS[e.main], after), "partial" if partial else ""
            )
    record = e.nets[e.main].record
    if record.gates:
        alive = record.processed.mean(3)
        steps = np.arange(1, alive.shape[1] + 1)
        out["tokens"] = drawing.curve(alive, (record.exit_step[:, None] >= steps).mean(0))
    return out


def inline(svg: str) -> str:
    """SVG text for use inside HTML, where namespaces are not declared."""
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)


def render(e: Estimate, drawn: dict[str, str], images: np.ndarray | None) -> str:
    """The page as text; `drawn` from `drawings`, `images` uint8 [n, C, H, W] the record's first samples."""
    net = e.nets[e.main]
    meta, manifest = net.record.meta, net.measured.manifest
    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return env.get_template("report.html").render(
        manifest=manifest,
        meta=meta,
        samples=net.ledger.samples,
        steps=net.record.counts.shape[1],
        notes=e.notes,
        facts=_facts(e),
        nets=[LABELS[n] for n in e.nets],
        comparison=fact_rows(e),
        tables=[_table(e, t, drawn) for t in e.tables],
        evidence=EVIDENCE,
        saving=_saving(e),
        ops=_ops(e),
        tokens=inline(drawn["tokens"]) if "tokens" in drawn else None,
        images=_images(e, images),
        scale=drawing.heat_scale(),
    )


def _facts(e: Estimate) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the page's head."""
    net = e.nets[e.main]
    record = net.record
    out = []
    if record.labels is not None:
        twin = e.nets.get("static")
        known = twin is not None and twin is not net and twin.record.labels is not None
        out.append(("accuracy", f"{100 * record.accuracy:.2f} %", f"static {100 * twin.record.accuracy:.2f} %" if known and twin else ""))
    if record.gates:
        out.append(("mean tokens", f"{digits(100 * record.mean_tokens)} %", "of (timestep, block, token) cells"))
    out.append(("mean timesteps", f"{record.mean_timesteps:.2f}", f"of {record.counts.shape[1]}"))
    for table in e.tables:
        energy = net.energy[table.name]
        remark = "partial" if energy.partial else "chip, per inference"
        if e.saving is not None:
            before, after = e.saving.ends_pj(table)
            remark += f"; {share_text(after - before, before).replace(' ', NO_BREAK)} against {LABELS[e.saving.baseline]}"
        out.append((table.label, energy_text(energy.chip_pj), remark))
    return out


def _table(e: Estimate, table: Any, drawn: dict[str, str]) -> dict[str, Any]:
    energies = [n.energy[table.name] for n in e.nets.values()]
    low, middle, high = np.percentile(e.nets[e.main].energy[table.name].chip_per_sample_pj, [5, 50, 95])
    saving = drawn.get(f"saving-{table.name}")
    return {
        "table": table,
        "bars": inline(drawn[f"energy-{table.name}"]),
        "waterfall": None if saving is None else inline(saving),
        "partial": partial_text({k: v for x in energies for k, v in x.unpriced.items()}),
        "spread": f"chip, over images: {energy_text(low)} (5 %), {energy_text(middle)} (median), {energy_text(high)} (95 %)",
    }


def _saving(e: Estimate) -> dict[str, Any] | None:
    if e.saving is None:
        return None
    ends = [e.saving.ends_pj(t) for t in e.tables]
    rows = [e.saving.rows_pj(t) for t in e.tables]

    def cells(values: list[float]) -> list[tuple[str, str]]:
        return [(energy_text(v), share_text(v, before)) for v, (before, _) in zip(values, ends)]

    return {
        "baseline": LABELS[e.saving.baseline],
        "rows": [(ROWS[name], cells([r[name] for r in rows])) for name in e.saving.rows],
        "total": cells([before - after for before, after in ends]),
        "kinds": list(e.saving.rows),
    }


def _ops(e: Estimate) -> list[dict[str, Any]]:
    """Events per inference of each op of the main net, and its share of what it does without halting."""
    net, off = e.nets[e.main], e.nets.get("halt_off")
    synop, attention = COUNTERS.index("synop"), COUNTERS.index("attention_ac")
    mean = net.record.counts.sum((0, 1)) / net.ledger.samples
    rows = []
    for i, (name, kind) in enumerate(zip(net.record.ops, net.record.kinds)):
        share = ""
        if off is not None and name in off.record.ops:
            j = off.record.ops.index(name)
            whole = off.record.counts[:, :, j, [synop, attention]].sum()
            share = f"{100 * net.record.counts[:, :, i, [synop, attention]].sum() / whole:.0f} %" if whole else ""
        counts = dict(zip(COUNTERS, mean[i]))
        rows.append(
            {
                "name": name,
                "kind": kind,
                "share": share,
                "accumulates": count_text(counts["synop"] + counts["attention_ac"]),
                "counts": [count_text(counts[c]) for c in ("neuron_update", "gate_update", "spike_out", "message")],
                "energy": [energy_text(float(net.energy[t.name].energy_pj[:, i].sum())) for t in e.tables],
            }
        )
    return rows


def _images(e: Estimate, images: np.ndarray | None) -> list[dict[str, Any]]:
    """Each image beside how long its tokens stayed alive: the share of (timestep, block) cells that processed the token."""
    net = e.nets[e.main]
    record, manifest = net.record, net.measured.manifest
    height, width = manifest["grid"]
    if images is None or not record.gates or record.alive.shape[3] != height * width:
        return []
    share = record.processed[: len(images)].mean((1, 2)).reshape(-1, height, width)
    names = {k: str(v) for k, v in enumerate(manifest["labels"])}
    out = []
    bright = images * (255 / max(1, int(images.max())))  # digits, for instance, have 17 grey levels
    for i, image in enumerate(bright.astype(np.uint8)):
        predicted = int(record.prediction[i])
        truth = None if record.labels is None else int(record.labels[i])
        out.append(
            {
                "image": drawing.picture(image),
                "heat": drawing.heat(share[i]),
                "prediction": names.get(predicted, str(predicted)),
                "right": truth is None or truth == predicted,
                "truth": "" if truth is None else names.get(truth, str(truth)),
                "tokens": f"{100 * share[i].mean():.0f} %",
                "steps": int(record.exit_step[i]),
            }
        )
    return out
