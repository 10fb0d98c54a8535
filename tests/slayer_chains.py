"""Random chains of SLAYER blocks, their export and SLAYER's own forward: what the NetX reader must reproduce."""

from __future__ import annotations

import h5py
import numpy as np
import torch

from spikegate.train.layers.slayer_import import slayer

FAMILIES = ("cuba", "alif", "sigma_delta", "rf", "rf_iz", "adrf")
SPATIAL = ("conv", "conv", "pool", "unpool", "convT", "pointwise")
FLAT = ("dense", "dense", "recurrent")
COMPLEX = ("rf", "rf_iz", "adrf")
DELAYED = ("cuba", "alif", "rf", "rf_iz", "adrf")
MAPS = (
    "conv", "grouped conv", "dilated conv", "late conv", "convT", "grouped convT", "dilated convT", "late convT", "pool", "late pool",
    "unpool", "late unpool", "pointwise", "late pointwise",
)  # fmt: skip
VECTORS = ("dense", "late dense", "each dense", "average")
WANTS = {  # what SLAYER can both run and export
    "cuba": (*MAPS, *VECTORS, "recurrent", "late recurrent", "each recurrent", "input conv", "input dense", "affine", "bare affine"),
    "alif": (*MAPS, *VECTORS, "recurrent", "late recurrent", "input conv", "input dense"),
    "sigma_delta": (*(w for w in MAPS if "late" not in w), "dense", "input conv", "input dense", "output", "input output"),
    "rf": VECTORS, "rf_iz": VECTORS, "adrf": VECTORS,
}  # fmt: skip


def neuron_params(family: str, rng: np.random.Generator, on_map: bool = False, each: bool | None = None) -> dict:
    """Random parameters; at times a decay for each channel, which SLAYER's forward cannot do on maps."""
    chance = bool(rng.random() < 0.4)
    each = (chance if each is None else each) and not on_map

    def decay(low=0.05, high=0.9):
        return tuple(sorted(rng.uniform(low, high, 2))) if each else float(rng.uniform(low, high))

    thr = float(rng.uniform(0.3, 2.0))
    if family == "sigma_delta":
        return {"threshold": float(rng.uniform(0.02, 0.3)), "activation": torch.nn.functional.relu}
    found = {"threshold": thr, "shared_param": not each}
    if family in ("cuba", "alif"):
        found |= {"current_decay": decay(), "voltage_decay": decay()}
    else:
        found |= {"period": (4.0, 12.0) if each else float(rng.uniform(4, 12)), "decay": decay(0.05, 0.3)}
    if family in ("alif", "adrf"):
        found |= {"threshold_step": 0.5 * thr, "threshold_decay": decay(), "refractory_decay": decay()}
    return found


def norm_of(family: str, rng: np.random.Generator):
    norm = slayer.neuron.norm
    if family not in ("cuba", "alif", "sigma_delta"):
        return None
    kinds = [None, norm.MeanOnlyBatchNorm] + ([norm.WgtScaleBatchNorm] if family != "sigma_delta" else [])
    return kinds[rng.integers(len(kinds))]


def delays(channels: int) -> torch.Tensor:
    found = torch.randint(0, 4, (channels,)).float()
    found[0] = 3
    return found


class Chain:
    """One random chain. `blocks` are SLAYER's; `outputs` is what each computing layer sends; `stock` says that stock NetX runs it too.

    `want`, of `WANTS`, is what its first computing layer must be (or its input or last layer): "grouped" has groups, "dilated" dilation,
    "late" delays, "each" decays for each channel. `shift`: SLAYER's delay_shift; not `stated`: the file has no input layer.
    """

    def __init__(self, seed: int, family: str | None = None, *, stock: bool = False, timesteps: int = 8, want: str = "",
                 shift: bool = False, stated: bool = True) -> None:
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.shift, self.stated = shift, stated
        self.family = family or str(rng.choice(FAMILIES))
        self.module = getattr(slayer.block, self.family)
        self.rng, self.timesteps, self.stock, self.want = rng, timesteps, stock, set(want.split())
        spatial = bool(rng.random() < 0.6) and self.family not in COMPLEX  # SLAYER cannot export complex convolutions
        if want:
            spatial = bool(self.want & {*SPATIAL})
        self.blocks: list = []
        if spatial:
            least = 2 if "grouped" in self.want else 1
            self.shape = (int(rng.integers(least, 4)), int(rng.integers(4, 8)), int(rng.integers(4, 8)))
            self.channels = self.shape[0]
            kinds = ["conv"] if stock else list(SPATIAL)
            for k in range(int(rng.integers(1, 3))):
                kind = next((w for w in SPATIAL if w in self.want), "") if k == 0 else ""
                self.blocks.append(self.spatial(kind or str(rng.choice(kinds)), self.want if k == 0 else set()))
            self.blocks.append(self.module.Flatten())
        else:
            self.shape = (int(rng.integers(3, 12)),)
        self.width: int | None = None if spatial else self.shape[0]
        self.graded = 64 if "input" in self.want else 4096 if self.family == "sigma_delta" else 1
        self.x = (torch.rand(3, *self.shape, timesteps) < 0.4).float()
        if "input" in self.want:
            self.x = torch.randint(-30, 31, self.x.shape).float() / 32  # pixels; SLAYER rounds them to even 1/64
            self.blocks.insert(0, self.module.Input(neuron_params(self.family, rng, True), weight=1.5, bias=0.25, delay_shift=self.shift))
        self.flat = [str(rng.choice(["dense"] if stock or self.family != "cuba" else FLAT)) for _ in range(int(rng.integers(1, 3)))]
        if {"dense", "recurrent"} & self.want:
            self.flat[0] = "recurrent" if "recurrent" in self.want else "dense"
        self.outputs = self._build()

    def spatial(self, kind: str, want: set[str] = frozenset()):  # type: ignore[assignment]
        rng = self.rng
        params, module = neuron_params(self.family, rng, True), self.module
        late = (bool(rng.random() < 0.2) or "late" in want) and self.family in DELAYED and not self.stock
        more = {"weight_scale": 3, "delay_shift": self.shift, "delay": late}
        if kind == "pool":
            return module.Pool(params, 2, **more)
        if kind == "unpool":
            return module.Unpool(params, 2, stride=2, **more)
        if kind == "pointwise":
            out, inner = int(rng.integers(2, 5)), self.channels
            self.channels = out
            return module.Dense(params, inner, out, **more)
        groups = int(self.channels if rng.random() < 0.3 or "grouped" in want else 1)
        out, inner = int(groups * rng.integers(1, 4)), self.channels
        self.channels = out
        geometry = {
            "stride": (int(rng.integers(1, 3)), int(rng.integers(1, 3))), "padding": (int(rng.integers(0, 3)), int(rng.integers(0, 3))),
            "groups": groups,
        }
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        # A convolution of stock NetX cannot be told its padding where it is dilated, and ignores delays.
        geometry["dilation"] = (1, 1) if self.stock else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        if "dilated" in want:
            geometry["dilation"], kernel = (2, int(rng.integers(1, 3))), (2, kernel[1])
        if kind == "conv":
            norm = norm_of(self.family, rng)
            least = [(d * (k - 1) + 1) // 2 for d, k in zip(geometry["dilation"], kernel)]
            geometry["padding"] = tuple(max(p, q) for p, q in zip(geometry["padding"], least))
            if norm and not self._stock_ignores(norm):
                params["norm"] = norm
            return module.Conv(params, inner, out, kernel, **geometry, **more)
        geometry["padding"] = (0, 0)
        return module.ConvT(params, inner, out, kernel, **geometry, **more)

    def _stock_ignores(self, norm) -> bool:
        return self.stock and norm is slayer.neuron.norm.WgtScaleBatchNorm

    def _settle(self, block, x):
        """Give a block its random bias and delays, which exist once it has seen an input; then its output in eval mode."""
        block.eval()
        with torch.no_grad():
            y = block(x)
            norm = getattr(block.neuron, "norm", None)
            if norm is not None:
                norm.running_mean = torch.randn(y.shape[1]) * 0.4
                norm.num_features = y.shape[1]
                if hasattr(norm, "running_var"):
                    norm.running_var = torch.tensor(2.0 ** float(self.rng.integers(-4, 4)) * 0.9)
            if block.delay is not None:
                block.delay.delay.data = delays(y.shape[1])
            return block(x)

    def _once(self, block, x):
        """Output of a recurrent block, whose state lives on from one call to the next."""
        if block.delay is not None:
            block.delay.delay.data, block.delay.init = delays(block.recurrent_synapse.out_channels), True
        with torch.no_grad():
            return block.eval()(x)

    def _build(self) -> list[np.ndarray]:
        found, x, rng = [], self.x, self.rng
        for block in self.blocks:
            if hasattr(block, "neuron"):
                x = self._settle(block, x)
                found.append(x.numpy())
            else:
                x = block(x)
        width = x.shape[1]
        for k, kind in enumerate(self.flat):
            each = True if "each" in self.want and k == 0 else None
            params, out = neuron_params(self.family, rng, each=each), int(rng.integers(3, 9))
            norm = norm_of(self.family, rng)
            late = bool(rng.random() < 0.4) or ("late" in self.want and k == 0)
            late = late and self.family in DELAYED and not (self.stock and (norm or self.family in COMPLEX))
            if norm and not self._stock_ignores(norm):
                params["norm"] = norm
            more = {"weight_scale": 3, "delay_shift": self.shift}
            if kind == "recurrent":
                params.pop("norm", None)
                block = self.module.Recurrent(params, width, out, delay=late and not self.stock, **more)
            else:
                block = self.module.Dense(params, width, out, delay=late, **more)
            self.blocks.append(block)
            x = self._settle(block, x) if kind != "recurrent" else self._once(block, x)
            found.append(x.numpy())
            width = out
        return found + self._end(x, width)

    def _end(self, x, width: int) -> list[np.ndarray]:
        """Output of the last layer that `want` asks for, if any."""
        params, out = neuron_params(self.family, self.rng, each=False), int(self.rng.integers(2, 6))
        if "affine" in self.want:
            self.blocks.append(self.module.Affine(params, width, out, weight_scale=3, dynamics="bare" not in self.want))
        elif "output" in self.want:
            self.blocks.append(self.module.Output(params, width, out, weight_scale=3))
        elif "average" in self.want:
            self.blocks.append(self.module.Average(max(n for n in (1, 2, 3) if width % n == 0)))
        else:
            return []
        return [self.blocks[-1].eval()(x).detach().numpy()]

    def export(self, path) -> None:
        with h5py.File(path, "w") as f:
            blocks = self.blocks
            if type(blocks[0]).__name__ != "Input" and self.stated:
                f.create_dataset("layer/0/type", (1,), "S10", [b"input"])
                f["layer/0/shape"] = np.array(self.shape)
                blocks = [None, *blocks]
            for i, block in enumerate(blocks):
                if type(block).__name__ == "Average":  # SLAYER's own export of it fails
                    f.create_dataset(f"layer/{i}/type", (1,), "S10", [b"average"])
                    f[f"layer/{i}/shape"] = np.array(block.shape)
                elif block is not None:
                    block.export_hdf5(f.create_group(f"layer/{i}"))

    @property
    def input(self) -> np.ndarray:
        """int32 [samples, T, *shape] as our graphs take it."""
        return time_first(self.x.numpy()).astype(np.int32)

    @property
    def fed(self) -> np.ndarray:
        """`input` in the units of the file: spikes, sigma-delta events in 1/4096, pixels in 1/64."""
        return np.round(time_first(self.x.numpy()) * self.graded).astype(np.int32)

    def scaled(self, y: np.ndarray, block=None) -> np.ndarray:
        """SLAYER's output as integers: spikes, sigma-delta events and voltages in 1/4096, currents in 1/64, averages as sums."""
        unit = 4096 if self.family == "sigma_delta" else 1
        if type(block).__name__ == "Affine":
            unit = 4096 if block.dynamics else 64
        elif type(block).__name__ == "Output":
            unit *= 64
        elif type(block).__name__ == "Average":
            unit *= self.outputs[-2].shape[1] // block.num_outputs
        return np.round(time_first(y).astype(np.float64) * unit).astype(np.int64)

    @property
    def computing(self) -> list:
        """The blocks that `outputs` are of."""
        return [b for b in self.blocks if type(b).__name__ != "Flatten"]


def time_first(y: np.ndarray) -> np.ndarray:
    """[N, C, T] or [N, C, H, W, T] as [N, T, ...] with positions first."""
    if y.ndim == 3:
        return y.transpose(0, 2, 1)
    n, c, h, w, t = y.shape
    return y.transpose(0, 4, 2, 3, 1).reshape(n, t, h * w, c)
