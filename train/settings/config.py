"""Settings of a training run: three sections with ranges, defaults per data set, and one list of everything that is wrong."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from pydantic import BaseModel, Field, ValidationError, model_validator

from spikegate.data.parts import EVENT_SETS, IMAGE_SETS
from spikegate.errors import DeployError
from spikegate.train.settings.data_config import DataConfig, Section
from spikegate.train.settings.later import LATER

DATASETS = (*IMAGE_SETS, *EVENT_SETS)
MODELS = ("spikformer", "at_snn", "dts_vit", "stas", "stmixer", "qkformer", "msvit", "spike_driven")
# What the published systems switch on; any backbone takes any of them.
ADAPTIVE = {"at_snn": ("halting", "merge"), "dts_vit": ("mask",), "stas": ("halting",)}
# Settings that may differ between two runs of the same training: they change where and how fast it runs, not what it trains.
FREE = ("data.path", "train.threads", "train.eval_batch", "train.device", "train.graphs")


class HaltingConfig(Section):
    """Token halting: a token's score is sigmoid(gamma * count + beta), and the token halts when its scores sum to 0.99."""

    enabled: bool | None = Field(None, description="halt tokens; None: the model's own default")
    gamma: float = Field(1.5, gt=0, le=64, description="gain of the score per spike count")
    beta: float = Field(-6.0, ge=-64, le=64, description="offset of the score before training (it is learned)")
    slope: float = Field(0.3, gt=0, le=16, description="width of the surrogate gradient of the alive bit, in units of score")
    bits: int = Field(10, ge=4, le=16, description="bits of a score")
    order: Literal["serial", "rectangle", "block", "time"] = Field(
        "serial",
        description="what a token's scores add up over: all that came before (serial), earlier blocks of this and earlier timesteps "
        "(rectangle), blocks of this timestep (block), timesteps (time)",
    )
    width: int = Field(1, ge=1, le=64, description="channels whose spikes the score counts")
    embedding: bool = Field(
        False, description="end the patch splitting of a halted token, too, from the timestep after (spikformer, at_snn, dts_vit)"
    )


class MergeConfig(Section):
    """Token merge: neighbouring tokens whose spikes agree go on as one (at_snn)."""

    enabled: bool | None = Field(None, description="merge tokens; None: the model's own default")
    delta: int = Field(0, ge=0, le=4096, description="how many spikes two tokens may differ in and still merge")


class MaskConfig(Section):
    """Learned timestep masks: one word of T bits for each layer of neurons (dts_vit)."""

    enabled: bool | None = Field(None, description="learn timestep masks; None: the model's own default")
    rule: Literal["mute", "hold", "skip"] = Field("skip", description="what a masked timestep does: drop spikes, do not fire, or freeze")


class ModelConfig(Section):
    """The spiking vision transformer."""

    name: Literal["spikformer", "at_snn", "dts_vit", "stas", "stmixer", "qkformer", "msvit", "spike_driven"] = Field(
        "stas", description="model, one of train/models"
    )
    dim: int = Field(32, ge=4, le=1024, description="channels per token")
    depth: int = Field(1, ge=1, le=24, description="transformer blocks")
    heads: int = Field(4, ge=1, le=64, description="attention heads; divides dim")
    mlp_ratio: float = Field(2.0, gt=0, le=8, description="hidden channels of the MLP as a multiple of dim")
    timesteps: int = Field(4, ge=1, le=16, description="timesteps T per sample at most")
    stem_channels: int = Field(16, ge=1, le=512, description="channels of the host's convolution")
    stem_stride: int = Field(1, ge=1, le=4, description="stride of the host's convolution, in pixels")
    attention_threshold: int = Field(2, ge=1, le=4096, description="threshold of the attention neurons, in spike counts")
    reset: Literal["zero", "subtract"] = Field("zero", description="what a spike does to the voltage: set to 0, or subtract the threshold")
    embedding_levels: int = Field(3, ge=1, le=255, description="largest value of a graded event of the embedding (stas)")
    embedding: Literal["small", "published"] = Field("small", description="patch splitting: the small form, or all stages as published")
    pooling: Literal["stride", "or"] = Field("stride", description="halve a map by a stride of 2, or by an OR over its spikes (max-pool)")
    residual: Literal["sew", "membrane"] = Field("sew", description="add spikes, or currents before the neuron (qkformer, msvit)")
    attention: Literal["ssa", "channel"] = Field("ssa", description="attention of the last stage: SSA, or Q-K channel attention (qkformer)")
    gate_threshold: Literal[1, 2] = Field(1, description="spikes that open the multi-scale gate: 1 as intended, 2 as shipped (msvit)")
    stages: tuple[int, ...] | None = Field(None, description="blocks of each stage (qkformer, msvit); None: 1 in each, `depth` in the last")
    head: Literal["tokens", "mean"] = Field("tokens", description="weights of the head: for every token, or shared (the published mean)")
    head_start: Literal["linear", "wide"] = Field(
        "linear", description="first weights of the head: as torch.nn.Linear's on the mean over time (and tokens), or several times wider"
    )
    stem_bound: Literal["row", "weight"] = Field(
        "row", description="what keeps the host's integer sums exact: a bound on each channel's sum of weights, or on every weight"
    )
    drive: float = Field(0.8, gt=0, le=8, description="normalised currents of a layer at the start: standard deviation, in thresholds")
    modules: int = Field(0, ge=0, le=8, description="surrogate modules that help in training and are not exported (stmixer)")
    halting: HaltingConfig = Field(default_factory=HaltingConfig, description="token halting")
    merge: MergeConfig = Field(default_factory=MergeConfig, description="token merge")
    mask: MaskConfig = Field(default_factory=MaskConfig, description="timestep masks")

    @model_validator(mode="after")
    def _own_default(self) -> ModelConfig:
        for part in ("halting", "merge", "mask"):
            section = getattr(self, part)
            if section.enabled is None:
                section.enabled = part in ADAPTIVE.get(self.name, ())
        return self


class TrainConfig(Section):
    """Optimisation with AdamW, warm-up and a cosine."""

    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(64, ge=2, le=65_536, description="images per step")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's decay; not on biases, norms and other one-dimensional parameters")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    rates: Literal["relative", "equal"] = Field(
        "relative", description="learning rate of norms and head: relative to their size at the start, or `lr` itself"
    )
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all classes")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    seed: Annotated[int, tyro.conf.arg(aliases=["--seed"])] = Field(0, ge=0, lt=2**32, description="seed of weights and order")
    float_share: float = Field(0.5, ge=0, lt=1, description="share of the epochs before weights, neurons and halting are as deployed")
    float_timesteps: int | None = Field(None, ge=1, le=16, description="timesteps of the float epochs; None: those of the model")
    full_share: float = Field(
        0.15, ge=0, lt=1, description="share of the epochs, the last ones in float, that run all timesteps, whatever float_timesteps says"
    )
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda or cuda:N; with torchrun each process takes its own")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="operands of the products in training; 16 bits pay on GPUs, bfloat16 on CPUs that have it; what is deployed "
        "stays exact"
    )
    accumulate: int = Field(1, ge=1, le=1024, description="passes that a step's images are split into, where memory is short")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of an average of the weights that is validated and kept (0: the weights)")
    graphs: bool = Field(True, description="on one GPU, replay each step as one CUDA graph; the same numbers, less time between kernels")
    ponder: float = Field(3.0, ge=0, le=1000, description="weight in the loss of the mean share of alive (block, timestep, token) cells")
    start: Path | None = Field(None, description="finished run or zoo:<name> to start from, as wide or narrower; None: random weights")
    fresh: tuple[str, ...] | None = Field(
        None, description="layers that are not taken from `start`, by what their names begin with: sps, stem, readout, ..."
    )
    teacher: Path | None = Field(
        None, description="finished run, zoo:<name> or ONNX file whose answers are part of the target (distillation); None: labels alone"
    )
    distill: float = Field(0.5, gt=0, le=1, description="share of the loss that comes from the teacher")
    alive_target: float = Field(0.0, ge=0, le=1, description="mean share of alive cells below which `ponder` stops to press")
    ponder_below: float = Field(0.0, ge=0, le=1000, description="weight of what the share of alive cells lacks to `alive_target`")
    timestep_weight: float = Field(1.0, ge=0, le=1000, description="weight in the loss of the mean share of open (layer, timestep) masks")
    timestep_target: float = Field(0.6, ge=0, le=1, description="share of the masks' timesteps that stay open at least")
    mask_rate: float = Field(6.0, gt=0, le=1000, description="learning rate of the timestep masks' scores, as a multiple of `lr`")
    mask_until: float = Field(1.0, gt=0, le=1, description="share of all epochs after which the timestep masks stay as they are")
    anytime: float = Field(
        0.0, ge=0, le=1, description="share of the loss that comes from the answers after each timestep, which an exit may give"
    )
    activity: float = Field(0.0, ge=0, le=1000, description="weight in the loss of the accumulates relative to a fully active net")
    threads: int = Field(2, ge=1, le=1024, description="CPU threads; another number may change the last bits of the weights")
    eval_batch: int = Field(256, ge=1, le=65_536, description="images per step of an evaluation")


class Config(Section):
    """Everything that a training run needs."""

    data: DataConfig = Field(default_factory=DataConfig, description="data set")
    model: ModelConfig = Field(default_factory=ModelConfig, description="model")
    train: TrainConfig = Field(default_factory=TrainConfig, description="training")
    output: Path | None = Field(None, description="run folder to write; None: the next free runs/<data>-<model>-<k>")
    resume: bool | Path = Field(False, description="go on with the newest unfinished run, or with the run folder named")
    profile: bool = Field(False, description="write a trace of a few steps of each phase into the run folder (for ui.perfetto.dev)")

    @model_validator(mode="after")
    def _one_distillation(self) -> Config:
        if self.train.teacher is not None and self.model.modules:
            raise ValueError("train.teacher and model.modules are two kinds of distillation; choose one")
        if self.train.fresh and self.train.start is None:
            raise ValueError("train.fresh names layers that are not taken from train.start, and there is none: leave it out")
        if self.train.batch_size < 2 * self.train.accumulate:
            raise ValueError("train.accumulate leaves less than two images to a pass; choose a larger train.batch_size")
        return self

    @model_validator(mode="after")
    def _one_frame_each(self) -> Config:
        if self.data.name not in EVENT_SETS:
            return self
        if self.data.frames not in (None, self.model.timesteps):
            raise ValueError(f"data.frames is {self.data.frames}, model.timesteps {self.model.timesteps}: leave data.frames out")
        if self.train.float_timesteps not in (None, self.model.timesteps):
            raise ValueError("train.float_timesteps: recordings run all their timesteps in every phase; leave it out")
        self.data.frames = self.model.timesteps
        return self

    def facts(self) -> dict[str, dict[str, Any]]:
        """The sections as plain YAML types, without `output`, `resume` and `profile`."""
        return self.model_dump(mode="json", exclude={"output", "resume", "profile"})

    def decisive(self) -> dict[str, Any]:
        """Dotted key -> value of all settings that decide the weights."""
        return {k: v for k, v in flat(self.facts()).items() if k not in FREE and not (k in LATER and v == LATER[k])}

    @property
    def hash(self) -> str:
        """Sixteen hex digits over `decisive`: ties weights to their settings."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True).encode()).hexdigest()[:16]


DIGITS: dict[str, Any] = {
    "model": {"depth": 2, "attention_threshold": 1, "embedding_levels": 2, "halting": {"beta": -5.0}},
    "train": {"activity": 0.3, "ponder": 2.0, "alive_target": 0.6, "threads": 1},
}
GREY: dict[str, Any] = {
    "model": {"dim": 64, "depth": 2, "stem_channels": 16, "stem_stride": 2},
    "train": {"epochs": 6, "warmup_epochs": 0.3},
}
PHOTO: dict[str, Any] = {
    "model": {"dim": 64, "depth": 2, "stem_channels": 32, "stem_stride": 2},
    "train": {"epochs": 8, "warmup_epochs": 0.5},
}
DATASET_DEFAULTS: dict[str, dict[str, Any]] = {"digits": DIGITS, "fashion": GREY, "cifar10": PHOTO, "cifar100": PHOTO}


# Where a model's own form of a data set's defaults differs.
MODEL_DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "at_snn"): {"model": {"halting": {"beta": -8.0}}, "train": {"alive_target": 0.65}},
}


def defaults(dataset: str, model: str) -> dict[str, Any]:
    """Default settings of a data set and a model, nested."""
    return merge(DATASET_DEFAULTS.get(dataset, {}), MODEL_DEFAULTS.get((dataset, model), {}))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted key -> value."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        out[key] = merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return out


def check(values: dict[str, Any], where: str) -> Config:
    """Make a Config, or raise one DeployError that lists every problem of `values` with its dotted key. `where`: file or command."""
    try:
        return Config.model_validate(values)
    except ValidationError as e:
        found = [_explain(error["loc"], error) for error in e.errors(include_url=False)]
    if len(found) == 1:
        key, what, hint = found[0]
        raise DeployError(f"{where}: {key}" if key else where, what, hint)
    lines = "".join(f"\n  - {key}: {what} ({hint})" for key, what, hint in found)
    raise DeployError(where, f"{len(found)} problems:{lines}", "mend each key named above; train/run.py --help lists all keys")


def _explain(loc: tuple[int | str, ...], error: Any) -> tuple[str, str, str]:
    """(dotted key, what is wrong, what to do) of one pydantic error."""
    key = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        return key, "unknown key", _nearest(loc)
    section = _section(loc[:-1])
    info = section.model_fields.get(str(loc[-1])) if section and loc else None
    hint = info.description if info and info.description else "see train/run.py --help"
    if error["type"] == "literal_error" and info:
        close = difflib.get_close_matches(str(error["input"]), [str(a) for a in get_args(info.annotation)], 1)
        hint = f"did you mean {close[0]}?" if close else hint
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return key, f"must be a section of keys, not {error['input']!r}", f"indent its keys below {key}:"
    return key, f"{error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}", hint


def _section(loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model class that a path leads to."""
    here: type[BaseModel] = Config
    for part in loc:
        info = here.model_fields.get(str(part))
        if info is None or not isinstance(info.annotation, type) or not issubclass(info.annotation, BaseModel):
            return None
        here = info.annotation
    return here


def _nearest(loc: tuple[int | str, ...]) -> str:
    """Which key may have been meant: in the same section by spelling, or the same word in another section."""
    section, word = _section(loc[:-1]), str(loc[-1])
    names = list(section.model_fields) if section else []
    close = difflib.get_close_matches(word, names, 1)
    if close:
        return f"did you mean {'.'.join([*map(str, loc[:-1]), close[0]])}?"
    elsewhere = [k for k in flat(Config().model_dump()) if k.rsplit(".", 1)[-1] == word]
    return f"did you mean {elsewhere[0]}?" if elsewhere else f"known keys: {', '.join(names)}"
