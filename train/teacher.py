"""Knowledge distillation: a finished net's soft answers as part of the target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, kl_div

from spikegate.graph.ir import DeployError
from spikegate.train.ann_teacher import OnnxNet
from spikegate.train.images import Splits
from spikegate.train.restore import load_run, read_facts

TEMPERATURE = 2.0


class Teacher:
    """What a net that is not trained any more answers: `answer`, uint8 images to logits [batch, classes], without gradients."""

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor], share: float) -> None:
        self.answer, self.share = answer, share

    def loss(self, logits: torch.Tensor, x: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
        r"""Loss of the pupil's logits [batch, classes] for uint8 images x (Hinton, Vinyals, Dean, arXiv 1503.02531).

        .. math:: (1 - w)\, \mathrm{CE}(z, y) + w\, \tau^2\, \mathrm{KL}(\mathrm{softmax}(z'/\tau) \,\|\, \mathrm{softmax}(z/\tau))

        z' are the teacher's logits, w is ``train.distill``, tau is 2.
        """
        with torch.no_grad():
            soft = (self.answer(x) / TEMPERATURE).softmax(-1)
        towards = kl_div((logits / TEMPERATURE).log_softmax(-1), soft, reduction="batchmean") * TEMPERATURE**2
        return (1 - self.share) * cross_entropy(logits, labels, label_smoothing=smoothing) + self.share * towards


def load_teacher(run: Path, share: float, splits: Splits, device: torch.device | None = None) -> Teacher:
    """The net of a finished run, as deployed, or of an ONNX file; checked to be of the same images and classes.

    Raises
    ------
    DeployError
        No finished run or usable file there, or one of other data.
    """
    if run.suffix == ".onnx":
        return Teacher(OnnxNet(run, splits.image_shape, len(splits.classes), splits.levels), share)
    facts = read_facts(run)
    for what, its, ours in (("images", facts.image_shape, splits.image_shape), ("classes", facts.classes, splits.classes)):
        if its != ours:
            raise DeployError("train.teacher", f"{run} has {what} {its}, the data has {ours}", "name a run of the same data set")
    net = load_run(run)[1].to(device or "cpu")
    return Teacher(lambda x: net(x).logits, share)
