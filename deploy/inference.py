"""Images through an exported net: load, run, write result, events, spikes and the first images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import progress as rich

from spikegate.command import cli
from spikegate.command.folder_lock import alone_in
from spikegate.command.runs import run_of, trained_in
from spikegate.data.shipped import parse_data
from spikegate.deploy import traffic
from spikegate.deploy.bundle import Bundle, load_images, open_export, spike_bytes, without_halting
from spikegate.deploy.network.message_log import Messages
from spikegate.deploy.parts import run_parts
from spikegate.deploy.targets import Progress, Target
from spikegate.deploy.timing import Timing, described, timing_of
from spikegate.deploy.warming import warm
from spikegate.engine.arguments import checked_labels
from spikegate.engine.record import Record
from spikegate.files import atomic, write_npz
from spikegate.graph.ir import DeployError
from spikegate.graph.masks import mean_layer_timesteps

PATIENCE_S = 7.0  # seconds without progress
SPIKES_MAX = 4 << 30  # bytes of memory for recorded spikes
SHOWN = 16  # images kept for the report


def bar(task: str, total: int) -> rich.Progress:
    """Progress bar on stderr; silent where that is no terminal."""
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    progress = rich.Progress(*columns, console=cli.errors, transient=True, disable=not cli.errors.is_terminal)
    progress.add_task(task, total=total)
    return progress


def deploy(export: Path | None = None, *, data: str | None = None, data_path: Path | None = None, target: str = "lava",
           timing: str = "algorithmic", schedule: str = "auto", mapping: str | None = None, halt: str = "on", record: str = "events",
           batch: int | None = None, protocol: str | None = None, patience: float = PATIENCE_S, as_json: bool = False,
           trace: bool = False, output: Path | None = None, device: str | None = None,
           cluster: str | None = None) -> Path:
    """Run the images and write the files; returns the folder that holds them. Parameters as the options of deploy/run.py.

    Raises
    ------
    DeployError
        No export, unknown data, a process that failed, too many spikes to record, another command that writes into the same folder.
    """
    parse_data(data or "test")
    bundle = open_export(export)
    opened = load_images(bundle, data, data_path)
    images, labels, split = opened.x, opened.y, opened.split
    graph = bundle.graph if halt == "on" else without_halting(bundle.graph)
    spikes = record == "spikes"
    at = timing_of(graph, timing, schedule, mapping, protocol)
    messages = Messages() if trace else None
    folder = output or run_of(bundle.folder) / "deploy"
    options: dict[str, Any] = {"target": target, "at": at, "halt": halt, "spikes": spikes, "batch": batch, "patience": patience}
    with alone_in(folder), bar(f"{target}, {split}", len(images)) as progress:

        def told(n: int) -> None:
            progress.advance(progress.task_ids[0], n)

        if cluster is None:
            found = infer(bundle, images, labels, **options, trace=messages, device=device, progress=told)
        else:
            found = _on_cluster(cluster, bundle, images, labels, options, messages is not None, told)
        found.meta |= {"split": split, "shipped": opened.shipped, "data_path": str(data_path) if data_path else None}
        found.meta |= recording_time(bundle.manifest, found)
        written = write(folder, found, images, spikes)
        if messages is not None:
            written.append(traffic.save(folder, messages, halt))
    facts = summary(found) | {"mean_layer_timesteps": mean_layer_timesteps(graph)}
    if messages is not None:
        facts["ports"] = traffic.facts(messages)
    if as_json:
        cli.print_json({**facts, "written": [str(folder / name) for name in written]})
        return folder
    where = {"lava": f"lava, {at.named}, {at.protocol}", "int": "integer reference"}.get(target, f"torch, {device or 'cpu'}")
    print_ = cli.console.print
    print_(f"{bundle.manifest['model']} on {opened.described} ({where}, halting {halt})", soft_wrap=True)
    print_(f"  accuracy           {100 * facts['accuracy']:.2f} %")
    print_(f"  mean tokens        {100 * facts['mean_tokens']:.1f} %")
    heard = f" ({facts['mean_recording_ms']:.0f} of {facts['recording_ms']:.0f} ms)" if facts.get("recording_ms") else ""
    print_(f"  mean timesteps     {facts['mean_timesteps']:.2f} of {graph.timesteps}{heard}")
    if facts["mean_layer_timesteps"] is not None:
        print_(f"  masked layers      {facts['mean_layer_timesteps']:.2f} of {graph.timesteps} timesteps open")
    print_(f"  chip events        {facts['chip_events_per_inference']:,.0f} per inference")
    if at.schedule is not None:
        print_(f"  chip steps         {facts['mean_chip_steps']:.1f} per inference ({described(facts)})", soft_wrap=True)
        if facts["void_timesteps"]:
            print_(f"  under way at exit  {facts['void_timesteps']:,} timesteps, {facts['void_events']:,} chip events", soft_wrap=True)
    print_(f"  speed              {facts['images_per_s']:.1f} inferences/s, after {facts['compile_s']:.1f} s for the compiled kernels")
    if messages is not None:
        traffic.show(messages)
    print_(f"wrote {folder}/{', '.join(written)}", soft_wrap=True)
    return folder


def recording_time(manifest: dict[str, Any], record: Record) -> dict[str, Any]:
    """Of nets that take event recordings: mean duration of a recording, and of the part of it that was run; milliseconds."""
    whole = manifest.get("recording_ms")
    if whole is None or manifest["data"].get("bin_by") != "time":
        return {}
    return {"recording_ms": whole, "mean_recording_ms": whole * record.mean_timesteps / manifest["timesteps"]}


def _on_cluster(cluster: str, bundle: Bundle, images: np.ndarray, labels: np.ndarray, options: dict[str, Any], trace: bool,
                told: Progress) -> Record:
    """As `infer`, on the workers of a cluster."""
    if trace or options["at"].schedule is not None:
        what = "--trace" if trace else "--timing loihi"
        raise DeployError("--cluster", f"does not go with {what}, which tells of one process after another", "leave one of them out")
    start = time.perf_counter()
    found = run_parts(infer, cluster, bundle.folder, images, labels, options, told)
    found.meta |= {"samples": list(range(len(images))), "images_per_s": len(images) / (time.perf_counter() - start)}
    return found


def infer(bundle: Bundle, images: np.ndarray, labels: np.ndarray | None = None, *, target: str = "int", at: Timing | None = None,
          halt: str = "on", spikes: bool = False, batch: int | None = None, patience: float = PATIENCE_S,
          trace: Messages | None = None, progress: Progress | None = None, device: str | None = None) -> Record:
    """Images uint8 [N, channels, height, width] through one target: nothing is printed or written.

    `at` is what `timing_of` found, None for algorithmic timing; `spikes` keeps every op's output, `trace` is
    filled with every message between Lava processes.

    Raises
    ------
    DeployError
        Images or options that do not fit the net, a process that failed, too many spikes to record.
    """
    graph = bundle.graph if halt == "on" else without_halting(bundle.graph)
    need = spike_bytes(graph, len(images))
    if spikes and need > SPIKES_MAX:
        fit = max(1, SPIKES_MAX // spike_bytes(graph, 1))
        raise DeployError("--record spikes", f"{len(images)} images need {need / 2**30:.1f} GiB", f"record fewer: --data test:{fit}")
    at = at or timing_of(graph)
    if target == "torch" and (halt == "off" or at.schedule is not None):
        raise DeployError("--target torch", "runs the net as it was trained: with its halting, in algorithmic timing", "use --target int")
    embedded = bundle.host.encode(images)
    labels = None if labels is None else checked_labels(graph, labels, len(embedded))
    folder = trained_in(bundle.folder) if target == "torch" else run_of(bundle.folder)
    compiled = warm(graph, embedded) if target != "torch" else 0.0
    with Target(target, graph, folder, batch=batch, patience_s=patience, trace=trace is not None, device=device, counts=True,
                **at.options) as chosen:
        start = time.perf_counter()
        found = chosen.run(images, embedded, labels, spikes=spikes, progress=progress)
        seconds = time.perf_counter() - start
        if trace is not None and chosen.network is not None and chosen.network.messages is not None:
            trace.sent = chosen.network.messages.sent
    found.labels = labels
    found.meta |= {
        "samples": list(range(len(images))), "dataset": bundle.manifest["dataset"], "target": target,
        "timing": "algorithmic" if at.schedule is None else "loihi", "mapping": at.mapping if target == "lava" else None,
        "gates": at.gates if target == "lava" else None, "protocol": at.protocol if target == "lava" else None, "halt": halt,
        "images_per_s": len(images) / seconds, "compile_s": compiled,
        "name": bundle.manifest["name"], "model": bundle.manifest["model"],
    }
    return found


def summary(record: Record) -> dict[str, Any]:
    """Figures of a record, JSON ready."""
    meta = {k: v for k, v in record.meta.items() if k not in ("samples", "chip_steps")}
    if "chip_steps" in record.meta:
        meta["mean_chip_steps"] = float(np.mean(record.meta["chip_steps"]))
    return {
        **meta, "images": len(record.exit_step), "accuracy": record.accuracy, "mean_tokens": record.mean_tokens,
        "mean_timesteps": record.mean_timesteps, "chip_events_per_inference": float(record.chip_events.mean()),
    }


def write(folder: Path, record: Record, images: np.ndarray, spikes: bool) -> list[str]:
    """Write the record's files, each atomically; files of a run without halting end in ``_off``. Returns their names."""
    mark = "" if record.meta["halt"] == "on" else "_off"
    names = [f"result{mark}.json", f"events{mark}.npz", "images.npz"]
    record.save(folder / names[1])
    if spikes:
        names.insert(2, f"spikes{mark}.npz")
        record.save_spikes(folder / names[2])
    write_npz(folder / "images.npz", images=images[:SHOWN])
    result = {**summary(record), "prediction": record.prediction.tolist(), "exit_step": record.exit_step.tolist()}
    if "chip_steps" in record.meta:
        result["chip_steps"] = record.meta["chip_steps"]
    with atomic(folder / names[0]) as part:
        part.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    return names
