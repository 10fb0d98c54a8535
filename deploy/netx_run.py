"""A .net file and an array: run any NetX net on the integer reference or on Lava, and write what came out."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command import cli
from spikegate.command.folder_lock import alone_in
from spikegate.data.array_file import load_array
from spikegate.deploy import traffic
from spikegate.deploy.bundle import spike_bytes
from spikegate.deploy.inference import PATIENCE_S, SPIKES_MAX, bar
from spikegate.deploy.netx_input import Unit, unit_of, whole
from spikegate.deploy.targets import Target
from spikegate.deploy.timing import timing_of
from spikegate.deploy.warming import warm
from spikegate.engine.graded import count, multiplying
from spikegate.engine.record import Record
from spikegate.files import atomic, write_npz
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import COUNTERS, DeployError, Graph, Payload
from spikegate.neurons.leaky import VOLTAGE, Leaky
from spikegate.neurons.sigma_delta import Delta, Passive, Sigma
from spikegate.ops.block_input import BlockInput

TIMESTEPS_MAX = 1 << 16
LAVA = ("mapping", "gates", "protocol")  # what is None for another target


def placed(x: np.ndarray, graph: Graph) -> np.ndarray:
    """Array [samples, T, ...] or [T, ...] as [samples, T, *graph.input_shape].

    ``...`` is the file's own (channels, height, width), our (positions, channels), or as many values in a row, channel first.
    """
    shape = tuple(graph.input_shape)
    own = tuple(graph.meta.get("input_map", shape))
    size = int(np.prod(shape))
    for form in (own, shape, (size,)):
        lead = x.ndim - len(form)
        if lead in (1, 2) and x.shape[lead:] == form:
            x = x if lead == 2 else x[None]
            if form != shape and len(own) == 3:
                x = x.reshape(*x.shape[:2], own[0], -1).swapaxes(2, 3)
            return np.ascontiguousarray(x).reshape(*x.shape[:2], *shape)
    raise DeployError("--input", f"has shape {list(x.shape)}, the net takes [samples, T, {', '.join(map(str, own))}] or [T, ...]",
                      "check the order of the axes: samples, timesteps, then channels, height, width")


def prepared(path: Path, x: np.ndarray, delay_shift: bool = False) -> tuple[Graph, np.ndarray]:
    """The net, fit for the input's length and range, and the input fit for the net.

    With `delay_shift` events take a timestep to the next layer, as in SLAYER's blocks with ``delay_shift=True``.
    """
    payload = Payload(min(0, int(np.floor(x.min()))), max(1, int(np.ceil(x.max()))))
    graph = read_graph(path, payload=payload, seen=x.shape, delay_shift=delay_shift)
    x = whole(graph, x)
    payload = Payload(min(0, int(x.min())), max(1, int(x.max())))
    if "input_map" not in graph.meta:  # one of our exports: it states its timesteps
        return graph, x
    if isinstance(next(iter(graph.ops.values())), BlockInput) or not payload.binary:
        graph.input_payload = payload
    x = placed(x, graph)
    if x.shape[1] > TIMESTEPS_MAX:
        raise DeployError("--input", f"has {x.shape[1]} timesteps", f"{TIMESTEPS_MAX} at most; check the order of the axes")
    graph.timesteps = x.shape[1]
    graph.check()
    return graph, x


def run_netx(export: Path | None, input: Path | None, *, halt: str = "on", data: str | None = None, data_path: Path | None = None,
             target: str = "lava", timing: str = "algorithmic", schedule: str = "auto", mapping: str | None = None, record: str = "events",
             batch: int | None = None, protocol: str | None = None, patience: float = PATIENCE_S, as_json: bool = False,
             trace: bool = False, delay_shift: bool = False, output: Path | None = None) -> Path:
    """Run the file's net on the array `input` and write result.json, events.npz and outputs.npz; returns the folder.

    Parameters as the options of deploy/run.py.

    Raises
    ------
    DeployError
        A file that cannot be read, a layer that cannot be run exactly, an input that does not fit.
    """
    if export is None or export.is_dir() or input is None:
        raise DeployError("deploy/run.py", "--input goes with a .net file", "python deploy/run.py any.net --input x.npy")
    if not export.exists():
        raise DeployError(str(export), "no such file", "give a .net file")
    if halt == "off" or data is not None or data_path is not None:
        what = "mean nothing for a NetX file and an array"
        raise DeployError("--halt, --data, --data-path", what, "give the export folder, or leave them out")
    graph, x = prepared(export, load_array(input, whole=False), delay_shift)
    unit = unit_of(graph, x)
    last = list(graph.ops)[-1]
    keep_all = record == "spikes"
    output_bytes = 4 * len(x) * graph.timesteps * int(np.prod(graph.ops[last].out_shape))
    need = spike_bytes(graph, len(x)) if keep_all or target == "lava" else output_bytes
    if need > SPIKES_MAX:
        raise DeployError("--input", f"recording takes {need / 2**30:.1f} GiB", "give fewer samples or timesteps, or use --target int")
    at = timing_of(graph, timing, schedule, mapping, protocol)
    compiled = warm(graph, x)
    folder = output or export.parent / f"{export.stem}-run"
    with alone_in(folder), Target(target, graph, export.parent, batch=batch, patience_s=patience, trace=trace, **at.options) as chosen:
        start = time.perf_counter()
        with bar(f"{target}, {export.name}", len(x)) as progress:
            found = chosen.run(x, x, spikes=True if keep_all or chosen.network else [last],
                                progress=lambda n: progress.advance(progress.task_ids[0], n))
        seconds = time.perf_counter() - start
        messages = None if chosen.network is None else chosen.network.messages
        lava: dict[str, Any] = dict(zip(LAVA, (at.mapping, at.gates, at.protocol))) if target == "lava" else dict.fromkeys(LAVA)
        graded = count(graph, x)
        if delay_shift:
            found = as_slayer_shows(found, graph, last)
        named: dict[str, Any] = {"net": str(export), "input": str(input), "target": target, "delay_shift": delay_shift}
        named |= {"input_unit": unit.name, "input_notes": list(unit.notes), "compile_s": compiled}
        facts = named | summary(graph, found, seconds) | lava | {"graded": graded}
        written = write(folder, found, facts, last, keep_all)
        if messages is not None:
            written.append(traffic.save(folder, messages))
            facts["ports"] = traffic.facts(messages)
    if as_json:
        cli.print_json({**facts, "written": [str(folder / name) for name in written]})
        return folder
    print_ = cli.console.print
    print_(f"{export.name}: {len(graph.ops)} ops, {facts['samples']} samples, {facts['timesteps']} timesteps ({target})")
    show_unit(unit, x)
    for name, events in facts["events"].items():
        out, synaptic, updates = (events[k] for k in ("spike_out", "synop", "neuron_update"))
        print_(f"  {name:14s} {out:>12,} events out  {synaptic:>16,} synaptic  {updates:>12,} updates")
    if facts["multiplying_layers"]:
        layers, number = ", ".join(facts["multiplying_layers"]), sum(v["multiplications"] for v in graded.values())
        print_(f"  not accumulate-only: graded events reach {layers}; {number:,} multiplications", soft_wrap=True)
    print_(f"  speed          {facts['timesteps_per_s']:,.0f} timesteps/s, after {compiled:.1f} s for the compiled kernels")
    if messages is not None:
        traffic.show(messages)
    print_(f"wrote {folder}/{', '.join(written)}", soft_wrap=True)
    return folder


def show_unit(unit: Unit, x: np.ndarray) -> None:
    """The unit of the input and what is odd about its values."""
    scale = f"; SLAYER's 1.0 is {unit.ones}" if unit.ones > 1 else ""
    cli.console.print(f"  input          {unit.name}, from {x.min()} to {x.max()}{scale}", soft_wrap=True)
    for note in unit.notes:
        cli.console.print(f"  note           {note}", soft_wrap=True)


def as_slayer_shows(record: Record, graph: Graph, last: str) -> Record:
    """The record with the last layer's output a timestep later, as its own ``delay_shift`` shows it; sums over time follow."""
    if not shifts(graph, last):
        return record
    shown = np.zeros_like(record.spikes[last])
    shown[:, 1:] = record.spikes[last][:, :-1]
    cut = record.spikes[last][:, -1].reshape(len(record.logits), -1)
    return replace(record, spikes={**record.spikes, last: shown}, logits=record.logits - cut)


def shifts(graph: Graph, last: str) -> bool:
    """Whether SLAYER delays the output of the last op: not that of an average, an affine layer, a sigma-delta input or output."""
    op = graph.ops[last.removesuffix(".delay")]
    neuron = getattr(op, "neuron", None)
    decoded = neuron is None or isinstance(neuron, (Delta, Passive, Sigma)) or (isinstance(neuron, Leaky) and neuron.output == VOLTAGE)
    return not decoded


def summary(graph: Graph, record: Record, seconds: float) -> dict[str, Any]:
    """Figures of the run, JSON ready; events are totals over all samples."""
    totals = record.counts.sum((0, 1))
    return {
        "samples": len(record.exit_step),
        "timing": record.meta or {"timing": "algorithmic"}, "timesteps": graph.timesteps,
        "output": record.ops[-1], "multiplying_layers": multiplying(graph),
        "events": {name: dict(zip(COUNTERS, map(int, row))) for name, row in zip(record.ops, totals)},
        "prediction": record.prediction.tolist(), "seconds": seconds,
        "timesteps_per_s": len(record.exit_step) * graph.timesteps / seconds,
    }


def write(folder: Path, record: Record, facts: dict[str, Any], last: str, keep_all: bool) -> list[str]:
    """Write the files, each atomically; returns their names."""
    names = ["result.json", "events.npz", "outputs.npz"] + (["spikes.npz"] if keep_all else [])
    record.save(folder / names[1])
    write_npz(folder / names[2], outputs=record.spikes[last], total=record.logits)
    if keep_all:
        record.save_spikes(folder / names[3])
    with atomic(folder / names[0]) as part:
        part.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    return names
