"""spikegate compile: compile the integer kernels that the nets of the zoo need, so that no first run has to wait for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spikegate.command import cli
from spikegate.command.runs import ZOO, zoo_names


@dataclass
class Args:
    """Kernels are kept beside the package, or where that cannot be written in the user's cache folder; $NUMBA_CACHE_DIR moves them."""

    quiet: bool = False
    """Print nothing unless something goes wrong."""


def compile_all(progress: Callable[[int, int, str], None] | None = None) -> None:
    """Run one made-up image through each net of the zoo: in algorithmic timing and in chip steps, one at a time and in batches.

    `progress` is told (nets done, nets, name of the next).
    """
    from spikegate.engine import integer
    from spikegate.engine.chip_time import chip_run, schedule
    from spikegate.formats.netx.graph_file import read_graph
    from spikegate.kernels import counting, scatter
    from spikegate.kernels.compiling import ALL

    for kind in (np.int32, np.uint8):  # between Lava's processes spikes travel as bytes
        scatter.ends(np.zeros((1, 1, 1), kind))
        counting.active(np.zeros((1, 1), kind), *counting.by_timestep(np.ones(1, np.int64)), np.zeros(1, np.int32))
    names, rng = zoo_names(), np.random.default_rng(0)
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names), name)
        graph = read_graph(ZOO / name / "model.net")
        low, high = max(graph.input_payload.low, -255), min(graph.input_payload.high, 255)
        x = rng.integers(low, high + 1, (2, *graph.input_shape)).astype(np.int32)
        for batch in (1, 2):
            integer.run(graph, x[:batch], np.zeros(batch, np.int64), batch=batch)
        integer.run(graph, x, batch=2, spikes=True)
        wanted = "pipelined" if schedule.pipeline_safe(graph) else "wait"
        chip_run.run(schedule.schedule(graph, wanted), x, batch=2, spikes=True)
    if ALL.parent.is_dir():
        ALL.touch()


def main() -> None:
    """Compile and say how long it took and where the kernels lie."""
    args = cli.parse(Args, "Compile the integer kernels ahead.")
    from spikegate.kernels.compiling import ALL, FOLDER

    start, ready = time.perf_counter(), ALL.is_file()
    live = sys.stderr.isatty()

    def told(done: int, total: int, name: str) -> None:
        if args.quiet:
            return
        if live:
            print(f"\r\x1b[Kcompiling the integer kernels: net {done + 1} of {total}, {name}", end="", file=sys.stderr, flush=True)
        elif not done and not ready:
            print("compiling the integer kernels, once for this version: up to a minute", file=sys.stderr, flush=True)

    compile_all(told)
    if args.quiet:
        return
    if live:
        print("\r\x1b[K", end="", file=sys.stderr)
    cli.console.print(f"kernels ready after {time.perf_counter() - start:.1f} s, kept in {FOLDER}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
