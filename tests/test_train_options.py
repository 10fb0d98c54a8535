"""What a training may be asked for besides its net: averages, passes, 16 bits, mixed and changed images, images from disk, a trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikegate.graph.ir import DeployError
from spikegate.train import checkpoint, loop, models
from spikegate.train.augment import Augment
from spikegate.train.data import load
from spikegate.train.ema import Average
from spikegate.train.loss_scale import PATIENCE, START, LossScale
from spikegate.train.mixing import Mix
from spikegate.train.optimize import make_optimizer, set_rate
from spikegate.train.rand_augment import CHANGES, STEPS, changed, draw
from spikegate.train.settings.config import Config, DataConfig, ModelConfig
from spikegate.train.settings.runfolder import CHECKPOINT, METRICS, WEIGHTS
from spikegate.train.step import LEFT_OUT, LOSS, NORM, Step

torch.set_num_threads(1)
CPU = torch.device("cpu")
SMALL = {"name": "at_snn", "dim": 16, "depth": 1, "heads": 4, "stem_channels": 8, "attention_threshold": 1}


def config(**train) -> Config:
    base = {"epochs": 2, "threads": 1, "device": "cpu"}
    return Config.model_validate({"data": {"limit_train": 100}, "model": SMALL, "train": base | train})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / WEIGHTS, "")[0]


def step_of(**train) -> Step:
    torch.manual_seed(0)
    settings = config(**train).train
    net = models.build(ModelConfig.model_validate(SMALL), (1, 8, 8), 5, 16)
    net.set_precision(settings.precision)
    optimizer = make_optimizer(net, settings)
    set_rate(optimizer, 1e-3)
    return Step(net, optimizer, settings, None, CPU)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 17, (12, 1, 8, 8), generator=g).to(torch.uint8), torch.randint(0, 5, (12,), generator=g)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("train", [{"ema": 0.9}, {"precision": "float16"}, {"accumulate": 3, "precision": "bfloat16"}], ids=str)
def test_what_a_run_is_asked_for_resumes_exactly(monkeypatch, tmp_path, train, stop):
    monkeypatch.chdir(tmp_path)
    if not stop:
        run = loop.fit(config(**train))
        facts = json.loads((run / METRICS).read_text())
        assert facts["phases"].keys() == {"float", "deployed"}
        assert all(p["images_per_second"] > 0 and p["peak_memory_bytes"] > 1 << 20 for p in facts["phases"].values())
        return
    whole = weights(loop.fit(config(**train).model_copy(update={"output": Path("whole")})))
    real, left = loop._epoch, iter([True])
    monkeypatch.setattr(loop, "_epoch", lambda *a: real(*a) if next(left, False) else (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        loop.fit(config(**train).model_copy(update={"output": Path("parts")}))
    monkeypatch.setattr(loop, "_epoch", real)
    parts = weights(loop.fit(config(**train).model_copy(update={"resume": Path("parts")})))
    assert all(torch.equal(whole[n], parts[n]) for n in whole)
    if "ema" in train:
        live, facts = checkpoint.read(Path("parts") / CHECKPOINT, "")
        assert any(not torch.equal(live["model/" + n], whole[n]) for n in whole)


def test_passes_add_up_to_the_batch():
    """With running statistics (as deployed) the passes' gradients are the batch's."""
    found = []
    for accumulate in (1, 3):
        step = step_of(accumulate=accumulate, clip=0.0, activity=0.2)
        step.net.set_phase("deployed")
        step.net.train()
        row = step(*batch(), 12)
        found.append((row, [p.grad for p in step.net.parameters() if p.grad is not None]))
    assert torch.allclose(found[0][0][LOSS], found[1][0][LOSS], rtol=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max() + 1)) for a, b in zip(found[0][1], found[1][1]))


def test_scaled_losses_give_the_same_step_and_an_overflow_leaves_it_out():
    plain, scaled = step_of(), step_of(precision="float16")
    scaled.net.set_precision("float32")
    rows = [step(*batch(), 12) for step in (plain, scaled)]
    assert torch.allclose(rows[0], rows[1], rtol=1e-4)
    for a, b in zip(plain.net.parameters(), scaled.net.parameters()):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert scaled.scale is not None
    scaled.scale.scale.fill_(1e38)
    before = [p.detach().clone() for p in scaled.net.parameters()]
    row = scaled(*batch(), 12)
    assert row[LEFT_OUT] == 1 and not torch.isfinite(row[NORM]) and torch.isfinite(row[LOSS])
    assert all(torch.equal(a, b) for a, b in zip(before, scaled.net.parameters())) and scaled.scale.scale < 1e38


def test_the_fused_update_is_the_plain_one():
    """What a GPU runs, on the processor's fused AdamW: clipping by the optimizer's own division."""
    plain, fused = step_of(clip=0.01), step_of(clip=0.01)
    for group in fused.optimizer.param_groups:
        group |= {"fused": True, "foreach": None}
    fused.fused = True
    for _ in range(3):
        rows = [step(*batch(), 12) for step in (plain, fused)]
        assert torch.allclose(*rows, rtol=1e-3) and rows[0][NORM] > 0.01
    for a, b in zip(plain.net.parameters(), fused.net.parameters()):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_loss_scale_halves_on_overflow_and_doubles_after_good_steps():
    scale = LossScale(CPU)
    scale.update(torch.ones(()))
    assert scale.scale == START / 2 and scale.good == 0
    for _ in range(PATIENCE):
        scale.update(torch.zeros(()))
    assert scale.scale == START and scale.good == 0


def test_an_average_follows_and_swaps_in_and_out():
    net = torch.nn.Linear(2, 2)
    average = Average(net, 0.5)
    first = net.weight.detach().clone()
    net.weight.data += 1
    average.update()  # decay min(0.5, 1 / 10)
    with average.in_place():
        assert torch.allclose(net.weight, first + 0.9)
    assert torch.equal(net.weight, first + 1)


@pytest.mark.parametrize("augment", [Augment(2, True), Augment(1, False, policy=2, cutout=4)], ids=str)
def test_a_part_of_a_batch_is_changed_as_in_the_whole(augment):
    x = torch.randint(0, 256, (40, 3, 12, 10), dtype=torch.uint8)
    whole = augment(x, np.random.default_rng(3))
    assert whole.dtype == torch.uint8 and whole.shape == x.shape and not torch.equal(whole, x)
    at = np.array([3, 17, 4])
    assert torch.equal(augment.of(x[torch.from_numpy(at)], np.random.default_rng(3), 40, at), whole[torch.from_numpy(at)])


def test_a_cutout_is_a_square_of_zeros():
    x = torch.full((200, 1, 9, 9), 7, dtype=torch.uint8)
    out = Augment(0, False, cutout=4)(x, np.random.default_rng(0)) == 0
    assert out.flatten(1).sum(1).max() == 16 and out.flatten(1).sum(1).min() == 4  # in a corner a quarter is left
    assert out.any(0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_every_change_gives_images_and_most_change_them(channels):
    x = torch.randint(0, 200, (4, channels, 16, 16), dtype=torch.uint8)
    moved = 0
    for change in range(len(CHANGES)):
        for step in (-STEPS, -3, 0, 3, STEPS):
            out = changed(x, np.full(4, change), np.full(4, step))
            assert out.dtype == torch.uint8 and out.shape == x.shape
            moved += not torch.equal(out, x)
    assert moved > 40 and torch.equal(changed(x, np.full(4, -1), np.zeros(4, int)), x)
    which, strength = draw(np.random.default_rng(0), 4000)
    assert 0.45 < (which < 0).mean() < 0.55 and set(which) == {-1, *range(len(CHANGES))} and abs(strength).max() <= STEPS


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_images_are(kind):
    mix = Mix(1.0, float(kind == "mixup"), float(kind == "cutmix"), 2)
    x, other = torch.full((3, 1, 20, 20), 200, dtype=torch.uint8), torch.zeros(3, 1, 20, 20, dtype=torch.uint8)
    shares = []
    for seed in range(30):
        mixed, y = mix(x, torch.zeros(3, dtype=torch.int64), other, torch.ones(3, dtype=torch.int64), np.random.default_rng(seed))
        assert torch.allclose(y.sum(1), torch.ones(3)) and abs(float(mixed.float().mean()) / 200 - float(y[0, 0])) < 0.005
        shares.append(float(y[0, 0]))
    assert min(shares) < 0.2 and max(shares) > 0.8
    off = Mix(1e-9, 1.0, 0.0, 2)(x, torch.zeros(3, dtype=torch.int64), other, torch.ones(3, dtype=torch.int64), np.random.default_rng(0))
    assert torch.equal(off[0], x) and torch.equal(off[1][:, 0], torch.ones(3))


def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "set" / part / name / f"{i:02}.png")
    return tmp_path / "set"


def test_images_from_disk_are_those_of_a_set_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path)
    data = {"name": "folder", "path": path, "augment": True, "cutmix": 1.0}
    memory, disk = (load(DataConfig(**data, stream=s)) for s in (False, True))
    assert (disk.name, disk.classes, disk.image_shape, disk.levels) == (memory.name, memory.classes, memory.image_shape, memory.levels)
    for part in ("train", "validation", "test"):
        for (x, y), (a, b) in zip(getattr(memory, part).in_order(5), getattr(disk, part).in_order(5), strict=True):
            assert torch.equal(x, a) and torch.equal(y, b)
    pairs = zip(*(s.train.batches(7, 3, 1, s.augment, s.mix) for s in (memory, disk)), strict=True)
    for (x, y), (a, b) in pairs:
        assert torch.equal(x, a) and torch.equal(y, b) and y.shape[1] == 2
    train = {"epochs": 1, "threads": 1, "batch_size": 16}
    runs = [
        loop.fit(Config.model_validate({"data": {**data, "stream": s}, "model": SMALL, "train": train}))
        for s in (False, True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(weights(run).values() for run in runs)))
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(path / "train" / "a" / "00.png")
    with pytest.raises(DeployError, match="1x9x8"):
        for _ in load(DataConfig(name="folder", path=path, stream=True, validation=0.01)).train.batches(48, 0, 0):
            pass
    with pytest.raises(ValueError, match="stream"):
        DataConfig(name="digits", stream=True)


def test_a_trace_is_written_for_each_phase(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = loop.fit(config(batch_size=10).model_copy(update={"profile": True}))
    for phase in ("float", "deployed"):
        assert json.loads((run / f"trace-{phase}.json").read_text())["traceEvents"]


def test_batches_too_small_for_the_passes_are_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeployError, match="batch_size"):
        loop.fit(config(accumulate=30))
