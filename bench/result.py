"""What a net's files say, as one small JSON: read from its run folder after training, export, deployment, comparison and pricing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.masks import mean_layer_timesteps


def result_of(folder: Path) -> dict[str, Any]:
    """Figures of a run, means over the test set.

    ``energy`` and ``saving`` are pJ per inference by cost table, chip and host apart, visits to idle neurons in the chip's and
    ``chip_if_skipped_pj`` without them; ``saving.rows_pj`` split the chip's difference
    to the twin (`spikegate.hw_sim.energy.saving`). ``mean_layer_timesteps`` is None without timestep masks.
    """
    metrics, manifest = _read(folder / "metrics.json"), _read(folder / "export" / "manifest.json")
    on, figures = _read(folder / "deploy" / "result.json"), _read(folder / "report" / "energy.json")
    halting = bool(manifest["halting"])
    off = _read(folder / "deploy" / "result_off.json") if halting else None
    nets = figures["nets"]
    return {
        "parameters": manifest["parameters"],
        "timesteps": manifest["timesteps"],
        "halting": halting,
        "images": on["images"],
        "accuracy": {"torch": metrics["test"]["accuracy"], "deployed": on["accuracy"], "halt_off": off and off["accuracy"]},
        "mean_tokens": on["mean_tokens"],
        "mean_timesteps": on["mean_timesteps"],
        "mean_layer_timesteps": mean_layer_timesteps(read_graph(folder / "export" / "model.net")),
        "chip_events": on["chip_events_per_inference"],
        "halt_off_chip_events": off and off["chip_events_per_inference"],
        "images_per_s": on["images_per_s"],
        "energy": _energy(nets[figures["main"]]),
        "halt_off_energy": _energy(nets["halt_off"]) if "halt_off" in nets else None,
        "saving": _saving(figures),
        "exact": {
            name: {k: found[k] for k in ("targets", "images", "equal", "spikes", "values")}
            for name, path in (("int", "exact.json"), *((key, f"exact_{key}.json") for key in ("lava", "lava_block", "lava_op")))
            if (folder / path).is_file() and (found := _read(folder / path))
        },
        "machine": metrics["machine"],
    }


def _energy(net: dict[str, Any]) -> dict[str, Any]:
    kept = ("chip_pj", "host_pj", "partial", "chip_band_pj", "chip_if_skipped_pj", "idle_visits_known")
    return {name: {k: e[k] for k in kept if k in e} for name, e in net["energy"].items()}


def _saving(figures: dict[str, Any]) -> dict[str, Any] | None:
    saving = figures["saving"]
    if saving is None or saving["baseline"] != "static":
        return None
    return {name: {k: e[k] for k in ("before_pj", "after_pj", "rows_pj")} for name, e in saving["energy"].items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
