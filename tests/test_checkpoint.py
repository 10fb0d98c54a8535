"""The loop's promises: exact resume, atomic writes, damage noticed, nothing overwritten unasked."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spikegate.graph.ir import DeployError
from spikegate.train import checkpoint, loop, models
from spikegate.train.evaluate import evaluate
from spikegate.train.optimize import learning_rate, make_optimizer
from spikegate.train.restore import load_run, read_facts
from spikegate.train.settings.config import Config
from spikegate.train.settings.runfolder import CHECKPOINT, CONFIG, METRICS, WEIGHTS, claim, find_unfinished
from tests import standin

EPOCHS = 4


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "build", standin.build)
    monkeypatch.chdir(tmp_path)


def config(**more) -> Config:
    base = {"data": {"limit_train": 200}, "train": {"epochs": EPOCHS, "threads": 1, "ponder": 0.5}}
    return Config.model_validate(base | more)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / WEIGHTS, "")[0]


def interrupted(monkeypatch, settings: Config, epochs: int, step: int = 2) -> None:
    """Train until Ctrl-C in step `step` after `epochs` finished epochs."""
    real, calls = standin.StandIn.forward, 0

    def forward(self, x):
        nonlocal calls
        calls += self.training
        if calls > epochs * 4 + step:  # 200 images are 4 steps
            raise KeyboardInterrupt
        return real(self, x)

    with monkeypatch.context() as m:
        m.setattr(standin.StandIn, "forward", forward)
        with pytest.raises(KeyboardInterrupt):
            loop.fit(settings)


def test_a_run_folder_is_complete():
    run = loop.fit(config())
    assert run == Path("runs/digits-stas-1") and (run / "tensorboard").is_dir()
    metrics = json.loads((run / METRICS).read_text())
    assert [e["phase"] for e in metrics["epochs"]] == ["float", "float", "deployed", "deployed"]
    wanted = {"loss", "train_accuracy", "validation_accuracy", "mean_tokens", "mean_timesteps", "seconds", "learning_rate"}
    assert wanted <= set(metrics["epochs"][0])
    assert metrics["test"]["images"] == 360 and metrics["machine"]["cores"] >= 1 and metrics["images_per_second"] > 0
    settings, net = load_run(run)
    assert settings.hash == metrics["config_hash"] == config().hash and net.phase == "deployed" and not net.training
    facts = read_facts(run)
    assert facts.image_shape == (1, 8, 8) and facts.levels == 16 and facts.classes == [str(d) for d in range(10)]
    assert loop.fit(config()) == Path("runs/digits-stas-2")
    assert all(torch.equal(a, b) for a, b in zip(weights(run).values(), weights(Path("runs/digits-stas-2")).values()))
    other = weights(loop.fit(config(train={"epochs": EPOCHS, "threads": 1, "ponder": 0.5, "seed": 1})))
    assert not torch.equal(other["head.weight"], weights(run)["head.weight"])


@pytest.mark.parametrize("epochs", [0, 1, 2, 3])
def test_interrupted_and_resumed_equals_uninterrupted(monkeypatch, epochs):
    whole = loop.fit(config(output="whole"))
    interrupted(monkeypatch, config(output="parts"), epochs)
    assert (Path("parts") / CHECKPOINT).exists() == (epochs > 0) and not (Path("parts") / WEIGHTS).exists()
    torch.rand(5)
    run = loop.fit(config(resume="parts"))
    a, b = weights(whole), weights(run)
    assert list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)
    history = [json.loads((r / METRICS).read_text())["epochs"] for r in (whole, run)]
    first, second = ([e["loss"] for e in h] for h in history)
    assert first == second and len(second) == EPOCHS


def test_resume_finds_the_newest_unfinished_run_and_refuses_the_rest(monkeypatch):
    with pytest.raises(DeployError, match="no unfinished run"):
        find_unfinished(None)
    done = loop.fit(config())
    for _ in range(2):
        interrupted(monkeypatch, config(), 1)
    os.utime(f"runs/digits-stas-2/{CHECKPOINT}", (1, 1))
    assert find_unfinished(None) == Path("runs/digits-stas-3") == find_unfinished(Path("runs/digits-stas-3") / CHECKPOINT)
    (Path("empty")).mkdir()
    for given, what in ((done, "is finished"), (Path("none"), "no such run"), (Path("empty"), "config.yml is missing")):
        with pytest.raises(DeployError, match=what):
            find_unfinished(given)
    with pytest.raises(DeployError, match=r"train.lr was 0.003, now 0.1"):
        loop.fit(config(resume=True, train={"epochs": EPOCHS, "lr": 0.1, "ponder": 0.5}))
    with pytest.raises(DeployError, match="leave --output out"):
        loop.fit(config(resume=True, output="elsewhere"))
    assert loop.fit(config(resume=True, train={"epochs": EPOCHS, "eval_batch": 7, "ponder": 0.5})) == Path("runs/digits-stas-3")


def test_a_folder_in_use_is_not_overwritten(monkeypatch):
    run = loop.fit(config(output="out"))
    before = weights(run)
    with pytest.raises(DeployError, match=r"(?s)finished run, which is not overwritten.*--output"):
        loop.fit(config(output="out", train={"epochs": 1, "seed": 3}))
    assert all(torch.equal(before[n], t) for n, t in weights(run).items())
    interrupted(monkeypatch, config(output="half"), 1)
    with pytest.raises(DeployError, match="--resume half"):
        loop.fit(config(output="half"))
    Path("file").write_text("")
    with pytest.raises(DeployError, match="cannot be made a run folder"):
        claim(Path("file"), "x")


@pytest.mark.parametrize("name", [CHECKPOINT, WEIGHTS])
def test_damaged_files_are_noticed(monkeypatch, name):
    if name == WEIGHTS:
        path, use = loop.fit(config(output="out")) / name, lambda: load_run(Path("out"))
    else:
        interrupted(monkeypatch, config(output="out"), 2)
        path, use = Path("out") / name, lambda: loop.fit(config(resume="out"))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-40] ^= 4
    faults = ((whole[: len(whole) // 2], "cut or corrupt"), (b"", "cut or corrupt"), (b"x" * 99, "cut or corrupt"), (flipped, "digest"))
    for body, what in faults:
        path.write_bytes(body)
        with pytest.raises(DeployError, match=what) as e:
            use()
        assert str(path) in str(e.value) and "hint" in str(e.value)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(DeployError, match=r"not written by train/run\.py"):
        use()


def test_tensors_that_do_not_fit_are_named():
    run = loop.fit(config(output="out"))
    tensors, facts = checkpoint.read(run / WEIGHTS, "")
    nan = tensors["head.bias"].clone()
    nan[3] = torch.nan
    for change, what in (
        ({"head.bias": None}, "head.bias is missing"), ({"extra": torch.zeros(1)}, "extra is not part of this model"),
        ({"head.bias": torch.zeros(3)}, r"head.bias is torch.float32 \(3,\), the model needs torch.float32 \(10,\)"),
        ({"head.bias": nan}, "head.bias holds nan or inf"),
    ):
        checkpoint.write(run / WEIGHTS, {n: t for n, t in (tensors | change).items() if t is not None}, facts)
        with pytest.raises(DeployError, match=what):
            load_run(run)
    checkpoint.write(run / WEIGHTS, tensors, {k: v for k, v in facts.items() if k != "levels"})
    with pytest.raises(DeployError, match="header is incomplete"):
        load_run(run)
    checkpoint.write(run / WEIGHTS, tensors, facts)
    (run / CONFIG).write_text((run / CONFIG).read_text().replace("epochs: 4", "epochs: 5"))
    with pytest.raises(DeployError, match="not the settings"):
        load_run(run)


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_full_disk_keeps_the_last_good_checkpoint(monkeypatch, where):
    saved, full = 0, OSError(errno.ENOSPC, "No space left on device")
    real_write, real_rename, real_save = Path.write_bytes, os.replace, loop.save_checkpoint

    def write(self, body):
        if saved == 2 and where == "write":
            real_write(self, body[:100])
            raise full
        return real_write(self, body)

    def rename(a, b):
        if saved == 2 and where == "rename" and str(b).endswith(CHECKPOINT):
            raise full
        return real_rename(a, b)

    def save(*args):
        nonlocal saved
        real_save(*args)
        saved += 1

    with monkeypatch.context() as m:
        m.setattr(Path, "write_bytes", write)
        m.setattr(os, "replace", rename)
        m.setattr(loop, "save_checkpoint", save)
        with pytest.raises(DeployError, match=r"(?s)No space left.*holds epoch 2"):
            loop.fit(config(output="out"))
    assert not [p for p in Path("out").iterdir() if p.name.startswith(".")]
    run = loop.fit(config(resume="out"))
    whole = weights(loop.fit(config(output="whole")))
    assert all(torch.equal(t, whole[n]) for n, t in weights(run).items())


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_with_a_hint(monkeypatch, place):
    real = standin.StandIn.forward

    def forward(self, x):
        out = real(self, x)
        if self.training and self.phase == "deployed":
            out.logits = out.logits * torch.nan if place == "loss" else out.logits + (self.head.bias - self.head.bias.detach()).abs().sqrt()
        return out

    with monkeypatch.context() as m:
        m.setattr(standin.StandIn, "forward", forward)
        with pytest.raises(DeployError, match=rf"(?s)epoch 3, step 1 of 4: the {place}.*lower train.lr.*holds epoch 2"):
            loop.fit(config(output="out"))
    assert loop.fit(config(resume="out")) == Path("out")


def test_tensors_survive_unchanged(tmp_path):
    given = {"a": torch.randn(3, 4).t(), "b": torch.tensor(5), "c": torch.zeros(0, 2), "d": torch.arange(3, dtype=torch.uint8)}
    checkpoint.write(tmp_path / "x.ckpt", given, {"k": [1, "two"]})
    found, facts = checkpoint.read(tmp_path / "x.ckpt", "")
    assert facts == {"k": [1, "two"]} and all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in given.items())
    assert set(load_file(tmp_path / "x.ckpt")) == set(given)


def test_learning_rate_warms_up_and_ends_near_zero():
    settings = Config.model_validate({"train": {"epochs": 10, "warmup_epochs": 2, "lr": 0.1}}).train
    rates = [learning_rate(s, 50, settings) for s in range(500)]
    assert max(rates) == rates[100] == pytest.approx(0.1) and rates[:101] == sorted(rates[:101]) and 0 < rates[-1] < 1e-5
    one = Config.model_validate({"train": {"epochs": 1, "warmup_epochs": 9}}).train
    assert all(0 < learning_rate(s, 3, one) <= one.lr for s in range(3))


def test_only_matrices_decay():
    net = standin.StandIn(64, 10, 16, True)
    groups = make_optimizer(net, config().train).param_groups
    decays = {id(p): g["weight_decay"] > 0 for g in groups for p in g["params"]}
    assert decays == {id(p): p.ndim > 1 for p in net.parameters()} and sorted(decays.values()) == [False] * 4 + [True]


def test_evaluate_weighs_batches_by_size_and_keeps_the_mode():
    from spikegate.train.data import load

    images, net = load(config().data).validation, standin.StandIn(64, 10, 16, False).train()
    one, many = evaluate(net, images, 1000), evaluate(net, images, 7)
    assert net.training and one["accuracy"] == many["accuracy"] and one["mean_timesteps"] == many["mean_timesteps"] == 4
    assert one["mean_tokens"] == pytest.approx(many["mean_tokens"]) == 1
