"""The data set that the settings name, in memory or left on disk."""

from __future__ import annotations

import torch

from spikegate.data.parts import Part, binning_of, load_parts
from spikegate.train.images import Images, Splits, changes_of
from spikegate.train.settings.data_config import DataConfig
from spikegate.train.stream import open_folder


def load(config: DataConfig) -> Splits:
    """The data set that `config` names, see `spikegate.data.parts.load_parts`."""
    if config.stream:
        return open_folder(config)
    parts = load_parts(config.name, config.path, validation=config.validation, seed=config.seed, limit_train=config.limit_train,
                       binning=binning_of(config.model_dump()))
    train, validation, test = (_tensors(p) for p in (parts.train, parts.validation, parts.test))
    augment, mix = changes_of(config, train.x.shape[-2:], len(parts.classes))
    return Splits(parts.name, train, validation, test, parts.classes, parts.levels, augment, mix, parts.recorded)


def _tensors(part: Part) -> Images:
    return Images(torch.from_numpy(part.x), torch.from_numpy(part.y))
