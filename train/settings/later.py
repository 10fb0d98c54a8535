"""Settings that came later, each with the value that stands for "as before"."""

from __future__ import annotations

from typing import Any

# At that value a setting decides nothing, so that older runs keep their hash; a run's folder that does not name it has that value,
# whatever the default is now.
LATER: dict[str, Any] = {
    "data.flip": None,
    "data.frames": None,
    "data.bin_by": "time",
    "data.most": 1,
    "train.start": None,
    "train.teacher": None,
    "train.distill": 0.5,
    "train.ponder_below": 0.0,
    "train.float_timesteps": None,
    "train.precision": "float32",
    "train.timestep_weight": 1.0,
    "train.mask_rate": 6.0,
    "train.timestep_target": 0.6,
    "train.rates": "equal",
    "train.full_share": 0.0,
    "model.head_start": "wide",
    "model.drive": 0.5,
    "model.stem_bound": "weight",
    "model.pooling": "stride",
    "model.residual": "sew",
    "model.attention": "ssa",
    "model.gate_threshold": 1,
    "model.stages": None,
    "model.embedding": "small",
    "model.modules": 0,
    "model.head": "tokens",
    "model.halting.order": "serial",
    "model.halting.width": 1,
    "model.merge.enabled": False,
    "model.merge.delta": 0,
    "model.mask.enabled": False,
    "model.mask.rule": "skip",
}
