"""A head that reads several maps, where class scores come from a stream of currents: the maps side by side, by wiring alone."""

from __future__ import annotations

import numpy as np

from convert.imported.plan import Head
from convert.ir import DeployError, Graph
from convert.ops.route import Route


def side_by_side(graph: Graph, head: Head) -> tuple[np.ndarray, list[str]]:
    """(weights [classes, positions, channels], sources) of the head; adds a `route` for each source where there are several maps.

    Finer maps fold: the positions that lie on one of the coarsest map's become its channels.
    """
    if len(head.parts) == 1:
        return head.parts[0].weight, list(head.parts[0].sources)
    h, w = min(p.grid for p in head.parts)
    folds = [p.grid[0] // h for p in head.parts]
    if any(p.grid != (f * h, f * w) for p, f in zip(head.parts, folds)):
        what = f"reads maps of {', '.join(f'{p.grid[0]} x {p.grid[1]}' for p in head.parts)} positions, which do not fold onto each other"
        raise DeployError("head", what, "put neurons before the head")
    widths = [p.weight.shape[2] * f * f for p, f in zip(head.parts, folds)]
    weights, names, at = [], [], 0
    for p, f, width in zip(head.parts, folds, widths):
        k, _, c = p.weight.shape
        weights.append(p.weight.reshape(k, h, f, w, f, c).transpose(0, 1, 3, 2, 4, 5).reshape(k, h * w, width))
        for source in p.sources:
            names.append(graph.add(f"head.{source}", Route(p.grid, 0, c, sum(widths), 0, 1, f, at), x=source))
        at += width
    return np.concatenate(weights, 2), names
