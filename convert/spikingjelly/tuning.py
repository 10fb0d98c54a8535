"""Fine-tuning of an imported net in its integer form: the roundings are in the forward pass, gradients go straight through."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from spikegate.convert.spikingjelly.quantising import Quantised
from spikegate.convert.spikingjelly.twin import GraphTwin
from spikegate.data.parts import Part
from spikegate.engine.integer import run
from spikegate.graph.ir import Graph

SHRINK = 0.98  # step by which rows of weights that could overflow a register are made smaller


def accuracy(graph, embedded: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers of the integer net."""
    return float((run(graph, embedded).prediction == labels).mean())


def within_registers(twin: GraphTwin) -> Graph:
    """The twin's graph, after its heaviest rows of weights were made smaller where training let a worst case outgrow the 24 bits."""
    while True:
        graph = twin.to_graph()
        over: set[str] = set()
        for name, op in graph.ops.items():
            sources = graph.sources(name)
            payloads = {s: [graph.payload_of(e.source) for e in edges] for s, edges in sources.items()}
            if any(op.overflows(payloads, graph.timesteps)):
                over |= {name, *(e.source for e in sources.get("current", []))} & {*twin.names}
        if not over:
            return graph
        with torch.no_grad():
            for name in over:
                weight, bias = (p[twin.names[name]] for p in (twin.weights, twin.biases))
                rows = weight.flatten(0, 1) if graph.ops[name].kind == "token_mix" else weight.flatten(1)
                sums = torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1))
                heavy = sums > SHRINK * sums.max()
                rows[heavy] *= SHRINK
                if bias.numel() == len(heavy):
                    bias[heavy] *= SHRINK


def fine_tune(
    found: Quantised, train: Part, validation: Part, *, epochs: int = 1, rate: float = 0.3, batch: int = 32, seed: int = 0
) -> tuple[Quantised, list[float]]:
    """Train all weights and biases but the host's; returns the net of the best epoch and the validation accuracies (first: untuned).

    `rate` is Adam's step in weight mantissas; it falls to 0 along a cosine. The net never gets worse on the validation part:
    without a better epoch it stays as it was.
    """
    torch.manual_seed(seed)
    twin = GraphTwin(found.graph, found.latent)
    optimizer = torch.optim.Adam(twin.parameters(), rate)
    inputs = torch.from_numpy(found.host.encode(train.x))
    labels, held = torch.from_numpy(train.y), found.host.encode(validation.x)
    best, scores = found.graph, [accuracy(found.graph, held, validation.y)]
    per_epoch = -(-len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(inputs))
        for chosen in np.array_split(order, per_epoch):
            loss = cross_entropy(twin(inputs[chosen]) / found.scales["readout"], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        graph = within_registers(twin)
        graph.check()
        scores.append(accuracy(graph, held, validation.y))
        if scores[-1] > max(scores[:-1]):
            best = graph
    return dataclasses.replace(found, graph=best), scores
