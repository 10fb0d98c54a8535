"""What a chip profile says of a net, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spikegate.hw_sim.chip import delays
from spikegate.hw_sim.chip.beside import AtRate, at_rate, beside
from spikegate.hw_sim.chip.fit import RESOURCES, utilisation
from spikegate.hw_sim.chip.hardware import Hardware
from spikegate.hw_sim.chip.placed_energy import PlacedEnergy, host_io
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import HOST
from spikegate.hw_sim.energy.units import band_text, count_text, digits, energy_text

TIME_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
SHOWN = 12  # violations


def time_text(ns: float) -> str:
    """A time in ns as text: 1234 -> '1.23 us'."""
    factor, unit = next(((f, u) for f, u in TIME_STEPS if ns >= f), TIME_STEPS[-1])
    return f"{digits(ns / factor)} {unit}"


def fit_line(hw: Hardware) -> str:
    """Does it fit, and on what."""
    m = hw.mapping
    chips = f"{m.chips} chip{'s' if m.chips > 1 else ''} of {hw.chip.cores_per_chip} cores"
    broken = len(hw.violations)
    fits = "fits" if hw.fits else f"does not fit: {broken} broken limit{'s' if broken > 1 else ''}"
    return f"{hw.title}: {fits}; {m.cores} cores, {chips}"


def utilisation_table(hw: Hardware) -> Table:
    """Use of the fullest core of each op, of what a core has; then all ops together."""
    out = Table(title=f"fullest core of each op, {escape(hw.chip.name)}", title_justify="left")
    for column in ("op", "type"):
        out.add_column(column, no_wrap=True)
    for column in ("cores", *(r.replace("_", " ") for r in RESOURCES), "fullest"):
        out.add_column(column, justify="right")
    for row in utilisation(hw.mapping):
        cells = [f"{row[r]['used']:,}" + (f" of {row[r]['max']:,}" if row[r]["max"] else "") for r in RESOURCES]
        out.add_row(escape(row["op"]), row["kind"], str(row["cores"]), *cells, f"{100 * row['fullest']:.0f} %",
                    style="red" if row["fullest"] > 1 else None)
    out.add_section()
    m = hw.mapping
    out.add_row("total", "", str(m.cores), f"{int(m.neurons.sum()):,}", f"{int(m.words.sum()):,}", "", "", "")
    return out


def energy_table(hw: Hardware) -> Table:
    """One row per cost table."""
    out = Table(title=f"energy per inference, {hw.title}", title_justify="left", caption_justify="left")
    for column in ("cost table", "dynamic", "static", "total", "host embedding", "dynamic if idle neurons are not visited"):
        out.add_column(column, justify="left" if column == "cost table" else "right")
    for e in hw.energies:
        out.add_row(*energy_cells(e))
    out.caption = "dynamic: events, packets, hops, and visits to every mapped neuron in every chip step; last column: without the idle ones"
    return out


def energy_cells(e: PlacedEnergy) -> list[str]:
    """Cost table, dynamic, static, total, host, and dynamic energy without visits to idle neurons, as text."""
    if e.counts_only:
        return [e.label, "counts only", "", "", "", ""]
    total = "refused: no price for " + ", ".join(e.unpriced) if e.unpriced else "no static power" if e.total is None else band_text(e.total)
    host = "left out" if HOST not in e.table.prices else energy_text(e.host_pj or 0.0)
    static = "left out" if e.static is None else band_text(e.static)
    mark = "partial: " if e.unpriced else ""
    idle = "visits left out" if "neuron_update" in e.table.leaves_out else mark + band_text(e.dynamic_if_skipped)
    return [e.label, mark + band_text(e.dynamic), static, total, host, idle]


def time_lines(hw: Hardware) -> list[str]:
    """Time per inference and per step, and what bounds it."""
    times = hw.times
    if times is None:
        return []
    low, middle, high = (times.to_json()["latency_s"][k] * 1e9 for k in ("p5", "p50", "p95"))
    bound, interval = float(times.bound_ns.mean()), float(times.interval_ns.mean())
    step = float(times.sum_ns.sum() / times.steps.sum())
    return [
        f"time per inference (estimate, {times.schedule}): {time_text(middle)} median, {time_text(low)} (5 %) to {time_text(high)} (95 %); "
        f"no less than {time_text(bound)}; one inference every {time_text(interval)}",
        f"{digits(float(times.steps.mean()))} chip steps of {time_text(step)} on average; most time goes to: {times.bottleneck}; "
        f"slowest op: {times.slowest}",
    ]


def noc_lines(hw: Hardware) -> list[str]:
    """Packets, hops and the fullest link."""
    load = hw.load
    if not hw.mapping.work.samples or not load.packets:
        return []
    line = f"network on chip ({hw.method} placement): {count_text(load.packets)} packets and {count_text(load.hops)} hops per inference"
    spots = load.hot_spots(1)
    if spots:
        s = spots[0]
        line += f"; fullest link: tile ({s['x']}, {s['y']}) {s['direction']}, {count_text(s['packets'])} packets"
    if hw.mapping.chips > 1:
        line += f"; {count_text(load.between_chips)} between chips"
    return [line]


def delay_text(hw: Hardware) -> list[str]:
    """What waits for its readers, and where; nothing where all comes in time."""
    found = delays.to_json(hw.work, hw.schedule, hw.chip)
    if not found["values"]:
        return []
    places = [d["place"] for d in found["sources"].values()]
    parts = [f"{places.count(p)} in {p}" for p in ("axon delays", "relay neurons") if p in places]
    parts += ["the host's integers are sent when they are needed"] if "host" in places else []
    relays = f" ({found['relay_neurons']:,} neurons, placed and priced)" if found["relay_neurons"] else ""
    return [
        f"Delay lines ({hw.schedule}): {found['values']:,} values, {found['bits']:,} bits, up to {found['steps']} chip steps, behind "
        f"{len(places)} ops: {'; '.join(parts)}{relays}. Axons of {hw.chip.name} delay up to {found['axon_delay']} steps, at no price "
        "that is known."
    ]


def beside_lines(hw: Hardware) -> list[str]:
    """What is in no total, as bands: embedded processors, writing the host's values; and the barriers' part of the static energy."""
    if hw.times is None:
        return []
    found = beside(hw.mapping, hw.times)
    texts = [("embedded processors", found.processors), ("writing the host's values", found.host_io)]
    known = [f"{name} {band_text(band)}" for name, band in texts if band is not None]
    lines = [f"beside the totals, per inference (bands): {'; '.join(known)}"] if known else []
    if found.barrier is not None:
        lines.append(f"in the static energy: {band_text(found.barrier)} fall into barriers")
    return lines


def power_text(band: Band) -> str:
    """A power in W with its band."""
    return band_text(Band(*(1e12 * v for v in (band.value, band.low, band.high)))).replace("J", "W")


def rates(hw: Hardware, rate: float) -> dict[str, AtRate]:
    """Cost table -> the net at so many inferences a second, where the table has a total; see `at_rate` for what is refused."""
    assert hw.times is not None
    found = {e.table.name: at_rate(e, hw.mapping, hw.times, rate) for e in hw.energies}
    return {n: r for n, r in found.items() if r is not None}


def rate_lines(hw: Hardware, rate: float) -> list[str]:
    """A line for each cost table with a total."""
    return [
        f"at {digits(rate)} inferences a second, {name} (estimate): {power_text(r.power)}, {band_text(r.energy)} an inference, chip busy "
        f"{digits(100 * r.busy)} % of the time" for name, r in rates(hw, rate).items()
    ] or ["at a frame rate: none of these cost tables has a total for this chip"]


def sure_lines(hw: Hardware) -> list[str]:
    """How sure the figures are: evidence of what enters."""
    chip = hw.chip
    entries = {n: e for part in (chip.limits, chip.timing, chip.power) for n, e in part.items() if e.value is not None}
    kinds = sorted({e.evidence for e in entries.values()})
    by = "; ".join(f"{k}: {', '.join(n for n, e in entries.items() if e.evidence == k)}" for k in kinds)
    unknown = [n for part in (chip.limits, chip.timing) for n, e in part.items() if e.value is None]
    lines = [f"evidence, {chip.name}: {by}"]
    if unknown:
        lines.append(f"not published and not checked: {', '.join(unknown)}")
    work = hw.mapping.work
    if work.samples and len(work.recorded) < len(work.groups):
        lines.append("Which neurons were active was not recorded: counts are spread evenly over an op's cores (--target int records it).")
    return lines


def show(hw: Hardware, console: Console) -> None:
    """Print everything."""
    console.print(fit_line(hw), markup=False, style="bold")
    console.print(utilisation_table(hw))
    for v in hw.violations[:SHOWN]:
        console.print(f"{v.op}: {v.what}\n  hint: {v.hint}", markup=False, soft_wrap=True)
    if len(hw.violations) > SHOWN:
        console.print(f"and {len(hw.violations) - SHOWN} more (--json lists them)")
    for line in (*noc_lines(hw), *time_lines(hw), *delay_text(hw)):
        console.print(line, markup=False, soft_wrap=True)
    if hw.energies:
        console.print(energy_table(hw))
        io = host_io(hw.mapping)
        events, words = count_text(io["events_in"]), count_text(io["words_out"])
        console.print(f"host I/O, not priced by any table: {events} events in, {words} words out per inference")
        for line in beside_lines(hw):
            console.print(line, markup=False, soft_wrap=True)
    for line in sure_lines(hw):
        console.print(line, markup=False, style="dim", soft_wrap=True)
