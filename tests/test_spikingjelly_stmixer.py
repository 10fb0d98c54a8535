"""The published STMixer by its key names: the image's short path in the stream, matrices across tokens, scores from the stream."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional

from convert import engine
from convert.imported.published import build
from convert.imported.tracing import read
from convert.ir import DeployError
from tests.foreign_import import ENV, ROOT, both, same_in_torch


def published_stmixer(dim: int, depth: int, heads: int, tokens: int, classes: int = 10, ratio: int = 4, kernel: int = 4):
    """A state dict with the published net's key names and random weights (without its surrogate modules)."""
    made: dict[str, torch.Tensor] = {}

    def layer_of(name: str, norm: str, *shape: int) -> None:
        made[f"{name}.weight"] = torch.randn(*shape) / int(np.prod(shape[1:])) ** 0.5
        for part, value in (("weight", 1.5), ("bias", 0.2), ("running_mean", 0.0), ("running_var", 0.3)):
            made[f"{norm}.{part}"] = torch.full((shape[0],), value)
        made[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    wide = (3, dim // 8, dim // 4, dim // 2, dim, dim // 8 * 7)
    for n in range(5):
        layer_of(f"patch_embd.proj_conv.{3 * n}", f"patch_embd.proj_conv.{3 * n + 1}", wide[n + 1], wide[n], 3, 3)
    layer_of("patch_embd.short_proj1.0", "patch_embd.short_proj1.1", dim // 8, 3, kernel, kernel)
    for i in range(depth):
        for part, out, inner in (("token_mix.fc1", dim, dim), ("token_mix.fc2", dim, dim), ("channel_mix.fc1", ratio * dim, dim),
                                 ("channel_mix.fc2", dim, ratio * dim)):
            layer_of(f"block.{i}.{part}.1", f"block.{i}.{part}.2", out, inner, 1)
        for h in range(heads):
            made[f"block.{i}.token_mix.attn.linear_mix.{h}.weight"] = torch.randn(tokens, tokens) * (2 / tokens) ** 0.5
    made["head.weight"], made["head.bias"] = torch.randn(classes, dim) / dim**0.5, torch.randn(classes) / 5
    return made


def test_published_stmixer_comes_through_by_its_key_names():
    torch.manual_seed(3)
    model = build(published_stmixer(32, 2, 4, 16))
    images = torch.randint(0, 256, (6, 3, 16, 16)) / 255
    spikes, embedded, rows, graph = both(model, images, levels=255)
    for r in rows:
        print(r)
    for n, op in graph.ops.items():
        print(n, op.kind, op.out_shape, op.payload)
    same_in_torch(graph, embedded)
