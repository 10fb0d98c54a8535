"""Random chains of SLAYER blocks, their export and SLAYER's own forward: what the NetX reader must reproduce."""

from __future__ import annotations

import h5py
import numpy as np
import torch

from train.slayer_import import slayer

FAMILIES = ("cuba", "alif", "sigma_delta", "rf", "rf_iz", "adrf")
SPATIAL = ("conv", "conv", "pool", "unpool", "convT", "pointwise")
FLAT = ("dense", "dense", "recurrent")
COMPLEX = ("rf", "rf_iz", "adrf")
DELAYED = ("cuba", "alif", "rf", "rf_iz", "adrf")


def neuron_params(family: str, rng: np.random.Generator, on_map: bool = False) -> dict:
    """Random parameters; at times a decay for each channel, which SLAYER's forward cannot do on maps."""
    each = bool(rng.random() < 0.4) and not on_map

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


class Chain:
    """One random chain. `blocks` are SLAYER's; `run` gives each computing layer's output; `stock` says that stock NetX runs it too."""

    def __init__(self, seed: int, family: str | None = None, *, stock: bool = False, timesteps: int = 8) -> None:
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self.family = family or str(rng.choice(FAMILIES))
        self.module = getattr(slayer.block, self.family)
        self.rng, self.timesteps, self.stock = rng, timesteps, stock
        spatial = bool(rng.random() < 0.6) and self.family not in COMPLEX  # SLAYER cannot export complex convolutions
        self.blocks: list = []
        if spatial:
            self.shape = (int(rng.integers(1, 4)), int(rng.integers(4, 8)), int(rng.integers(4, 8)))
            self.channels = self.shape[0]
            kinds = ["conv"] if stock else list(SPATIAL)
            for _ in range(int(rng.integers(1, 3))):
                self.blocks.append(self.spatial(str(rng.choice(kinds))))
            self.blocks.append(self.module.Flatten())
        else:
            self.shape = (int(rng.integers(3, 12)),)
        self.width: int | None = None if spatial else self.shape[0]
        self.x = (torch.rand(3, *self.shape, timesteps) < 0.4).float()
        self.flat = [str(rng.choice(["dense"] if stock or self.family != "cuba" else FLAT)) for _ in range(int(rng.integers(1, 3)))]
        self.outputs = self._build()

    def spatial(self, kind: str):
        rng = self.rng
        params, module = neuron_params(self.family, rng, True), self.module
        more = {"weight_scale": 3, "delay_shift": False}
        if kind == "pool":
            return module.Pool(params, 2, **more)
        if kind == "unpool":
            return module.Unpool(params, 2, stride=2, **more)
        if kind == "pointwise":
            out, inner = int(rng.integers(2, 5)), self.channels
            self.channels = out
            return module.Dense(params, inner, out, **more)
        groups = int(self.channels if rng.random() < 0.3 else 1)
        out, inner = int(groups * rng.integers(1, 4)), self.channels
        self.channels = out
        geometry = {
            "stride": (int(rng.integers(1, 3)), int(rng.integers(1, 3))), "padding": (int(rng.integers(0, 3)), int(rng.integers(0, 3))),
            "groups": groups,
        }
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        if kind == "conv":
            norm = norm_of(self.family, rng)
            # A convolution of stock NetX cannot be told its padding where it is dilated, and ignores delays.
            geometry["dilation"] = (1, 1) if self.stock else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
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
                block.delay.delay.data = torch.randint(0, 4, (y.shape[1],)).float()
            return block(x)

    def _build(self) -> list[np.ndarray]:
        found, x, rng = [], self.x, self.rng
        for block in self.blocks:
            if hasattr(block, "neuron"):
                x = self._settle(block, x)
                found.append(x.numpy())
            else:
                x = block(x)
        width = x.shape[1]
        for kind in self.flat:
            params, out = neuron_params(self.family, rng), int(rng.integers(3, 9))
            norm = norm_of(self.family, rng)
            delayed = bool(rng.random() < 0.4) and self.family in DELAYED and not (self.stock and (norm or self.family in COMPLEX))
            if norm and not self._stock_ignores(norm):
                params["norm"] = norm
            more = {"weight_scale": 3, "delay_shift": False}
            if kind == "recurrent":
                params.pop("norm", None)
                block = self.module.Recurrent(params, width, out, **more)
            else:
                block = self.module.Dense(params, width, out, delay=delayed, **more)
            self.blocks.append(block)
            x = self._settle(block, x) if kind != "recurrent" else block.eval()(x).detach()
            found.append(x.numpy())
            width = out
        return found

    def export(self, path) -> None:
        with h5py.File(path, "w") as f:
            f.create_dataset("layer/0/type", (1,), "S10", [b"input"])
            f["layer/0/shape"] = np.array(self.shape)
            for i, block in enumerate(self.blocks):
                block.export_hdf5(f.create_group(f"layer/{i + 1}"))

    @property
    def input(self) -> np.ndarray:
        """int32 [samples, T, *shape] as our graphs take it."""
        return time_first(self.x.numpy()).astype(np.int32)

    def scaled(self, y: np.ndarray) -> np.ndarray:
        """SLAYER's output as integers: spikes, or sigma-delta events in 1/4096."""
        y = time_first(y)
        return np.round(y.astype(np.float64) * 4096).astype(np.int64) if self.family == "sigma_delta" else y.astype(np.int64)


def time_first(y: np.ndarray) -> np.ndarray:
    """[N, C, T] or [N, C, H, W, T] as [N, T, ...] with positions first."""
    if y.ndim == 3:
        return y.transpose(0, 2, 1)
    n, c, h, w, t = y.shape
    return y.transpose(0, 4, 2, 3, 1).reshape(n, t, h * w, c)
