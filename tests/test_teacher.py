"""Distillation: the loss itself, what a teacher must be, and a run that has one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from spikegate.graph.ir import DeployError
from spikegate.train.data import load
from spikegate.train.loop import fit
from spikegate.train.restore import load_run
from spikegate.train.settings.config import check
from spikegate.train.teacher import Teacher, load_teacher

SMALL = {
    "data": {"name": "digits", "limit_train": 64},
    "model": {"name": "spikformer", "dim": 8, "heads": 2, "timesteps": 2, "stem_channels": 4},
    "train": {"epochs": 1, "float_share": 0.0, "threads": 1},
}


def settings(output, **train):
    return check(SMALL | {"train": SMALL["train"] | train, "output": str(output)}, "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(settings(tmp_path_factory.mktemp("teacher") / "run"))


def teacher_of(logits: torch.Tensor, share: float) -> Teacher:
    return Teacher(lambda x: logits, share)


def test_a_pupil_that_agrees_has_the_labels_loss_alone():
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])
    for share in (0.25, 1.0):
        expected = (1 - share) * cross_entropy(logits, labels, label_smoothing=0.1)
        assert torch.allclose(teacher_of(logits, share).loss(logits, None, labels, 0.1), expected, atol=1e-6)


def test_the_soft_part_is_the_divergence_at_temperature_two():
    pupil, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    p = (teacher / 2).softmax(-1)
    expected = 4 * (p * (p / 0.5).log()).sum()
    assert torch.allclose(teacher_of(teacher, 1.0).loss(pupil, None, torch.tensor([0]), 0.0), expected)


def test_the_gradient_pulls_towards_the_teacher_and_leaves_it_alone():
    pupil = torch.zeros(1, 3, requires_grad=True)
    teacher = torch.tensor([[3.0, 0.0, -3.0]], requires_grad=True)
    teacher_of(teacher, 1.0).loss(pupil, None, torch.tensor([2]), 0.0).backward()
    assert pupil.grad[0, 0] < 0 < pupil.grad[0, 2] and teacher.grad is None


def test_a_teacher_changes_the_weights_and_the_hash(run, tmp_path):
    alone, taught = settings(tmp_path / "alone", seed=1), settings(tmp_path / "taught", seed=1, teacher=str(run))
    assert alone.hash != taught.hash
    a, b = (load_run(fit(c))[1].state_dict() for c in (alone, taught))
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_a_teacher_of_other_data_is_refused(run):
    splits = load(settings("unused").data)
    with pytest.raises(DeployError, match=r"images \(1, 8, 8\), the data has \(1, 28, 28\)"):
        load_teacher(run, 0.5, SimpleNamespace(image_shape=(1, 28, 28), classes=splits.classes))  # type: ignore[arg-type]
    with pytest.raises(DeployError, match="classes"):
        load_teacher(run, 0.5, SimpleNamespace(image_shape=splits.image_shape, classes=["cat"]))  # type: ignore[arg-type]
    x = splits.test.x[:8]
    assert torch.equal(load_teacher(run, 0.5, splits).answer(x), load_run(run)[1](x).logits)


def test_no_teacher_there_is_an_error(tmp_path):
    with pytest.raises(DeployError, match="none"):
        fit(settings(tmp_path / "out", teacher=str(tmp_path / "none")))
    assert not (tmp_path / "out").exists()


def test_two_kinds_of_distillation_are_refused():
    with pytest.raises(DeployError, match="choose one"):
        check({"model": {"name": "stmixer", "modules": 1}, "train": {"teacher": "x"}}, "test")
