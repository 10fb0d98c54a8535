"""A wider net from a trained one that answers as it does (Net2WiderNet: Chen, Goodfellow, Shlens, ICLR 2016)."""

from __future__ import annotations

from collections.abc import Collection

import torch

from spikegate.graph.ir import DeployError
from spikegate.train.layers.base import Twin
from spikegate.train.layers.biased import BiasEncoder
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.event_input import EventInput
from spikegate.train.layers.exit_gate import Exit
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.layers.max_pool import MaxPool
from spikegate.train.layers.qk_channel_gate import ChannelAttention
from spikegate.train.layers.qk_token_gate import TokenAttention
from spikegate.train.layers.readout import Head
from spikegate.train.layers.spiking_attention import Attention
from spikegate.train.layers.timestep_gate import TimestepMask
from spikegate.train.models.net import Net

KNOWN = (BiasEncoder, SpikingConv, EventInput, Exit, MaxPool, ChannelAttention, TokenAttention, Head, Attention, TimestepMask)
APART = 0.5  # standard deviation of what sets copies of a channel apart, as a share of that of the layer's weights


def widened(
    tensors: dict[str, torch.Tensor], narrow: Net, net: Net, where: str, aside: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    r"""`tensors` of `narrow`, brought to the shapes of `net`, which is wired alike and has more channels; without the layers `aside`.

    Channel :math:`c` of a wider layer is a copy of channel :math:`c \bmod n`. The weights that read the copies of a channel
    add up to the old weight, so the answer is the same in float; noise sets them apart, so that the copies learn different things.
    Normalisations grow with the thresholds, which depend on the number of a layer's inputs.

    Raises
    ------
    DeployError
        A layer that does something else once channels are copied (it counts the spikes of all of them, say); heads of another size.
    """
    out = dict(tensors)
    for name, twin in net.named.items():
        old, prefix = narrow.named.get(name), f"twins.{name.replace('.', '/')}."
        if name in aside:
            continue
        _check(twin, old, f"{where}: {name}")
        if isinstance(twin, SpikingConv) and isinstance(old, SpikingConv):
            key = f"{prefix}block.synapse.weight"
            out[key] = _wider(tensors[key], *twin.block.synapse.weight.shape[:2])
            _norm(out, f"{prefix}norm", len(twin.norm.gamma), float(twin.block.neuron.threshold) / float(old.block.neuron.threshold))
        elif isinstance(twin, Head) and isinstance(old, Head):
            key = f"{prefix}synapse.weight"
            split = tensors[key].reshape(old.classes, -1, old.channels).transpose(1, 2)
            wide = _wider(split, old.classes, twin.channels).transpose(1, 2)
            out[key] = wide.reshape(old.classes, -1, *[1] * (tensors[key].dim() - 2))
    if isinstance(net.stem, HostStem) and "stem" not in aside:
        out["stem.conv.weight"] = _wider(tensors["stem.conv.weight"], *net.stem.conv.weight.shape[:2])
        _norm(out, "stem.norm", net.stem.conv.out_channels, 1.0)
    return out


def _norm(tensors: dict[str, torch.Tensor], prefix: str, channels: int, gain: float) -> None:
    """Copy what a normalisation knows of its channels; scale what it answers."""
    for part, factor in {"gamma": gain, "beta": gain, "mean": 1.0, "var": 1.0}.items():
        given = tensors[f"{prefix}.{part}"]
        tensors[f"{prefix}.{part}"] = given[torch.arange(channels) % len(given)] * factor


def _wider(given: torch.Tensor, outputs: int, inputs: int) -> torch.Tensor:
    """Copies of channels along the first axis; along the second one copies that share what was one channel's."""
    out = given[torch.arange(outputs) % given.shape[0]]
    if inputs == given.shape[1]:
        return out
    at = torch.arange(inputs) % given.shape[1]
    copies = torch.bincount(at, minlength=given.shape[1]).to(out.dtype).reshape(-1, *[1] * (given.dim() - 2))
    noise = torch.randn(outputs, inputs, *given.shape[2:]) * (APART * float(given.std()))
    mean = torch.zeros(outputs, *given.shape[1:]).index_add_(1, at, noise) / copies
    return out[:, at] / copies[at] + noise - mean[:, at]


def _check(twin: Twin, old: Twin | None, where: str) -> None:
    """Whether copies of channels leave what the layer does as it is."""
    if not isinstance(twin, KNOWN) or type(old) is not type(twin):
        what = f"copies of channels change what {type(twin).__name__} does" if old is not None else "the narrower net has no such layer"
        raise DeployError(where, what, "start from a run of the same size")
    if isinstance(twin, Attention | TokenAttention) and isinstance(old, Attention | TokenAttention):
        size, was = twin.channels // twin.heads, old.channels // old.heads
        if size != was:
            what = f"heads of {size} channels, those of the run have {was}"
            raise DeployError(where, what, "choose model.heads so that a head has as many channels as in the run")
