"""AT-SNN (Kang et al., arXiv 2408.12293): Spikformer with token halting and token merge.

Verified from its abstract: ACT-like halting of tokens in a directly trained SNN ViT, token merge by similarity, Spikformer
as the carrier. Score, order of accumulation and the merge's form are reconstructions (no full text and no code were
available); `model.halting` and `model.merge` switch each mechanism by itself. The patch splitting is a convolution across
tokens and goes on for halted ones; a relay keeps those spikes from the blocks.
"""

from __future__ import annotations

from spikegate.train.models.spikformer import build

__all__ = ["build"]
