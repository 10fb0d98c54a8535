"""Where nets come from: SpikingJelly's model zoo and tutorials, NIR files, snnTorch's and Sinabs' nets, published checkpoints by key names.

Each entry builds or loads one net as its framework does, with weights drawn from a seed where no trained ones can be shipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

T = 4
NIR_FILES = {  # paper/ of github.com/neuromorphs/NIR -> timestep, timesteps
    "01_lif/lif_norse.nir": (1e-4, 100), "01_lif/lif_rockpool.nir": (1e-4, 100),
    "01_lif/debug_spike_representation/two_lif_neurons.nir": (1e-4, 100), "02_cnn/cnn_sinabs.nir": (1.0, 20),
    "03_rnn/braille_noDelay_bias_zero.nir": (1e-4, 50), "03_rnn/braille_noDelay_noBias_subtract.nir": (1e-4, 50),
    "03_rnn/extras/braille_noDelay_bias_zero_subgraph.nir": (1e-4, 50),
    "03_rnn/extras/braille_noDelay_noBias_subtract_subgraph.nir": (1e-4, 50),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """`kind` says which importer takes what `make` returns: a SpikingJelly model, a framework's model and sample, or a NIR file."""

    kind: str
    name: str
    make: Callable[[], Any]
    shape: tuple[int, ...] = ()  # of an image
    timesteps: int = T
    dt: float = 1.0
    reset: str = "zero"


def spikingjelly() -> list[Entry]:
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.model import (
        maxformer,
        ms_resnet,
        parametric_lif_net,
        qkformer,
        sew_resnet,
        spike_driven_transformer,
        spikformer,
        spiking_resnet,
        spiking_vgg,
    )

    lif = {"spiking_neuron": neuron.LIFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
    plain = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}

    def multi(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def made() -> nn.Module:
            net = lively(make())
            functional.set_step_mode(net, "m")
            return net

        return made

    small = (3, 32, 32)
    found = [
        Entry("spikingjelly", f"model.spiking_vgg.{f}", multi(lambda f=f: getattr(spiking_vgg, f)(num_classes=10, **lif)), small)
        for f in ("spiking_vgg11", "spiking_vgg11_bn", "spiking_vgg13_bn", "spiking_vgg16_bn", "spiking_vgg19_bn")
    ]
    found += [
        Entry("spikingjelly", f"model.spiking_resnet.{f}", multi(lambda f=f: getattr(spiking_resnet, f)(num_classes=10, **plain)), small)
        for f in ("spiking_resnet18", "spiking_resnet34")
    ]
    found += [
        Entry("spikingjelly", f"model.sew_resnet.{f}, {cnf}",
              multi(lambda f=f, cnf=cnf: getattr(sew_resnet, f)(num_classes=10, cnf=cnf, **plain)), small)
        for f, cnf in (("sew_resnet18", "ADD"), ("sew_resnet18", "AND"), ("sew_resnet18", "IAND"), ("sew_resnet34", "ADD"))
    ]  # fmt: skip
    found += [
        Entry("spikingjelly", f"model.parametric_lif_net.{f}", multi(lambda f=f: getattr(parametric_lif_net, f)(channels=16, **lif)), shape)
        for f, shape in (("MNISTNet", (1, 28, 28)), ("CIFAR10Net", small))
    ]
    narrow = {"T": T, "num_classes": 10, "embed_dims": 64}
    zoo: dict[str, Callable[[], nn.Module]] = {
        "spikformer.spikformer_cifar10": lambda: spikformer.spikformer_cifar10(T=T),
        "spike_driven_transformer.SpikeDrivenTransformer":
            lambda: spike_driven_transformer.SpikeDrivenTransformer(num_heads=4, depths=2, **narrow),
        "qkformer.QKFormer": lambda: qkformer.QKFormer(num_heads=(2, 4, 4), depths=(1, 1, 1), **narrow),
        "maxformer.MaxFormer": lambda: maxformer.MaxFormer(**narrow),
        "ms_resnet.ms_resnet18": lambda: ms_resnet.ms_resnet18(T=T, num_classes=10),
    }
    found += [Entry("spikingjelly", f"model.{n}", multi(make), small) for n, make in zoo.items()]
    return [*tutorials(multi), *checkpoints(), *reversed(found)]  # the small ones first


def checkpoints() -> list[Entry]:
    """State dicts with the key names of authors' repositories and weights drawn here: stand-ins, the files themselves were not at hand."""
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.model import sew_resnet

    from spikegate.convert.spikingjelly.published import build

    def sew(make: Callable[..., nn.Module]) -> nn.Module:
        state = {}
        for key, value in lively(make(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=10)).state_dict().items():
            key = re.sub(r"^(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.module.0.", key)
            key = re.sub(r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.module.1.", key)
            state[re.sub(r"^(layer\d\.\d+\.downsample)\.(\d)\.", r"\1.0.module.\2.", key)] = value
        return build(state, timesteps=T)

    def marked(key: str) -> nn.Module:
        return build({key: torch.zeros(8, 8, 1)})

    nets: dict[str, Callable[[], nn.Module]] = {
        "SEW-ResNet-18": lambda: sew(sew_resnet.sew_resnet18), "SEW-ResNet-50": lambda: sew(sew_resnet.sew_resnet50),
        "Spike-driven Transformer": lambda: marked("block.0.attn.talking_heads.weight"),
        "MS-ResNet": lambda: marked("conv2_x.0.residual_function.1.weight"),
    }  # fmt: skip
    return [Entry("spikingjelly", f"published keys: {name}", make, (3, 32, 32)) for name, make in nets.items()]


def tutorials(multi: Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]) -> list[Entry]:
    """The nets of SpikingJelly's documentation, and checkpoints of its clock_driven time, whose keys they keep."""
    from spikingjelly.activation_based import layer, neuron, surrogate

    at, levels = surrogate.ATan(), surrogate.MultiLevelSpikeCount(4)

    def first() -> nn.Module:
        return nn.Sequential(layer.Flatten(), layer.Linear(28 * 28, 10, bias=False), neuron.LIFNode(tau=2.0, surrogate_function=at))

    def csnn(node: Callable[..., nn.Module] = neuron.IFNode, pool: Callable[..., nn.Module] = layer.MaxPool2d, **more: Any) -> nn.Module:
        c, more = 16, {"surrogate_function": at, **more}
        return nn.Sequential(
            layer.Conv2d(1, c, 3, padding=1, bias=False), layer.BatchNorm2d(c), node(**more), pool(2, 2),
            layer.Conv2d(c, c, 3, padding=1, bias=False), layer.BatchNorm2d(c), node(**more), pool(2, 2),
            layer.Flatten(), layer.Linear(c * 49, c * 16, bias=False), node(**more),
            layer.Linear(c * 16, 10, bias=False), node(**more),
        )  # fmt: skip

    def clock_driven(wrap: str) -> nn.Module:
        state = {f"{wrap}{k}": v for k, v in lively(csnn()).state_dict().items()}
        net = csnn()
        net.load_state_dict({k.removeprefix(wrap): v for k, v in state.items()})
        return net

    shape = (1, 28, 28)
    nets: dict[str, Callable[[], nn.Module]] = {
        "tutorial: lif_fc_mnist": first, "tutorial: conv_fashion_mnist": csnn,
        "tutorial: conv_fashion_mnist, soft reset": lambda: csnn(v_reset=None),
        "tutorial: conv_fashion_mnist, ParametricLIFNode": lambda: csnn(neuron.ParametricLIFNode),
        "neuron.ILIFNode in that net, average pools": lambda: csnn(neuron.ILIFNode, layer.AvgPool2d, surrogate_function=levels),
        "neuron.ILIFNode in that net": lambda: csnn(neuron.ILIFNode, surrogate_function=levels),
        "neuron.KLIFNode in that net": lambda: csnn(neuron.KLIFNode), "neuron.QIFNode in that net": lambda: csnn(neuron.QIFNode),
        "clock_driven checkpoint of that net": lambda: clock_driven(""),
        "clock_driven checkpoint, DataParallel": lambda: clock_driven("module."),
    }  # fmt: skip
    return [Entry("spikingjelly", name, multi(make), shape) for name, make in nets.items()]


def snntorch() -> list[Entry]:
    """The nets of snnTorch's tutorials 2 to 6, and its other neurons."""
    import snntorch as snn

    def dense(node: Callable[..., nn.Module], **more: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), node(init_hidden=True, **more), nn.Linear(100, 10),
                             node(init_hidden=True, output=True, **more))  # fmt: skip

    def conv(pool: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 12, 5), pool, snn.Leaky(beta=0.5, init_hidden=True), nn.Conv2d(12, 32, 5),
                             nn.AvgPool2d(2) if isinstance(pool, nn.AvgPool2d) else nn.MaxPool2d(2), snn.Leaky(beta=0.5, init_hidden=True),
                             nn.Flatten(), nn.Linear(512, 10), snn.Leaky(beta=0.5, init_hidden=True, output=True))  # fmt: skip

    nets: dict[str, Callable[[], nn.Module]] = {
        "tutorials 3 and 5: Leaky, fully connected": lambda: dense(snn.Leaky, beta=0.95),
        "the same, reset_mechanism zero": lambda: dense(snn.Leaky, beta=0.95, reset_mechanism="zero"),
        "the same, reset_delay False": lambda: dense(snn.Leaky, beta=0.95, reset_delay=False),
        "tutorial 4: Synaptic": lambda: dense(snn.Synaptic, alpha=0.9, beta=0.8),
        "tutorial 4: Alpha": lambda: dense(snn.Alpha, alpha=0.9, beta=0.8), "tutorial 2: Lapicque": lambda: dense(snn.Lapicque, beta=0.9),
        "tutorial 6: convolutional, max-pool of currents": lambda: conv(nn.MaxPool2d(2)),
        "tutorial 6 with average pools": lambda: conv(nn.AvgPool2d(2)),
    }  # fmt: skip
    return [Entry("framework", f"snntorch {name}", lambda m=make: (lively(m()), torch.zeros(1, 1, 28, 28)), timesteps=25)
            for name, make in nets.items()]  # fmt: skip


def sinabs() -> list[Entry]:
    """The nets of Sinabs' tutorials."""
    import sinabs.layers as sl

    def cnn(**more: Any) -> nn.Module:
        iaf = lambda: sl.IAFSqueeze(batch_size=1, **more)  # noqa: E731
        return nn.Sequential(nn.Conv2d(1, 8, 5, bias=False), iaf(), sl.SumPool2d(2), nn.Conv2d(8, 16, 5, bias=False), iaf(),
                             sl.SumPool2d(2), nn.Flatten(), nn.Linear(256, 10, bias=False), iaf())  # fmt: skip

    def dense(make: Callable[[], nn.Module]) -> nn.Module:
        return nn.Sequential(nn.Linear(784, 100), make(), nn.Linear(100, 10), make())

    frames, flat = torch.zeros(20, 1, 28, 28), torch.zeros(1, 20, 784)
    nets: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
        "tutorial: MNIST, IAF": (cnn, frames), "tutorial: DynapCNN, min_v_mem": (lambda: cnn(min_v_mem=-1.0), frames),
        "IAF, fully connected": (lambda: dense(sl.IAF), flat), "LIF, fully connected": (lambda: dense(lambda: sl.LIF(tau_mem=10.0)), flat),
        "ALIF": (lambda: dense(lambda: sl.ALIF(tau_mem=10.0, tau_adapt=20.0)), flat),
    }  # fmt: skip
    return [Entry("framework", f"sinabs {name}", lambda m=make, x=x: (lively(m()), x), timesteps=20) for name, (make, x) in nets.items()]


def nir_files(folder: Path | None) -> list[Entry]:
    """The files of the NIR paper, where a copy of its repository lies."""
    return [] if folder is None else [
        Entry("nir", f"NIR paper, {name}", lambda n=name: folder / "paper" / n, timesteps=steps, dt=dt)
        for name, (dt, steps) in NIR_FILES.items()
    ]  # fmt: skip


def lively(net: nn.Module, seed: int = 3) -> nn.Module:
    """Weights drawn so that the layers spike, norms with running statistics."""
    torch.manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.Conv2d | nn.Conv1d | nn.Linear):
            fan = m.weight[0].numel()
            nn.init.normal_(m.weight, 0.0, 2.0 / fan**0.5)
            if m.bias is not None:
                nn.init.constant_(m.bias, 0.1)
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.constant_(m.weight, 1.0)
            nn.init.constant_(m.bias, 0.4)
            m.running_var.fill_(1.5)
    return net.eval()
