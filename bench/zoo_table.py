"""python bench/zoo_table.py: the tables of trained nets in README.md and docs/zoo.md, from runs of the zoo's nets on their test images."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikegate.command import cli

TABLES = ("paper45", "loihi1-davies", "loihi2-pilotnet")
TWIN = "spikformer-fashion"
NETS = {  # row -> (net, what it does, halting off)
    "spikformer-fashion": ("spikformer-fashion", "static", False),
    "dts_vit-fashion": ("dts_vit-fashion", "each layer in 3 of 4 timesteps", False),
    "at_snn-fashion": ("at_snn-fashion", "token halting, merging, calibrated exits", False),
    "stas-fashion-off": ("stas-fashion", "halting off", True),
    "stas-fashion": ("stas-fashion", "token halting and calibrated exits", False),
}
PAGES = {"README.md": ("spikformer-fashion", "at_snn-fashion", "stas-fashion"), "docs/zoo.md": tuple(NETS)}
Row = dict[str, Any]


@dataclass
class Args:
    """Each net runs on the integer engine; energies with visits to idle neurons, and beside them without."""

    data_path: Path | None = None
    """Local copy of Fashion-MNIST, as train/run.py's --data.path."""
    images: int | None = None
    """First test images; all of them if left out. Fewer are no table for the documentation."""
    update_docs: bool = False
    """Write the tables into README.md and docs/zoo.md, at their markers."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/zoo.json if left out."""


def main() -> None:
    """Parse the command line, run, print and write."""
    args = cli.parse(Args, "Tables of the trained nets that come with the package.")
    from bench import interleaved
    from spikegate.graph.ir import DeployError

    if args.update_docs and args.images is not None:
        raise DeployError("--update-docs", "with --images", "the tables of the documentation are of all test images")
    rows = {name: measured(net, off, args.data_path, args.images) for name, (net, _, off) in NETS.items()}
    path = interleaved.keep("zoo", None, {"rows": rows, "machine": interleaved.machine()}, args.output)
    if args.update_docs:
        root = Path(__file__).parents[1]
        for page, shown in PAGES.items():
            update(root / page, {n: rows[n] for n in shown})
    if args.json:
        cli.print_json(rows)
        return
    cli.console.print(markdown(rows), markup=False, soft_wrap=True)
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(name: str, off: bool, data: Path | None, images: int | None) -> Row:
    """Run a net and price it by `TABLES`: pJ per inference with bands, with and without visits to idle neurons."""
    from spikegate.command.runs import ZOO
    from spikegate.data.shipped import open_images
    from spikegate.deploy.bundle import without_halting
    from spikegate.engine import integer
    from spikegate.formats.host import Host
    from spikegate.formats.manifest import read_manifest
    from spikegate.formats.netx.graph_file import read_graph
    from spikegate.hw_sim.energy.cost_tables import load_tables
    from spikegate.hw_sim.energy.ledger import NetInfo
    from spikegate.hw_sim.energy.pricing import price

    folder = ZOO / name
    manifest, graph = read_manifest(folder), read_graph(folder / "model.net")
    found = open_images(folder, manifest, "test" if images is None else f"test:{images}", data)
    record = integer.run(without_halting(graph) if off else graph, Host(folder / "embedding.onnx").encode(found.x), found.y)
    energies = {t.name: price(record, NetInfo.from_manifest(manifest), t) for t in load_tables(list(TABLES))}
    return {
        "images": len(found.x), "accuracy": record.accuracy, "tokens": record.mean_tokens, "timesteps": record.mean_timesteps,
        "chip_events": float(record.chip_events.mean()), "net": manifest["sha256"]["model.net"],
        "energy": {n: {"chip_pj": vars(e.chip), "skipped_pj": vars(e.skipped), "host_pj": e.host_pj} for n, e in energies.items()},
    }  # fmt: skip


def markdown(rows: dict[str, Row]) -> str:
    """The table; changes against the twin are taken end by end of the prices' bands, and in words where the band holds zero."""
    from spikegate.hw_sim.energy.band import Band
    from spikegate.hw_sim.energy.units import band_text, saving_text

    images = next(iter(rows.values()))["images"]
    skip = "if idle neurons are not visited"
    titles = (f"net (Fashion-MNIST, {images:,} test images)", "accuracy", "tokens", "timesteps", "chip events", "chip, paper45",
              "chip, loihi1-davies", skip, "chip, loihi2-pilotnet (estimate)", skip, "against the static twin")
    out = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]

    def band(row: Row, table: str, which: str) -> Band:
        return Band(**row["energy"][table][which])

    for name, r in rows.items():
        net, what, _ = NETS[name]
        last, facts = TABLES[-1], (f"{100 * r['accuracy']:.2f} %", f"{100 * r['tokens']:.3g} %", f"{r['timesteps']:.2f}")
        cells = [f"`{net}`, {what}", *facts]
        cells += [f"{r['chip_events']:,.0f}", band_text(band(r, "paper45", "chip_pj"))]
        for table in TABLES[1:]:
            cells += [band_text(band(r, table, which)) for which in ("chip_pj", "skipped_pj")]
        twin = rows[TWIN]
        saved, skipped = (band(twin, last, w) - band(r, last, w) for w in ("chip_pj", "skipped_pj"))
        change = saving_text(saved, band(twin, last, "chip_pj")), saving_text(skipped, band(twin, last, "skipped_pj"))
        cells.append("-" if name == TWIN else f"{change[0]}; not visited: {change[1]}")
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def update(path: Path, rows: dict[str, Row]) -> None:
    """Write the table between ``<!-- zoo:table -->`` and ``<!-- end -->``; a DeployError where a page has no such place."""
    from bench.table import fill
    from spikegate.files import atomic
    from spikegate.graph.ir import DeployError

    text = path.read_text(encoding="utf-8")
    if "<!-- zoo:table -->" not in text:
        raise DeployError(str(path), "has no marker of the zoo's table", "write <!-- zoo:table --> and <!-- end --> on two lines")
    with atomic(path) as part:
        part.write_text(fill(text, lambda key: markdown(rows) if key == "zoo:table" else None), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
