"""Spiking vision transformers as wirings of twins, one file per published system."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.models.net import Net
from spikegate.train.settings.config import MODELS

SPLITTING = ("spikformer", "at_snn", "dts_vit")  # models whose patch splitting spikes in every timestep, on one grid of tokens


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """Build the model that `config.name` names.

    Parameters
    ----------
    config : train.config.ModelConfig
    image_shape : (channels, height, width), of event recordings (timesteps, 2, height, width)
    classes : number of classes
    levels : largest pixel value
    """
    if config.name not in MODELS:
        raise DeployError("model.name", f"unknown model {config.name!r}", f"use one of {', '.join(MODELS)}")
    if config.halting.embedding and not (config.halting.enabled and config.name in SPLITTING):
        what = f"{config.name} has no patch splitting of its own that tokens could leave"
        if not config.halting.enabled:
            what = "no token halts"
        raise DeployError("model.halting.embedding", what, f"switch it off, or use {', '.join(SPLITTING)} with model.halting.enabled")
    make: Callable[..., Net] = import_module(f"spikegate.train.models.{config.name}").build
    net = make(config, image_shape, classes, levels)
    for twin in net.named.values():
        twin.reset = config.reset
        if isinstance(twin, SpikingConv):
            twin.norm.drive(2 * config.drive)
    return net
