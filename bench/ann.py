"""python bench/ann.py: train a small convolutional ANN (ReLU, not spiking) and write it as ONNX, to distil spiking nets from."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from spikegate.command import cli
from spikegate.train.settings.data_config import DataConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spikegate.train.images import Images, Splits

HALVED = (1, 3, 5)  # convolutions whose map is max-pooled


@dataclass
class Args:
    """Train seven 3x3 convolutions with batch normalisation, ReLU and max-pooling, and a linear head; test images are looked at once."""

    output: Annotated[Path, tyro.conf.Positional]
    """The ONNX file: uint8 images [N, C, H, W] to logits [N, classes]."""
    data: DataConfig = field(default_factory=DataConfig)
    epochs: int = 12
    batch_size: int = 256
    lr: float = 0.2
    """Highest learning rate of SGD with Nesterov momentum, reached after a fifth of the epochs."""
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    width: int = 64
    """Channels of the second and third convolution; the first has half as many, the others two and a half times as many."""
    threads: int = 2
    seed: int = 0


def build(splits: Splits, width: int) -> nn.Sequential:
    """The net, for pixels of mean 0 and deviation 1."""
    from torch import nn

    wide = width * 5 // 2
    widths = [splits.image_shape[0], width // 2, width, width, wide, wide, wide, wide]
    made: list[nn.Module] = []
    for n, (i, o) in enumerate(pairwise(widths)):
        made.append(nn.Conv2d(i, o, 3, padding=1, bias=False))
        if n in HALVED:
            made.append(nn.MaxPool2d(2))
        made += [nn.BatchNorm2d(o, momentum=0.2), nn.ReLU(inplace=True)]
    return nn.Sequential(*made, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(wide, len(splits.classes), bias=False))


class Scaled:
    """Pixels to mean 0 and deviation 1 of the training images, channel by channel."""

    def __init__(self, x: torch.Tensor) -> None:
        sample = x[:5000].float()
        self.mean, self.deviation = sample.mean((0, 2, 3), keepdim=True), sample.std((0, 2, 3), keepdim=True) + 1e-6

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return ((x.float() - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)


def train(args: Args, splits: Splits, scaled: Scaled) -> nn.Sequential:
    """The trained net; a line for each epoch is printed."""
    import torch
    from torch.nn.functional import cross_entropy

    net = build(splits, args.width).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay)
    steps = args.epochs * splits.train.count(args.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps, pct_start=0.2, anneal_strategy="linear")
    for epoch in range(args.epochs):
        begun, right = time.monotonic(), 0
        net.train()
        for x, y in splits.train.batches(args.batch_size, args.seed, epoch, splits.augment):
            logits = net(scaled(x))
            optimizer.zero_grad()
            cross_entropy(logits, y, label_smoothing=args.label_smoothing).backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == y).sum())
        shown = f"train {right / len(splits.train):.2%}, validation {accuracy(net, scaled, splits.validation):.2%}"
        print(f"epoch {epoch + 1}/{args.epochs}: {shown}, {time.monotonic() - begun:.1f} s", flush=True)
    return net


def accuracy(net: nn.Sequential, scaled: Scaled, images: Images) -> float:
    """Share of the images that the net names rightly."""
    import torch

    net.eval()
    with torch.inference_mode():
        right = sum(int((net(scaled(x)).argmax(1) == y).sum()) for x, y in images.in_order(500))
    return right / len(images)


def write(net: nn.Sequential, scaled: Scaled, shape: tuple[int, ...], path: Path) -> None:
    """Save the net, normalisations as they are, as ONNX."""
    from onnx import TensorProto, checker, helper, numpy_helper, save
    from torch import nn

    held: list[object] = []
    nodes = [helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT)]

    def constant(name: str, value: torch.Tensor) -> str:
        held.append(numpy_helper.from_array(value.detach().contiguous().numpy().astype(np.float32), name))
        return name

    def add(kind: str, *inputs: str, **attributes: object) -> None:
        name = nodes[-1].output[0]
        nodes.append(helper.make_node(kind, [name, *inputs], [f"y{len(nodes)}"], **attributes))

    add("Sub", constant("mean", scaled.mean))
    add("Div", constant("deviation", scaled.deviation))
    for n, layer in enumerate(net):
        match layer:
            case nn.Conv2d():
                add("Conv", constant(f"w{n}", layer.weight), pads=[1, 1, 1, 1])
            case nn.MaxPool2d():
                add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            case nn.BatchNorm2d():
                parts = {"scale": layer.weight, "shift": layer.bias, "mean": layer.running_mean, "var": layer.running_var}
                add("BatchNormalization", *(constant(f"{k}{n}", v) for k, v in parts.items() if v is not None), epsilon=layer.eps)
            case nn.ReLU():
                add("Relu")
            case nn.AdaptiveMaxPool2d():
                add("GlobalMaxPool")
            case nn.Flatten():
                add("Flatten")
            case nn.Linear():
                add("MatMul", constant(f"w{n}", layer.weight.t()))
    nodes[-1].output[0] = "logits"
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", net[-1].out_features])
    graph = helper.make_graph(nodes, "ann", [images], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)


def main() -> None:
    """Train, write, and look at the test images."""
    import torch

    from spikegate.train.data import load

    args = cli.parse(Args, "Train a small ANN as a teacher.")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    splits = load(args.data)
    scaled = Scaled(splits.train.x)
    net = train(args, splits, scaled)
    write(net, scaled, splits.image_shape, args.output)
    size = sum(p.numel() for p in net.parameters())
    print(f"{args.output}: {size:,} parameters, test accuracy {accuracy(net, scaled, splits.test):.2%} over {len(splits.test):,} images")


if __name__ == "__main__":
    cli.run(main)
