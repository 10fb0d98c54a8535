"""Times of a placed net image by image, each with its own events on its own cores and its own packets, instead of shares known as means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph
from spikegate.hw_sim.chip.delays import with_relays
from spikegate.hw_sim.chip.hardware import Hardware
from spikegate.hw_sim.chip.latency import PERCENTILES, latency
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.noc import route
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.hw_sim.energy.measured import find_measured
from spikegate.hw_sim.energy.units import count_text
from spikegate.hw_sim.page.examples import KEPT, from_data, read_images
from spikegate.hw_sim.tables.chip_tables import time_text

FIGURES = ("latency_s", "interval_s", "packets", "fullest_link")


def of_run(run: Path | None, hw: Hardware, images: int) -> dict[str, Any]:
    """Spread over the first `images` of a run, or over those that the deployment kept where the data is not at hand.

    Raises
    ------
    DeployError
        No images at all, an embedding that cannot be run, or a record that these images do not give.
    """
    net = find_measured(run)
    graph = read_graph(net.export / "model.net")
    number = min(images, len(net.record.counts))
    try:
        given = from_data(net, np.arange(number))
    except DeployError:
        kept = read_images(net, KEPT)
        if kept is None:
            raise
        given = kept[:number]
    rows = by_image(graph, open_host(net.export, graph, net.manifest).encode(given), hw, net.record.counts[: len(given)])
    ends = {n: {f"p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(rows[n], PERCENTILES))} for n in FIGURES}
    return {"images": len(given), **{n: {"mean": float(rows[n].mean()), **ends[n]} for n in FIGURES},
            "each": {n: rows[n].tolist() for n in FIGURES}}


def by_image(graph: Graph, embedded: np.ndarray, hw: Hardware, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`FIGURES` -> float64 [N] of embedded images [N, ...], on the cores and slots of `hw`.

    Raises
    ------
    DeployError
        If an image does not give the recorded counts [N, T, ops, COUNTERS].
    """
    out = {n: np.zeros(len(embedded)) for n in FIGURES}
    for i in range(len(embedded)):
        record = integer.run(graph, embedded[i : i + 1])
        if counts is not None and not np.array_equal(record.counts[0], counts[i]):
            raise DeployError("--by-image", f"image {i} does not give the recorded events", "run deploy/run.py again")
        mapping = Mapping(hw.chip, with_relays(workload_of(graph, record), hw.schedule, hw.chip), hw.mapping.cuts)
        times = latency(mapping, hw.placement, hw.schedule)
        load = route(hw.placement.mesh, hw.placement.slots, mapping.traffic.sum(0))
        out["latency_s"][i], out["interval_s"][i] = times.sum_ns[0] * 1e-9, times.interval_ns[0] * 1e-9
        out["packets"][i], out["fullest_link"][i] = load.packets, load.links.max(initial=0.0)
    return out


def show(found: dict[str, Any], console: Console) -> None:
    """Two lines."""
    time, packets, link = (found[n] for n in ("latency_s", "packets", "fullest_link"))
    low, middle, high = (time_text(time[k] * 1e9) for k in ("p5", "p50", "p95"))
    console.print(
        f"image by image ({found['images']}), each with its own packets: {middle} median, {low} (5 %) to {high} (95 %); packets "
        f"{count_text(packets['p50'])} ({count_text(packets['p5'])} to {count_text(packets['p95'])}), on the fullest link "
        f"{count_text(link['p50'])} ({count_text(link['p5'])} to {count_text(link['p95'])})", soft_wrap=True, markup=False,
    )
