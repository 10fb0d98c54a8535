"""python deploy/run.py [EXPORT]: run an exported net on Lava's CPU simulator (or the integer reference) and record its events."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not deploy/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli
from spikegate.errors import DeployError


@dataclass
class Args:
    """Deploy an exported net and record what happens."""

    export: Annotated[Path | None, tyro.conf.Positional] = None
    """Export folder, or the run that holds it; the newest one if left out. With --input, any NetX file of lava-dl 0.6.0."""
    input: Path | None = None
    """Array (.npy) for a NetX file: spikes or graded events [samples, T, ...] or [T, ...], ... as in the file (C, H, W). An input block
    takes an image of floats, as SLAYER does, or of integers in 1/64."""
    delay_shift: bool = False
    """For a NetX file whose SLAYER blocks had delay_shift=True (SLAYER's default, which no file states): events take one timestep to the
    next layer, and the output is what SLAYER's forward shows."""
    data: str | None = None
    """Split and number of images: test, test:64, validation, train. Left out: the images that come with the net, or all of test."""
    data_path: Path | None = None
    """Local copy of the data set: its folder or npz file. Left out: what the export says, else a download."""
    target: Literal["lava", "int", "torch"] = "lava"
    """Lava processes, the integer reference (equal, and faster), or the trained net in torch (equal, and on a GPU where there is one)."""
    device: str | None = None
    """With --target torch: cpu, cuda, cuda:N, or auto (a GPU if there is one). Left out: cpu."""
    timing: Literal["algorithmic", "loihi"] = "algorithmic"
    """algorithmic: one step is one timestep; loihi: one step is one chip step, and every synaptic hop takes one."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """With --timing loihi: timesteps as close as feedback allows, or each after the one before; auto pipelines where halting allows."""
    mapping: Literal["op", "block", "chip"] | None = None
    """What one Lava process holds. op: one op. block: the ops between two gates; gates and exit are processes of their own. chip: the
    net, gates inside, which is the fastest. Left out: block, or op with --timing loihi."""
    halt: Literal["on", "off"] = "on"
    """off: token gates removed and no early exit, for comparison."""
    record: Literal["events", "spikes"] = "events"
    """spikes: keep every op's spikes too."""
    batch: int | None = None
    """Samples in flight: 64 on the reference, 8 in each of two groups on Lava."""
    protocol: Literal["async", "loihi"] | None = None
    """async: each process at its own pace, the whole run in one Lava step; loihi: all in step, one Lava step for each timestep.
    Left out: async, or loihi with --timing loihi."""
    patience: float = 7.0
    """Seconds without any progress after which the process that hangs is named and all is stopped."""
    trace: bool = False
    """Write every message on every port of the Lava processes to messages.csv, and print what each port sent."""
    cluster: str | None = None
    """Share the images: local (a process for each core), local:N, or tcp://host:port of a Dask scheduler. Equal to one process."""
    json: bool = False
    """Print the result as JSON only."""
    output: Path | None = None
    """Where to write; RUN/deploy if left out."""


def main() -> None:
    """Parse the command line and deploy."""
    args = cli.parse(Args, "Run an exported net on Lava or on the integer reference.")
    if args.input is not None or (args.export is not None and args.export.is_file()):
        if args.target == "torch":
            raise DeployError("--target torch", "a NetX file has no trained form in torch", "use --target int")
        from spikegate.deploy.netx_run import run_netx

        run_netx(args.export, args.input, halt=args.halt, data=args.data, data_path=args.data_path, target=args.target, timing=args.timing,
                 schedule=args.schedule, mapping=args.mapping, record=args.record, batch=args.batch, protocol=args.protocol,
                 patience=args.patience, as_json=args.json, trace=args.trace, delay_shift=args.delay_shift, output=args.output)
        return
    if args.delay_shift:
        raise DeployError("--delay-shift", "is for NetX files of SLAYER's blocks", "our exports state their own timing: leave it out")
    from spikegate.deploy.inference import deploy

    deploy(args.export, data=args.data, data_path=args.data_path, target=args.target, timing=args.timing, schedule=args.schedule,
           mapping=args.mapping, halt=args.halt, record=args.record, batch=args.batch, protocol=args.protocol, patience=args.patience,
           as_json=args.json, trace=args.trace, output=args.output, device=args.device,
           cluster=args.cluster)


if __name__ == "__main__":
    cli.run(main)
