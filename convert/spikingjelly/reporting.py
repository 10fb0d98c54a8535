"""What the import changed: spikes of the float model beside those of the integers, layer by layer, and both accuracies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn

from spikegate.convert.spikingjelly.plan import Plan
from spikegate.convert.spikingjelly.running import recorded, reset, shaped
from spikegate.engine import integer
from spikegate.fidelity import APPROXIMATE, EXACT, told
from spikegate.graph.ir import INPUT, Graph

WHOLE = ("max_pool", "sdsa", "qk_token_gate", "qk_channel_gate", "multiscale_gate")  # ORs, ANDs and counts of bits
TRACKED = 16  # images that are followed element by element at a time
BATCH = 128


@dataclass
class LayerReport:
    """One layer: share of (neuron, timestep) cells that spike in float and in integers, and share of cells that agree, in value, too.

    `alone`: the share that agrees when the layer gets the float net's spikes, so that only its own rounding counts.
    """

    name: str
    kind: str
    neurons: int
    float_rate: float
    int_rate: float
    agreement: float
    alone: float

    @property
    def fidelity(self) -> str:
        """Exact where bits go through an op of no number that could be rounded, and do so on the images; else approximate."""
        return EXACT if self.kind in WHOLE and self.alone == 1.0 else APPROXIMATE


def float_spikes(model: nn.Module, images: torch.Tensor, form: str, timesteps: int) -> dict[str, np.ndarray]:
    """Spikes of every layer of the plan, uint8 [N, T, positions, channels]."""
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(images), TRACKED):
        for name, spikes in recorded(model, images[start : start + TRACKED], form, timesteps)[1].items():
            found.setdefault(name, []).append(spikes.swapaxes(0, 1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def float_answers(model: nn.Module, images: torch.Tensor, form: str, timesteps: int) -> np.ndarray:
    """Class answers of the float model, int [N]; scores of several timesteps are added up."""
    answers = []
    model.eval()
    with torch.no_grad():
        for part in images.split(BATCH):
            reset(model)
            scores: Any = 0
            for _ in range(timesteps if form == "step" else 1):
                out = model(shaped(part, form, timesteps))
                out = out[0] if isinstance(out, tuple | list) else out
                scores = scores + (out.sum(0) if out.dim() == 3 else out)
            answers.append(scores.argmax(1).numpy())
    reset(model)
    return np.concatenate(answers)


def compare_layers(plan: Plan, graph: Graph, spikes: dict[str, np.ndarray], embedded: np.ndarray) -> list[LayerReport]:
    """Float spikes beside those of the integer net on the same images."""
    record = integer.run(graph, embedded, spikes=list(spikes))
    by_itself = one_by_one(graph, spikes, embedded)
    rows = []
    for name in plan.layers:
        theirs, ours = spikes[name], record.spikes[name]
        shares = (theirs != 0).mean(), (ours != 0).mean(), (theirs == ours).mean(), (theirs == by_itself[name]).mean()
        rows.append(LayerReport(name, graph.ops[name].kind, ours[0, 0].size, *shares))
    return rows


def one_by_one(graph: Graph, spikes: dict[str, np.ndarray], embedded: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of each integer layer when the layers before it send the float net's, uint8 [N, T, positions, channels]."""
    n, out = len(embedded), {name: np.zeros_like(s) for name, s in spikes.items()}
    state = {name: op.state(n) for name, op in graph.ops.items()}
    for t in range(graph.timesteps):
        framed = embedded.ndim > 1 + len(graph.input_shape)
        signals = {INPUT: embedded[:, t] if framed else embedded if t == 0 else np.zeros_like(embedded)}
        for name, op in graph.ops.items():
            if op.kind in ("readout", "exit_gate"):
                continue
            listed = {s.rstrip("*?") for s in op.slots if "*" in s}
            given = {s: tuple(signals[e.source] for e in edges) for s, edges in graph.sources(name).items()}
            sent = op.step(state[name], {s: v if s in listed else v[0] for s, v in given.items()}, np.full(n, t + 1))
            if name in spikes:
                out[name][:, t] = sent
            signals[name] = spikes[name][:, t].astype(np.int32) if name in spikes else sent
    return out


def layer_table(rows: list[LayerReport], images: int) -> Table:
    """The rows as a table."""
    table = Table(title=f"float against integers on {images} validation images", title_justify="left", box=None)
    for column in ("layer", "type"):
        table.add_column(column, no_wrap=True)
    for column in ("neurons", "float rate", "int rate", "agreement", "alone"):
        table.add_column(column, justify="right")
    table.add_column("fidelity", no_wrap=True)
    for r in rows:
        shares = (f"{100 * v:.2f} %" for v in (r.float_rate, r.int_rate, r.agreement, r.alone))
        table.add_row(r.name, r.kind, f"{r.neurons:,}", *shares, told(r.fidelity, r.agreement))
    return table


def as_json(rows: list[LayerReport]) -> list[dict[str, Any]]:
    def plain(r: LayerReport) -> dict[str, Any]:
        return {k: float(v) if isinstance(v, float | np.floating) else v for k, v in asdict(r).items()}

    return [plain(r) | {"fidelity": r.fidelity} for r in rows]
