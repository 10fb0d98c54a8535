"""QKFormer (Zhou et al., NeurIPS 2024, arXiv 2403.16552): hierarchical, with Q-K token attention in the early stages.

Stage s of S has dim / 2^(S - s) channels and half the resolution of the stage before; blocks are QKTA (a token's keys
pass if any query of its head spikes) and in the last stage SSA, or with `model.attention` channel QKCA (from the paper's
ablation: then no two spike maps are multiplied). Patch embedding with deformed shortcut, SEW residuals, or with
`model.residual` membrane the pre-activation form. Heads, MLP ratio and blocks per stage (`model.stages`) are settings;
the published CIFAR net HST-4-384 is dim 384, stages 1 1 2, 8 heads, MLP x4, attention threshold 8, embedding published.

Differences from the published code: max-pool before the neurons is replaced (`spikegate.train.models.hierarchy.embed`); biases of
proj and MLP are the normalisation's; the head reads every token instead of their mean. The published code lets the
membrane of SSA's last neurons run on from one sample of the batch to the next; here time and batch are separate axes.
"""

from __future__ import annotations

from typing import Any

from spikegate.train.layers.qk_token_gate import TokenAttention
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.hierarchy import Stage, build_hierarchy, project
from spikegate.train.models.net import Net
from spikegate.train.models.wiring import Wiring


def attend_to_tokens(wiring: Wiring, name: str, stage: Stage, sources: list[str], high: int, halting: TokenHalting | None = None) -> str:
    """QKTA of a block; returns the gate's name."""
    maps = project(wiring, name, "qk", stage, sources, high, halting)
    return wiring.plain(f"{name}.attention", TokenAttention(stage.tokens, stage.channels, stage.heads), halting, **maps)


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """See `spikegate.train.models.build`."""
    return build_hierarchy(config, image_shape, classes, levels, lambda stage, stages: 2 ** (stages - stage), attend_to_tokens)
