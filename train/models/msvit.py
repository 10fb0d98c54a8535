"""MSViT (IJCAI 2025): QKFormer's hierarchy with multi-scale spiking attention and wide early stages.

Reconstructed from the released code (the README calls it partial, the paper's body was not available). All stages but the
last have dim / 2 channels. In their blocks a third projection P, a convolution of kernel 3 along the row-major token axis
(so a row's last pixel neighbours the next row's first), joins q: keys of a token pass if the head's q and p spikes reach
`model.gate_threshold` (1: as intended; 2: as the code runs). Last stage, residuals, embedding and settings as in
`spikegate.train.models.qkformer`; SSA's threshold in the published net is 8 counts as intended, 16 as the code runs.
"""

from __future__ import annotations

from typing import Any

from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.multiscale_gate import MultiscaleAttention
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.hierarchy import Stage, build_hierarchy, project
from spikegate.train.models.net import Net
from spikegate.train.models.wiring import Wiring


def attend_at_two_scales(
    wiring: Wiring, name: str, stage: Stage, sources: list[str], high: int, halting: TokenHalting | None = None
) -> str:
    """MSSA of a block; returns the gate's name."""
    maps = project(wiring, name, "qk", stage, sources, high, halting)
    nearby = SpikingConv(stage.channels, stage.channels, (1, 3), (1, stage.tokens), high=high)
    p = wiring.neurons(f"{name}.p", nearby, None, f"{name}.qkv.open", x=sources)
    gate = MultiscaleAttention(stage.tokens, stage.channels, stage.heads, wiring.config.gate_threshold)
    return wiring.plain(f"{name}.attention", gate, halting, p=p, **maps)


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """See `spikegate.train.models.build`."""
    return build_hierarchy(config, image_shape, classes, levels, lambda stage, stages: 1 if stage == stages else 2, attend_at_two_scales)
