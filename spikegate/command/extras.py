"""Which optional package belongs to which extra of the installation, and the words for one that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from spikegate.errors import DeployError


class Optional(NamedTuple):
    """A package that only some commands need: the module it is imported as, its name in a registry, those commands, how to get it."""

    module: str
    package: str
    purpose: str
    install: str


def extra(name: str) -> str:
    return f"pip install 'spikegate[{name}]'"


LAVA = f"{extra('lava')} and then: spikegate install-lava"
OPTIONAL = (
    Optional("torch", "torch", "train, export, import spikingjelly, compare with torch", extra("train")),
    Optional("torchvision", "torchvision", "download Fashion-MNIST and CIFAR, RandAugment", extra("train")),
    Optional("safetensors", "safetensors", "trained weights: train, export, compare with torch", extra("train")),
    Optional("tensorboard", "tensorboard", "curves of a training", extra("train")),
    Optional("cv2", "opencv-python-headless", "SLAYER's imports: train", extra("train")),
    Optional("scipy", "scipy", "Lava's and SLAYER's imports: run, compare, train", extra("lava")),
    Optional("threadpoolctl", "threadpoolctl", "run and compare in Lava", LAVA),
    Optional("lava.magma", "lava-nc", "run and compare in Lava", LAVA),
    Optional("lava.lib.dl", "lava-dl", "train (SLAYER), scripts of netx", "spikegate install-lava"),
    Optional("spikingjelly", "spikingjelly", "build the models that import spikingjelly reads", extra("spikingjelly")),
    Optional("nir", "nir", "import nir, export --format nir", extra("nir")),
    Optional("sanafe", "sanafe", "place --noc (GPL-3)", extra("sanafe")),
    Optional("tonic", "tonic", "event recordings: nmnist, dvsgesture, cifar10dvs, .bin files", extra("events")),
    Optional("expelliarmus", "expelliarmus", "event recordings in .dat and .raw files", extra("events")),
    Optional("distributed", "distributed", "--cluster of run, sweep and benches", extra("cluster")),
    Optional("dask", "dask", "--cluster of run, sweep and benches", extra("cluster")),
    Optional("neurobench", "neurobench", "count the same net with NeuroBench", extra("neurobench")),
)


def absent(module: str | None, who: str) -> DeployError | None:
    """The error for an optional module that cannot be found; None for any other module, whose absence is a fault of ours."""
    for known in OPTIONAL:
        if module is not None and (module == known.module or module.split(".")[0] == known.module.split(".")[0]):
            return DeployError(who, f"needs {known.package}, which is not installed", known.install)
    return None


@contextmanager
def needs(who: str) -> Iterator[None]:
    """Turns a missing optional package, met inside, into a DeployError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as e:
        found = absent(e.name, who)
        if found is None:
            raise
        raise found from None
