"""A NIR file as a net that deploys, and an exported net as a NIR file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from spikegate.command import cli
from spikegate.command.extras import needs
from spikegate.command.runs import ROOT, find_export, in_zoo
from spikegate.data.array_file import load_array
from spikegate.errors import DeployError
from spikegate.files import atomic
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.formats.nir.report import Report
from spikegate.graph.ir import Graph


def import_nir(file: Path, output: Path | None = None, timesteps: int | None = None, *, dt: float | None = None,
               calibrate: str | None = None, reset: str = "zero", levels: int = 1, as_json: bool = False) -> Path:
    """Write the net of a NIR file as OUTPUT/model.net, what the import changed as OUTPUT/import.json; returns model.net.

    Parameters
    ----------
    timesteps, dt : of a sample; from the file where it says so
    calibrate : a .npy file of samples, or a share of spikes as a number
    reset, levels : what a spike did to the voltage in the model, and how many a timestep holds: `spikegate.formats.nir.soft`

    Raises
    ------
    DeployError
        A file that cannot be read, nodes that cannot be taken, a folder that cannot be written, or nir is missing.
    """
    if not file.is_file():
        raise DeployError(str(file), "no such file", "give a NIR file")
    if timesteps is not None and timesteps < 1:
        raise DeployError("--timesteps", f"{timesteps} is no number of timesteps", "give 1 or more")
    with needs("NIR"):
        from spikegate.formats.nir import importer

        x = samples_named(calibrate)
        graph, report = importer.import_nir(file, timesteps=timesteps, dt=dt, calibrate=x, reset=reset, levels=levels)
    return written(graph, report, (output or ROOT / file.stem) / "model.net", file.name, as_json)


def written(graph: Graph, report: Report, net: Path, name: str, as_json: bool) -> Path:
    """Write an imported net and import.json beside it, print what became of its layers; returns the net's path."""
    write_graph(graph, net)
    with atomic(net.with_name("import.json")) as part:
        part.write_text(json.dumps(report.as_json(), indent=2, sort_keys=True) + "\n")
    payload = graph.input_payload
    facts = {"net": str(net), "ops": len(graph.ops), "timesteps": graph.timesteps, "input_shape": list(graph.input_shape),
             "input_range": [payload.low, payload.high], "report": report.as_json()}
    if as_json:
        cli.print_json(facts)
        return net
    cli.console.print(report.table())
    if report.source_sums == report.source_sums:
        cli.console.print(f"  the model itself: {100 * report.source_sums:.2f} % of its summed outputs are the integers', "
                          f"{100 * report.source_answers:.2f} % of its best classes", soft_wrap=True, markup=False)
    for note in report.notes:
        cli.console.print(f"  {note}", soft_wrap=True, markup=False)
    shape = ", ".join(map(str, graph.input_shape))
    cli.console.print(f"{name}: {len(graph.ops)} ops, {graph.timesteps} timesteps; it takes integers {payload.low}..{payload.high}, "
                      f"[samples, {shape}] or [samples, timesteps, {shape}]", soft_wrap=True, markup=False)
    cli.console.print(f"wrote {net}, import.json; next: python deploy/run.py {net} --input x.npy", soft_wrap=True, markup=False)
    return net


def samples_named(given: str | None) -> np.ndarray | float | None:
    """What --calibrate names."""
    if given is None:
        return None
    if not given.endswith(".npy"):
        try:
            return float(given)
        except ValueError:
            raise DeployError("--calibrate", f"{given!r} is neither a .npy file nor a number", "give samples, or a share as 0.1") from None
    return load_array(Path(given))


def export_nir(run: Path | None, output: Path | None = None, *, as_json: bool = False) -> Path:
    """Write an exported net as NIR; returns the file.

    Raises
    ------
    DeployError
        No export, ops that NIR has no word for (all are named), a file that cannot be written, or nir is missing.
    """
    export = find_export(run)
    if output is None and in_zoo(export):
        raise DeployError(str(run), "nets of the zoo are left as they are", "name the file: --output net.nir")
    graph = read_graph(export / "model.net")
    file = output or export / "model.nir"
    if file.is_dir():
        raise DeployError(str(file), "is a folder", f"name the file: --output {file}/net.nir")
    with needs("NIR"):
        from spikegate.formats.nir.exporter import write_nir

        write_nir(graph, file)
    if as_json:
        cli.print_json({"file": str(file), "ops": len(graph.ops), "timesteps": graph.timesteps})
    else:
        cli.console.print(f"wrote {file}: {len(graph.ops)} ops (the chip's net; the host's embedding is not in it)", soft_wrap=True,
                          markup=False)
    return file
