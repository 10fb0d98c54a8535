"""Stock `netx.hdf5.Network`, our drop-in and our pipeline on the same files: equal at every layer and Lava step."""

from __future__ import annotations

import contextlib
import io
import os

import h5py
import numpy as np
import pytest

from spikegate.formats.netx.pipeline import Pipeline
from spikegate.neurons.cuba import DECAY_ONE, Strict
from tests.slayer_chains import Chain

pytestmark = [pytest.mark.lava, pytest.mark.timeout(240)]
CASES = [
    (0, "cuba", ""), (1, "cuba", ""), (3, "cuba", ""), (4, "sigma_delta", ""), (7, "sigma_delta", ""), (2, "rf", ""), (5, "rf_iz", ""),
    (0, "cuba", "recurrent"), (1, "cuba", "recurrent"), (2, "cuba", "late dense"), (5, "cuba", "each dense"), (3, "cuba", "grouped conv"),
    (6, "cuba", "conv"), (1, "sigma_delta", "grouped conv"), (2, "sigma_delta", "output"), (1, "rf", "dense"), (6, "rf_iz", "dense"),
]  # fmt: skip
MORE = int(os.environ.get("SPIKEGATE_STOCK", "0"))  # random cases on top, for a longer look
CASES += [(400 * k + 11, ("cuba", "cuba", "sigma_delta", "rf", "rf_iz")[k % 5], "") for k in range(1, MORE + 1)]


def through_lava(network, path, frames: np.ndarray, steps: int, **arguments) -> list[np.ndarray]:
    """Outputs of all layers [*shape, steps] of a `Network` class fed with frames [*shape, T]."""
    from spikegate.deploy.lava.lava_import import lava_modules

    lava = lava_modules()
    with contextlib.redirect_stdout(io.StringIO()):
        net = network(net_config=str(path), **arguments)
    source = lava.source.RingBuffer(data=frames)
    source.s_out.connect(net.inp)
    sinks = []
    for layer in net.layers:
        sinks.append(lava.sink.RingBuffer(shape=layer.out.shape, buffer=steps))
        layer.out.connect(sinks[-1].a_in)
    try:
        net.run(condition=lava.RunSteps(steps), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
        return [sink.data.get() for sink in sinks]
    finally:
        net.stop()


def ours(data: np.ndarray) -> np.ndarray:
    """Lava's [width, height, channels, steps] as [steps, positions, channels]; vectors as [steps, neurons]."""
    if data.ndim == 2:
        return data.T
    w, h, c, t = data.shape
    return data.transpose(3, 1, 0, 2).reshape(t, w * h, c)


def same_decays(path) -> bool:
    """Whether stock NetX gets a resonator's integers back from the period that it computes."""
    with h5py.File(path) as f:
        for layer in f["layer"].values():
            if "neuron/sinDecay" in layer:
                s, c = int(layer["neuron/sinDecay"][()]), int(layer["neuron/cosDecay"][()])
                gain, angle = np.sqrt((s / DECAY_ONE) ** 2 + (c / DECAY_ONE) ** 2), np.arctan2(s, c)
                back = [np.int32(f * DECAY_ONE) for f in (gain * np.sin(angle), gain * np.cos(angle))]
                if back != [s, c]:
                    return False
    return True


@pytest.mark.parametrize("seed, family, want", CASES)
def test_stock_and_drop_in_show_the_same_at_every_port_and_step(seed, family, want, tmp_path, monkeypatch):
    from spikegate.deploy.lava.lava_import import lava_modules
    from spikegate.deploy.netx_network import Network

    monkeypatch.setattr(Strict, "raises", False)
    if family.startswith("rf"):
        monkeypatch.setattr("tests.slayer_chains.neuron_params", shared_resonator)
    path = tmp_path / "chain.net"
    chain = next(c for c in (Chain(s, family, stock=True, want=want) for s in range(seed, seed + 400, 8)) if exported(c, path))
    arguments = {"input_message_bits": 16} if family == "sigma_delta" else {}
    if family == "cuba":
        arguments |= {"reset_interval": chain.timesteps, "reset_offset": 1}
    frames = np.concatenate(list(chain.x[:2].numpy()), -1)  # two samples back to back
    frames = (frames.transpose(2, 1, 0, 3) if frames.ndim == 4 else frames).astype(np.int32) * (64 if family == "sigma_delta" else 1)
    steps = frames.shape[-1] + len(chain.outputs)
    stock = [ours(d) for d in through_lava(lava_modules(netx=True).netx.Network, path, frames, steps, **arguments)]
    mine = [ours(d) for d in through_lava(Network, path, frames, steps, **arguments)]
    pipeline, fed = Pipeline(path, **arguments), ours(frames)
    plain = [pipeline.step(fed[s % len(fed)]) for s in range(steps)]
    assert len(stock) == len(mine) == len(chain.outputs)
    for k, (a, b) in enumerate(zip(stock, mine)):
        assert np.array_equal(a, np.stack([p[k] for p in plain])), f"layer {k}: pipeline"
        assert np.array_equal(a, b), f"layer {k}: drop-in"
    if family == "cuba" and not any(getattr(b, "delay", None) is not None for b in chain.blocks):
        samples = 1 if "recurrent" in want else 2  # feedback under way crosses a reset, in stock and so in the drop-in
        for k, sent in enumerate(chain.outputs):  # and both are SLAYER's, k + 1 steps later
            late = stock[k][k + 1 : k + 1 + samples * chain.timesteps]
            assert np.array_equal(late, np.concatenate(list(chain.scaled(sent)[:samples])))


def shared_resonator(family: str, rng: np.random.Generator, on_map: bool = False, each: bool | None = None) -> dict:
    """Stock NetX takes one decay for a layer of resonators."""
    return {"threshold": float(rng.uniform(0.3, 1.5)), "period": float(rng.uniform(4, 12)), "decay": float(rng.uniform(0.05, 0.3))}


def exported(chain: Chain, path) -> bool:
    path.unlink(missing_ok=True)
    chain.export(path)
    return same_decays(path) and any(y.any() for y in chain.outputs)
