"""A trained net from its run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from convert.ir import DeployError
from convert.runs import find_run
from train import checkpoint, models
from train.config import Config
from train.net import Net
from train.options import from_yaml
from train.runfolder import CONFIG, WEIGHTS

HINT = "train again with train/run.py"


@dataclass(frozen=True)
class Facts:
    """What a net needs to know of its data: image shape (channels, height, width), class names, largest pixel value."""

    config_hash: str
    dataset: str
    image_shape: tuple[int, int, int]
    classes: list[str]
    levels: int


def save_weights(path: Path, net: Net, facts: Facts) -> None:
    """Write the final weights with the facts in the header."""
    checkpoint.write(path, net.state_dict(), asdict(facts))


def read_facts(run: Path) -> Facts:
    """The facts in the header of a run's weights."""
    return _facts(run, checkpoint.read(run / WEIGHTS, HINT)[1])


def load_run(run: Path) -> tuple[Config, Net]:
    """Settings and net of a finished run, in eval mode and phase ``deployed``.

    Raises
    ------
    DeployError
        Missing, corrupt or foreign files; settings changed since training; tensors missing, unknown, misshapen or not finite.
    """
    run = find_run(run)
    config = from_yaml(run / CONFIG)
    tensors, header = checkpoint.read(run / WEIGHTS, HINT)
    facts = _facts(run, header)
    if facts.config_hash != config.hash:
        what = "not the settings that the weights were trained with (the file was changed, or another version wrote it)"
        raise DeployError(str(run / CONFIG), what, f"undo the change, or {HINT}")
    net = models.build(config.model, facts.image_shape, len(facts.classes), facts.levels)
    checkpoint.fill(net, tensors, run / WEIGHTS, HINT)
    net.set_phase("deployed")
    net.eval()
    return config, net


def start_from(run: Path, net: Net) -> None:
    """Fill `net` with the weights of a finished run (warm start).

    The run's net may be the same without this net's gates and timestep masks: those then start as new.
    """
    tensors, _ = checkpoint.read(find_run(run) / WEIGHTS, HINT)
    gates = tuple(f"twins.{name.replace('.', '/')}." for name, twin in net.named.items() if twin.halts)
    new = {name: tensor for name, tensor in net.state_dict().items() if name not in tensors and name.startswith(gates)}
    hint = "start from a run with the same model settings but for halting and masks, or leave train.start out"
    checkpoint.fill(net, tensors | new, run / WEIGHTS, hint)


def _facts(run: Path, header: dict) -> Facts:
    try:
        return Facts(**(header | {"image_shape": tuple(int(n) for n in header["image_shape"])}))
    except (KeyError, TypeError, ValueError) as e:
        raise DeployError(str(run / WEIGHTS), f"its header is incomplete ({e})", HINT) from None
