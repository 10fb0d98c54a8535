"""A trained net with what its export got after training: the ops that were added, wired as in the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from spikegate.graph.ir import DeployError, Graph
from spikegate.train.layers.base import Twin
from spikegate.train.layers.contrast_gate import Contrast
from spikegate.train.layers.relay import Pass
from spikegate.train.models.net import Net

LATER: dict[str, Callable[[Any], Twin]] = {  # ops that need no training, as twins
    "relay": lambda op: Pass(op.shape, op.high),
    "contrast_gate": lambda op: Contrast(op.grid, op.channels, op.cut, op.theta, op.shift),
}


def rewired(net: Net, graph: Graph) -> Net:
    """`net` with the ops of `graph` that it lacks, in its order and with its edges; constants are the graph's.

    Raises
    ------
    DeployError
        A graph that was not made from this net.
    """
    twins: dict[str, Twin] = {}
    for name, op in graph.ops.items():
        if name in net.named:
            twins[name] = net.twin(name)
        elif op.kind in LATER:
            twins[name] = LATER[op.kind](op)
        else:
            raise DeployError(name, f"is no op of the trained net, and torch has no form of a later {op.kind}",
                              "compare the other targets: --targets int,lava")
    gone = [n for n in net.named if n not in twins]
    if gone:
        raise DeployError(gone[0], "is an op of the trained net that the file lacks", "compare the other targets: --targets int,lava")
    net.twins = nn.ModuleDict()
    for name, twin in twins.items():
        net.add(name, twin)
    net.edges = list(graph.edges)
    vars(net).pop("layout", None)  # it was worked out for the other wiring
    net.set_phase(net.phase)
    return net
