"""One image of a run with packets that wait for each other, by our own queues or by SANA-FE: time of every chip step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.delays import LINE, with_relays
from spikegate.hw_sim.chip.hardware import Hardware
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.hw_sim.energy.cost_tables import CostTable
from spikegate.hw_sim.energy.measured import find_measured
from spikegate.hw_sim.page.examples import look_at
from spikegate.hw_sim.sanafe import adapter
from spikegate.hw_sim.sanafe.queueing import queued
from spikegate.hw_sim.sanafe.replay import Costs, Played, costs_of, replay_of, simple
from spikegate.hw_sim.tables.chip_tables import time_text

OWN = "sanafe-loihi"  # SANA-FE's Loihi figures instead of the chip profile's
QUEUES = "queues"  # our own model of the queues, without SANA-FE
CHOICES = ("none", QUEUES, "sanafe", OWN)
MOST_NEURONS = 250_000
LEFT_OUT = (
    "events from the host", "payloads: a graded event is one packet",
    "which event an attention, a gate or a graded value works for: such accumulates are spread over the events that reach a core",
    "delays of axons: an event is received when it is sent, also where its reader computes later",
    "the pause between chips beyond their hops",
)


def detailed(run: Path | None, hw: Hardware, tables: list[CostTable], which: str) -> dict[str, Any]:
    """Figures of the image of a run whose work lies in the middle, on the cores and slots of `hw`.

    Raises
    ------
    DeployError
        Without the package, for a net that is too large for it, without images, or where its counts are not the ledger's.
    """
    net = find_measured(run)
    version = "" if which == QUEUES else getattr(adapter.package(), "__version__", None) or _installed()
    neurons = int(hw.mapping.neurons.sum())
    if which != QUEUES and neurons > MOST_NEURONS:
        what = f"{neurons:,} neurons, and SANA-FE keeps each as an object"
        raise DeployError("--noc", what, f"replay a net of at most {MOST_NEURONS:,} neurons")
    graph = read_graph(net.export / "model.net")
    index, images = look_at(net, 3)
    middle = len(index) // 2
    record = integer.run(graph, open_host(net.export, graph, net.manifest).encode(images[middle : middle + 1]), spikes=True)
    mapping = Mapping(hw.chip, with_relays(workload_of(graph, record), hw.schedule, hw.chip), hw.mapping.cuts)
    schedule = hw.times.schedule if hw.times is not None else "wait"
    spikes = {g.name: record.spikes[g.name.partition(LINE)[0]][0] for g in mapping.work.groups}
    replay = replay_of(mapping, hw.placement, spikes, schedule)
    costs, label = _costs(hw, tables, which)
    ours, waits = simple(replay, costs), queued(replay, costs)
    theirs = waits if which == QUEUES else adapter.play(replay, costs)
    differ = differences(ours, theirs)
    if differ:
        raise DeployError("--noc", f"SANA-FE and the ledger disagree on {', '.join(differ)}", "please report it with this net")
    return {
        "simulator": "own queues" if which == QUEUES else f"SANA-FE {version}", "figures_of": label,
        "time_queues_s": waits.time_s, "image": int(index[middle]), "schedule": schedule,
        "chip_steps": replay.steps, "packets": theirs.packets, "hops": theirs.hops, "accumulates": theirs.events,
        "time_simple_s": ours.time_s, "time_detailed_s": theirs.time_s, "step_detailed_s": theirs.step_s.tolist(),
        "energy_j": {"synapse": theirs.synapse, "soma": theirs.soma, "network": theirs.network}, "left_out": list(LEFT_OUT),
    }  # fmt: skip


def differences(a: Played, b: Played) -> list[str]:
    """Components, packets and hops in which two replays differ (energies by more than 1e-9 relative)."""
    names = [n for n in ("synapse", "soma", "network") if not np.isclose(getattr(a, n), getattr(b, n), rtol=1e-9, atol=0)]
    return names + [n for n in ("packets", "hops") if getattr(a, n) != getattr(b, n)]


def show(found: dict[str, Any], console: Console) -> None:
    """Two lines."""
    plain, waiting = found["time_simple_s"] * 1e9, found["time_detailed_s"] * 1e9
    text = (
        f"{found['simulator']}, {found['figures_of']}, image {found['image']}: {time_text(waiting)} ({found['schedule']}) with packets "
        f"that wait for each other, {time_text(plain)} without ({100 * (waiting / plain - 1):+.1f} %); {found['packets']:,} packets and "
        f"{found['hops']:,} hops, as counted here"
    )
    if found["simulator"].startswith("SANA-FE"):
        own = found["time_queues_s"] * 1e9
        text += f"; by our own queues {time_text(own)} ({100 * (own / waiting - 1):+.2f} %)"
    console.print(text, soft_wrap=True, markup=False)
    console.print(f"  not in it: {'; '.join(found['left_out'])}", soft_wrap=True, markup=False, style="dim")


def _costs(hw: Hardware, tables: list[CostTable], which: str) -> tuple[Costs, str]:
    if which == OWN:
        return adapter.loihi_costs(), "its own Loihi figures"
    table = next((t for t in tables if "message" in t.prices), None)
    if table is None:
        raise DeployError("--noc", "none of the cost tables prices a packet", "add --costs loihi1-davies")
    return costs_of(hw.chip, table, hw.mapping.chips), f"times of {hw.chip.name} (estimate), prices of {table.label}"


def _installed() -> str:
    from importlib.metadata import version

    return version("sanafe")
