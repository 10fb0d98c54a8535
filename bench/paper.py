"""python bench/paper.py: a net of published size (random weights) in Lava: time and memory of one CIFAR-shaped image."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from spikegate.command import cli
from spikegate.graph.ir import DeployError

MEMORY_GB = 8
CONF = Path(__file__).parents[1] / "conf" / "published"


@dataclass
class Args:
    """Random weights, norms with the statistics of a batch so that neurons spike; equality with the integer engine is checked."""

    net: Annotated[str, tyro.conf.Positional] = "spikformer-4-384"
    """A file of conf/published, without its ending."""
    mapping: Literal["op", "block", "chip"] = "chip"
    """What one Lava process holds; chip: the net, gates inside."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/paper.json if left out. Nets that were not run now stay as they are there."""


def main() -> None:
    """Parse the command line, run, print and write."""
    args = cli.parse(Args, "A net of published size in Lava.")
    if not (CONF / f"{args.net}.yml").is_file():
        known = ", ".join(sorted(p.stem for p in CONF.glob("*.yml")))
        raise DeployError("net", f"unknown: {args.net!r}", f"choose from {known}")
    from bench import interleaved

    found = measured(args.net, args.mapping)
    path = interleaved.keep("paper", args.net, found, args.output)
    if args.json:
        cli.print_json(found)
        return
    f, gates = found, ", gates inside" if args.mapping == "chip" else ""
    lines = (
        f"{args.net}, {args.mapping} mapping{gates}: {f['ops']} ops, {f['neurons']:,} neurons, {f['chip_events']:,.0f} chip events",
        f"  Lava {f['lava_s']:.2f} s an image (start {f['start_s']:.2f} s), integer engine {f['int_s']:.2f} s; equal: {f['equal']}",
        f"  memory {f['memory_gb']:.2f} GB: parent (torch, Lava, graph) {f['parent_gb']:.2f}, processes {f['children_gb']:.2f}",
    )
    for line in lines:
        cli.console.print(line, markup=False, soft_wrap=True)
    interleaved.show_targets([found["target"]])
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(name: str, mapping: str) -> dict[str, Any]:
    """Build, export, read back, run one image on the engine and in Lava, and add up the memory of all processes."""
    import numpy as np

    from bench import interleaved
    from spikegate.deploy.network.network import Network
    from spikegate.engine import integer

    with tempfile.TemporaryDirectory() as scratch:
        graph, x = exported(name, Path(scratch) / "model.net")
    integer.warm(graph)
    start = time.perf_counter()
    reference = integer.run(graph, x)
    int_s = time.perf_counter() - start
    start = time.perf_counter()
    with Network(graph, mapping, 1, patience_s=300) as network:
        started = time.perf_counter()
        record = network.run(x)
        lava_s = time.perf_counter() - started
        parent, children = memory_gb()
    equal = bool(np.array_equal(record.counts, reference.counts) and np.array_equal(record.logits, reference.logits))
    total = parent + children
    return {
        "ops": len(graph.ops), "neurons": sum(op.size.neurons for op in graph.ops.values()), "timesteps": graph.timesteps,
        "mapping": mapping, "chip_events": float(record.chip_events.mean()), "int_s": int_s, "lava_s": lava_s, "start_s": started - start,
        "equal": equal, "memory_gb": total, "parent_gb": parent, "children_gb": children, "machine": interleaved.machine(), "repeats": 1,
        "target": interleaved.verdict(f"{name}: GB of memory", total, MEMORY_GB, most=True),
    }  # fmt: skip


def exported(name: str, path: Path) -> tuple[Any, Any]:
    """The graph, read back from a file, and one embedded image int32 [1, positions, channels]."""
    import torch

    from spikegate.formats.netx.graph_file import read_graph, write_graph
    from spikegate.train import models
    from spikegate.train.layers.folding import FoldedNorm
    from spikegate.train.settings.options import from_yaml

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = models.build(from_yaml(CONF / f"{name}.yml").model, (3, 32, 32), 10, 255)
    net.modules_aside = torch.nn.ModuleList()
    for module in net.modules():
        if isinstance(module, FoldedNorm):
            module.momentum = 1.0
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net(x)
        net.set_phase("deployed")
        write_graph(net.graph(), path)
        return read_graph(path), net.stem(x[:1]).int().numpy()


def memory_gb() -> tuple[float, float]:
    """Memory of this process and of its children, GB; pages that they share are divided among them (Linux)."""
    own, found = os.getpid(), [0.0, 0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if int(folder.name) == own or parent == own:
                size = re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.M)
                found[int(folder.name) != own] += int(size[1]) * 1024 / 1e9 if size else 0.0
        except (OSError, ValueError):
            continue
    return found[0], found[1]


if __name__ == "__main__":
    cli.run(main)
