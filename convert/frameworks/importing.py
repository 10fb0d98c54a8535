"""A model of snnTorch or Sinabs as an integer graph: its layers as NIR, the NIR import, and the model's own run beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from spikegate.convert.frameworks.neurons import neuron_of
from spikegate.convert.frameworks.watching import INPUT, Call, watch
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.nir.floats import as_positions
from spikegate.formats.nir.importer import import_graph
from spikegate.formats.nir.report import Report
from spikegate.graph.ir import Graph

SAMPLES, RATE = 16, 0.2


def nir_of(model: nn.Module, sample: torch.Tensor) -> Any:
    """``nir.NIRGraph`` of a model at dt = 1, each layer under its name in the model, resets in the metadata.

    Parameters
    ----------
    sample : float, one timestep: [1, ...] for snnTorch; for Sinabs as its layers take it, [1, T, ...] or, squeezed, [T, ...]

    Raises
    ------
    DeployError
        Naming the layers that cannot be said, each with its reason, and code of the forward that is no layer.
    """
    import nir

    axes = 2 if _timed(model) else 1
    calls = watch(model, sample, axes)
    nodes: dict[str, Any] = {INPUT: nir.Input(np.array(sample.shape[axes:]))}
    edges: list[tuple[str, str]] = []
    shapes: dict[str, tuple[int, ...]] = {INPUT: tuple(sample.shape[axes:])}
    for call in calls:
        source = call.source
        if shapes[source] != call.taken:  # x.view(len(x), -1)
            if len(call.taken) != 1:
                raise DeployError(call.name, f"reads {shapes[source]} as {call.taken}", "use nn.Flatten alone to change shapes")
            nodes[f"{call.name}.flat"] = nir.Flatten(np.array(shapes[source]), 0, -1)
            edges.append((source, f"{call.name}.flat"))
            source = f"{call.name}.flat"
        node = neuron_of(call.name, call.layer, call.sent) or _linear(call)
        nodes[call.name], shapes[call.name] = node, call.sent
        edges.append((source, call.name))
    nodes["output"] = nir.Output(np.array(calls[-1].sent))
    edges.append((calls[-1].name, "output"))
    return nir.NIRGraph(nodes, edges, type_check=False)


def _timed(model: nn.Module) -> bool:
    """Whether signals have an axis of time beside the batch's: Sinabs' layers that are not squeezed."""
    named = [m for m in model.modules() if type(m).__module__.startswith("sinabs") and hasattr(m, "spike_threshold")]
    return any(not type(m).__name__.endswith("Squeeze") for m in named)


def _linear(call: Call) -> Any:
    """The node of a layer without state."""
    import nir

    m, name = call.layer, call.name
    if isinstance(m, nn.Linear):
        weight = m.weight.detach().double().numpy()
        return nir.Linear(weight) if m.bias is None else nir.Affine(weight, m.bias.detach().double().numpy())
    if isinstance(m, nn.Conv2d) and m.padding_mode == "zeros" and not isinstance(m.padding, str):
        bias = np.zeros(m.out_channels) if m.bias is None else m.bias.detach().double().numpy()
        size = (call.taken[1], call.taken[2])
        return nir.Conv2d(size, m.weight.detach().double().numpy(), m.stride, m.padding, m.dilation, m.groups, bias)
    if isinstance(m, nn.AvgPool2d) and not m.ceil_mode and m.divisor_override is None and (m.count_include_pad or not m.padding):
        return nir.AvgPool2d(*(np.array((v, v) if isinstance(v, int) else v) for v in (m.kernel_size, m.stride, m.padding)))
    if type(m).__name__ == "SumPool2d" and type(m).__module__.startswith("sinabs"):
        kernel = m.kernel_size if isinstance(m.kernel_size, tuple) else (m.kernel_size,) * 2
        stride = m.stride if isinstance(m.stride, tuple) else (m.stride or kernel[0],) * 2
        return nir.SumPool2d(np.array(kernel), np.array(stride), np.zeros(2, int))
    if isinstance(m, nn.Flatten):
        return nir.Flatten(np.array(call.taken), 0, -1)
    what = f"{type(m).__name__}{' with these settings' if isinstance(m, nn.Conv2d | nn.AvgPool2d) else ''} has no NIR node"
    hint = "fold batch norms into the weights before them; pool spikes, not currents" if "Norm" in what or "Max" in what else "take it out"
    raise DeployError(name, what, hint)


def import_framework(
    model: nn.Module, sample: torch.Tensor, timesteps: int, calibrate: np.ndarray | float | None = None
) -> tuple[Graph, Report]:
    """`nir_of` and `import_graph`; the report's notes also say how often the model itself gives the integers' answer.

    Parameters
    ----------
    calibrate : int [N, T, ...], or the share of inputs that spike in made-up samples

    Raises
    ------
    DeployError
        As `nir_of` and `import_graph`.
    """
    made = nir_of(model, sample)
    shape = tuple(int(v) for v in made.nodes[INPUT].input_type["input"])
    rate = RATE if calibrate is None else calibrate
    made_up = np.random.default_rng(0).random((SAMPLES, timesteps, *shape))
    x = rate if isinstance(rate, np.ndarray) else (made_up < float(rate)).astype(np.int32)
    graph, report = import_graph(made, timesteps=timesteps, dt=1.0, calibrate=x)
    for name, node in made.nodes.items():
        note = (getattr(node, "metadata", None) or {}).get("note")
        report.add_note(name, note) if note else None
    theirs, ours = model_spikes(model, x), _sums(graph, x, shape)
    if theirs.shape == ours.shape:
        report.source_sums = float((theirs == ours).mean())
        report.source_answers = float((theirs.argmax(1) == ours.argmax(1)).mean())
    return graph, report


def _sums(graph: Graph, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    placed = as_positions(x, shape).reshape(len(x), x.shape[1], *graph.input_shape)
    return integer.run(graph, placed).logits.reshape(len(x), -1)


def model_spikes(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The model's own spikes on samples [N, T, ...], summed over time, [N, outputs]."""
    model.eval()
    given = torch.from_numpy(x).float()
    with torch.no_grad():
        if any(type(m).__module__.startswith("sinabs") for m in model.modules()):
            return _sinabs_spikes(model, given)
        _forget(model)
        total: Any = 0
        for t in range(x.shape[1]):
            out = model(given[:, t])
            total = total + (out[0] if isinstance(out, tuple) else out)
    return total.reshape(len(x), -1).numpy().astype(np.int64)


def _sinabs_spikes(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    from sinabs import reset_states

    sums = []
    for one in x:
        reset_states(model)
        sums.append(model(one[None] if _timed(model) else one).reshape(len(one), -1).sum(0))
    return torch.stack(sums).numpy().astype(np.int64)


def _forget(model: nn.Module) -> None:
    """Hidden states of snnTorch's layers to 0."""
    for m in model.modules():
        for state in ("mem", "syn", "spk"):
            value = getattr(m, state, None)
            if type(m).__module__.startswith("snntorch") and isinstance(value, torch.Tensor):
                setattr(m, state, torch.zeros(0))
