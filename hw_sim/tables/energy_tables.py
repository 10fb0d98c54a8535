"""The report on a terminal: energy by table and net, the saving split, and what each table leaves out."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spikegate.data.shipped import images_text
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import CostTable
from spikegate.hw_sim.energy.pricing import COMPONENTS, Energy
from spikegate.hw_sim.energy.saving import ROWS, Saving
from spikegate.hw_sim.energy.summary import LABELS, Estimate, Priced, neurobench
from spikegate.hw_sim.energy.units import band_text, count_text, digits, energy_text, share_text

SKIPPED = "chip, if idle neurons are not visited"


def partial_text(unpriced: dict[str, float]) -> str:
    """Names the counters that a table cannot price; empty if there are none."""
    return "" if not unpriced else "no price for " + ", ".join(f"{n} ({count_text(v)} per inference)" for n, v in unpriced.items())


def energy_table(e: Estimate, table: CostTable) -> Table:
    """Energy per inference of each net, by component."""
    out = Table(title=f"energy per inference, cost table {escape(table.label)}", title_justify="left", caption_justify="left")
    out.add_column("")
    for name in e.nets:
        out.add_column(LABELS[name], justify="right")
    energies = [n.energy[table.name] for n in e.nets.values()]
    for component in COMPONENTS[:-1]:
        out.add_row(component, *(component_text(x, component) for x in energies))
    mark = ["partial: " if x.partial else "" for x in energies]
    out.add_section()
    out.add_row("chip", *(m + band_text(x.chip) for m, x in zip(mark, energies)), style="bold")
    if any(x.chip != x.skipped for x in energies):
        out.add_row(SKIPPED, *(m + band_text(x.skipped) for m, x in zip(mark, energies)))
    out.add_row("host embedding", *("left out" if "host" in x.left_out else energy_text(x.host_pj) for x in energies))
    out.add_row("total", *(m + band_text(x.total) for m, x in zip(mark, energies)))
    missing = {k: v for x in energies for k, v in x.unpriced.items()}
    if missing:
        out.caption = f"partial: {partial_text(missing)}"
    return out


def component_text(e: Energy, component: str) -> str:
    """A component's energy with its band, or why there is none."""
    if component in e.left_out:
        return "left out"
    return "not known" if component == "idle visits" and not e.visits_known else band_text(e.bands[component])


def saving_table(saving: Saving, tables: list[CostTable]) -> Table:
    """The split, in energy by each table and as a share of the baseline's chip energy."""
    out = Table(title=f"chip energy saved against {LABELS[saving.baseline]}, per inference", title_justify="left", caption_justify="left")
    out.add_column("")
    rows, ends = [saving.bands(t) for t in tables], [saving.ends(t) for t in tables]
    for table in tables:
        out.add_column(escape(table.label) + (" (partial)" if saving.unpriced(table) else ""), justify="right")
        out.add_column("", justify="right")

    def cells(bands: list[Band], wholes: list[Band]) -> list[str]:
        """A saving with its band; a share only where the band leaves no doubt of the sign."""
        shares = [share_text(b.value, w.value) if b.excludes_zero else "within the band" if b.value else "" for b, w in zip(bands, wholes)]
        return [text for band, share in zip(bands, shares) for text in (band_text(band), share)]

    for name in saving.rows:
        out.add_row(ROWS[name], *cells([r[name] for r in rows], [before for before, _ in ends]))
    out.add_section()
    out.add_row("saved in all", *cells([saving.saved(t) for t in tables], [before for before, _ in ends]), style="bold")
    if any(saving.visits_priced(t) for t in tables):
        skipped = [saving.ends(t, visited=False) for t in tables]
        out.add_row(f"saved, {SKIPPED[6:]}", *cells([before - after for before, after in skipped], [before for before, _ in skipped]))
    else:
        reason = "these tables have no price of them" if saving.visits else "the exports do not say how many neurons there are"
        out.caption = f"visits to idle neurons are not in it: {reason}"
    return out


def fact_rows(nets: list[Priced]) -> list[tuple[str, list[str]]]:
    """Accuracy, halting and operation counts: (name, value for each net)."""
    bench = [neurobench(n) for n in nets]
    silent = [b["activation_sparsity"] for b in bench]
    rows = [
        ("accuracy", ["" if n.record.labels is None else f"{100 * n.record.accuracy:.2f} %" for n in nets]),
        ("mean tokens", [f"{digits(100 * n.record.mean_tokens)} %" for n in nets]),
        ("mean timesteps", [f"{n.record.mean_timesteps:.2f} of {n.record.counts.shape[1]}" for n in nets]),
    ]
    for name, title in (("Effective_ACs", "accumulates"), ("Effective_MACs", "host MACs"), ("Dense", "dense operations")):
        rows.append((f"{title} ({name})", [count_text(b["synaptic_operations"][name]) for b in bench]))
    for counter in ("neuron_update", "message", "gate_update"):
        rows.append((counter.replace("_", " ") + "s", [count_text(float(n.record.total(counter).mean())) for n in nets]))
    rows.append(("activation sparsity", ["" if s is None else f"{digits(100 * s)} %" for s in silent]))
    return rows


def fact_table(e: Estimate) -> Table:
    """`fact_rows` as a table."""
    out = Table(title="events per inference", title_justify="left")
    out.add_column("")
    for name in e.nets:
        out.add_column(LABELS[name], justify="right")
    for name, cells in fact_rows(list(e.nets.values())):
        out.add_row(name, *cells)
    return out


def left_out(table: CostTable) -> str:
    """One line: what a table does not price."""
    return f"{table.label} leaves out: {', '.join(name.replace('_', ' ') for name in table.leaves_out)}"


def show(e: Estimate, console: Console) -> None:
    """Print the report."""
    net = e.nets[e.main]
    meta, manifest = net.record.meta, net.measured.manifest
    console.print(
        f"{manifest['name']} ({manifest['model']}) on "
        f"{images_text(net.ledger.samples, meta.get('split', ''), manifest['dataset'], meta.get('shipped', False))}, "
        f"events from target {meta.get('target')}",
        markup=False,
    )
    console.print(fact_table(e))
    for table in e.tables:
        console.print(energy_table(e, table))
        console.print(left_out(table), style="dim", markup=False)
        assumed = [n for n, p in table.prices.items() if p.evidence in ("assumed", "borrowed")]
        if assumed:
            console.print(f"{table.name}, assumed or borrowed prices: {', '.join(assumed)}", style="dim", markup=False)
    if e.saving is not None:
        console.print(saving_table(e.saving, e.tables))
    for note in e.notes:
        console.print(note, markup=False, soft_wrap=True)
