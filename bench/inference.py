"""python bench/inference.py: images per second of the zoo's nets: integer engine, Lava, torch, a float twin in SpikingJelly."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import contextlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from spikegate.command import cli
from spikegate.graph.ir import DeployError

SPIKINGJELLY, TORCH = "spikingjelly, float", "torch eval"
GATES_INSIDE = "lava chip, gates inside"
CONTESTANTS = ("int", "lava chip", "lava block", "lava op", TORCH, SPIKINGJELLY)


@dataclass
class Args:
    """All contestants run alternately on the same images, medians over the rounds; one thread each, Lava one for each process."""

    nets: Annotated[tuple[str, ...], tyro.conf.Positional] = (
        "spikformer-digits", "stas-digits", "stas-exit-digits", "spikformer-fashion", "stas-fashion",
    )
    """Nets of the zoo."""
    batches: tuple[int, ...] = (1, 64)
    """Images in flight (in Lava, where several processes hold the net: of each of the two groups)."""
    contestants: tuple[str, ...] = CONTESTANTS
    """Who takes part."""
    repeats: int = 3
    """Turns."""
    images: int = 2048
    """Images of a round at the largest batch (the test set, over and over); a batch of 1 gets an eighth."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/inference.json if left out. Nets that were not timed now stay as they are there."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Images per second of the zoo's nets.")
    for odd in sorted({*args.contestants} - {*CONTESTANTS}):
        raise DeployError("--contestants", f"unknown: {odd!r}", f"choose from {', '.join(CONTESTANTS)}")
    if min(args.repeats, args.images, *args.batches) < 1:
        raise DeployError("--repeats", "a count is less than 1", "give at least 1")
    import torch

    from bench import interleaved, zoo_nets

    torch.set_num_threads(1)
    rows = {}
    for name in args.nets:
        net = zoo_nets.load(name, args.images)
        found = {}
        for batch in args.batches:
            interleaved.progress(f"{name}, batch {batch}")
            found[str(batch)] = measured(net, batch, args.contestants, args.repeats)
        rows[name] = {"batches": found, "adaptive": net.adaptive, "repeats": args.repeats, "machine": interleaved.machine(),
                      "gates_inside": ["lava chip"]}
        rows[name]["targets"] = targets(name, rows[name])
        path = interleaved.keep("inference", name, rows[name], args.output)
    if args.json:
        cli.print_json(rows)
        return
    show(rows)
    interleaved.show_targets([t for r in rows.values() for t in r["targets"]])
    interleaved.show_machine(next(iter(rows.values())))
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(net: Any, batch: int, names: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Milliseconds for each image of every contestant and its ratio to the integer engine; equality of all integer runs."""
    import time

    import numpy as np

    from bench import interleaved
    from spikegate.deploy.network.network import Network
    from spikegate.engine import integer

    count = len(net.images) if batch > 1 else max(1, len(net.images) // 8)
    images, x = net.images[:count], net.embedded[:count]
    calls: dict[str, Callable[[], Any]] = {}
    facts: dict[str, Any] = {"images": count}
    left_out, networks = [], {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == "int":
                calls[name] = lambda: integer.run(net.graph, x, batch=batch)
            elif name.startswith("lava "):
                network = stack.enter_context(Network(net.graph, name.removeprefix("lava "), batch, patience_s=120))
                networks[name], calls[name] = network, lambda network=network: network.run(x)
                record, reference = network.run(x), integer.run(net.graph, x, batch=batch)
                same = all(np.array_equal(getattr(record, f), getattr(reference, f)) for f in ("counts", "logits", "exit_step"))
                facts[f"{name} equals int"] = same
            elif name == TORCH:
                calls[name] = torch_call(net.trained(), images, batch)
            elif importlib.util.find_spec("spikingjelly") is None:
                left_out.append("spikingjelly: not installed")
            else:
                from bench.twin import FloatTwin, agreement

                twin = FloatTwin(net.graph).eval()
                facts["twin predicts the same"] = agreement(twin, net.graph, x)
                calls[name] = torch_call(twin, x, batch)
        times = interleaved.interleaved(calls, repeats)
        alone = interleaved.interleaved({n: c for n, c in calls.items() if n not in networks}, repeats, time.process_time)
        for name, network in networks.items():
            alone |= interleaved.interleaved({name: calls[name]}, repeats, interleaved.processor(network.pulses.pids()))
    ms = {n: 1000 * interleaved.median(t) / count for n, t in times.items()}
    ratios = {n: interleaved.ratio(times, n, "int") for n in times} if "int" in times else {}
    return {"ms_per_image": ms, "images_per_s": {n: 1000 / v for n, v in ms.items()}, "times_int": ratios, "left_out": left_out,
            "times_int_processor": {n: interleaved.ratio(alone, n, "int") for n in alone} if "int" in alone else {},
            "ms_per_image_processor": {n: 1000 * interleaved.median(t) / count for n, t in alone.items()}, **facts}


def torch_call(net: Any, x: Any, batch: int) -> Callable[[], None]:
    """Inference of a torch module without gradients, batch by batch."""
    import torch

    def call() -> None:
        with torch.no_grad():
            for start in range(0, len(x), batch):
                net(torch.from_numpy(x[start : start + batch]))

    return call


def targets(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Lava block within 1.3x of int at batch 64, 3x at batch 1, chip within 1.2x and 2x; on adaptive nets int twice SpikingJelly's speed at
    batch 1, not slower at 64."""
    from bench.interleaved import verdict

    found = []
    for batch, mappings, least in (("1", {"block": 3.0, "chip": 2.0}, 2.0), ("64", {"block": 1.3, "chip": 1.2}, 1.0)):
        part = row["batches"].get(batch, {})
        ratios, alone = part.get("times_int", {}), part.get("times_int_processor", {})
        for mapping, most in mappings.items():
            if f"lava {mapping}" in ratios:
                inside = " (gates inside)" if mapping == "chip" else ""
                what = f"{name}, batch {batch}: Lava {mapping}'s time{inside} over int's"
                found.append(verdict(what, ratios[f"lava {mapping}"], most, most=True))
        if SPIKINGJELLY in alone and row["adaptive"]:  # both on one thread: the processor's time, which other programs change less
            found.append(verdict(f"{name}, batch {batch}: SpikingJelly's time over int's", alone[SPIKINGJELLY], least))
    return found


def show(rows: dict[str, Any]) -> None:
    """Images per second."""
    table = Table(box=None, pad_edge=False, title="images per second", title_justify="left")
    names = [n for n in CONTESTANTS if any(n in b["images_per_s"] for r in rows.values() for b in r["batches"].values())]
    for title in ("net", "batch", *(GATES_INSIDE if n == "lava chip" else n for n in names)):
        table.add_column(title, justify="left" if title == "net" else "right")
    for name, row in rows.items():
        for batch, found in row["batches"].items():
            table.add_row(name, batch, *(f"{found['images_per_s'][n]:.0f}" if n in found["images_per_s"] else "-" for n in names))
    cli.console.print(table)
    shown = [n for n in names if n.startswith("lava")]
    if shown and all("int" in b["times_int_processor"] for r in rows.values() for b in r["batches"].values()):
        _show_processor(rows, shown)


def _show_processor(rows: dict[str, Any], names: list[str]) -> None:
    """Processor time of all Lava processes together over the integer engine's: other programs on the machine change it less."""
    table = Table(box=None, pad_edge=False, title="processor time over int's, all processes together", title_justify="left")
    for title in ("net", "batch", *(GATES_INSIDE if n == "lava chip" else n for n in names)):
        table.add_column(title, justify="left" if title == "net" else "right")
    for name, row in rows.items():
        for batch, found in row["batches"].items():
            ratios = found["times_int_processor"]
            table.add_row(name, batch, *(f"{ratios[n]:.2f}" if n in ratios else "-" for n in names))
    cli.console.print(table)


if __name__ == "__main__":
    cli.run(main)
