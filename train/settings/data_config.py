"""Settings of the data that a training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Unknown keys, infinities and nan are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which images, and how they are split and varied."""

    name: Literal["digits", "fashion", "cifar10", "cifar100", "npz", "folder", "events", "nmnist", "dvsgesture", "cifar10dvs"] = Field(
        "digits", description="data set; events and the three after it are recordings of event cameras"
    )
    path: Path | None = Field(None, description="local copy: an npz file, a folder with train/ and test/, or the downloaded files")
    validation: float = Field(0.1, ge=0.01, le=0.5, description="share of the training images kept for validation")
    seed: int = Field(0, ge=0, description="seed of the validation split")
    augment: bool | None = Field(None, description="random shifts (and flips for photographs); None: the data set's own default")
    shift: int | None = Field(None, ge=0, le=64, description="farthest shift of an augmented image, in pixels; None: an eighth of its side")
    flip: bool | None = Field(None, description="mirror half of the augmented images; None: for fashion, cifar10 and cifar100")
    rand_augment: int = Field(0, ge=0, le=4, description="changes of RandAugment that an augmented image gets (0: none)")
    cutout: int = Field(0, ge=0, le=512, description="side of a square that augmented images lose, in pixels (0: none)")
    mixup: float = Field(0.0, ge=0, le=8, description="mixup of images and labels: Beta(a, a) of the shares (0: none)")
    cutmix: float = Field(0.0, ge=0, le=8, description="CutMix, likewise")
    mix_share: float = Field(1.0, gt=0, le=1, description="share of the batches that are mixed, if any")
    stream: bool = Field(False, description="read a folder's images from disk batch by batch, for sets that do not fit into memory")
    limit_train: int | None = Field(None, ge=1, description="train on this many images only, equally many per class; None: all")
    frames: int | None = Field(None, ge=1, le=16, description="frames of an event recording; None: one for each timestep, as it must be")
    bin_by: Literal["time", "count"] = Field("time", description="cut an event recording into equal durations, or equal numbers of events")
    most: int = Field(1, ge=1, le=15, description="largest value of a pixel in a frame of events; further events of it are left out")

    @model_validator(mode="after")
    def _own_default(self) -> DataConfig:
        if self.augment is None:
            self.augment = self.name not in ("npz", "folder", "events")
        if self.stream and self.name != "folder":
            raise ValueError("data.stream reads folders: data.name folder with data.path")
        recorded = self.name in ("events", "nmnist", "dvsgesture", "cifar10dvs")
        if recorded and (self.rand_augment or self.mixup or self.cutmix):
            raise ValueError("data.rand_augment, mixup and cutmix are for images: frames of events are counts")
        return self

    @property
    def mirrored(self) -> bool:
        """Whether half of the augmented images are mirrored."""
        return self.name in ("fashion", "cifar10", "cifar100") if self.flip is None else self.flip
