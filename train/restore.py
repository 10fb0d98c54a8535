"""A trained net from its run folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from spikegate.command.runs import find_weights
from spikegate.graph.ir import DeployError
from spikegate.train import checkpoint, models
from spikegate.train.layers.base import Twin
from spikegate.train.layers.exit_gate import Exit
from spikegate.train.layers.readout import Head
from spikegate.train.models.net import Net
from spikegate.train.settings.config import Config
from spikegate.train.settings.options import of_run
from spikegate.train.settings.runfolder import CONFIG, WEIGHTS
from spikegate.train.widen import widened

HINT = "train again with train/run.py"


@dataclass(frozen=True)
class Facts:
    """What a net needs to know of its data: image shape (channels, height, width), class names, largest pixel value."""

    config_hash: str
    dataset: str
    image_shape: tuple[int, ...]
    classes: list[str]
    levels: int


def save_weights(path: Path, net: Net, facts: Facts) -> None:
    """Write the final weights with the facts in the header."""
    checkpoint.write(path, net.state_dict(), asdict(facts))


def read_facts(run: Path) -> Facts:
    """The facts in the header of a run's weights."""
    run = find_weights(run)
    return _facts(run, checkpoint.read(run / WEIGHTS, HINT)[1])


def load_run(run: Path) -> tuple[Config, Net]:
    """Settings and net of a finished run, in eval mode and phase ``deployed``.

    Raises
    ------
    DeployError
        Missing, corrupt or foreign files; settings changed since training; tensors missing, unknown, misshapen or not finite.
    """
    run = find_weights(run)
    config = of_run(run)
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


@dataclass(frozen=True)
class Start:
    """What a warm start did not take as it was: parameters that start fresh; whether channels were copied (`spikegate.train.widen`)."""

    fresh: list[str]
    wider: bool

    def __str__(self) -> str:
        copied = "; more channels: copies of those that it has" if self.wider else ""
        return copied + (f"; new: {', '.join(dict.fromkeys(map(_layer, self.fresh)))}" if self.fresh else "")


def start_from(run: Path, net: Net, classes: Sequence[str], fresh: Sequence[str] = ()) -> Start:
    """Fill `net` with the weights of a finished run (warm start).

    An adaptive net may start from its static twin: gates and masks are not in the twin's run. A net of other `classes` than the run's
    (pre-training on another data set) has its head fresh, too. Exit margins are never trained, so a net without masks may have another
    number of timesteps than the run. A net with more channels starts with the same answers in float (`spikegate.train.widen`). Layers
    whose names begin with one of `fresh` are not looked at, in the run and in the net. Any other tensor that is missing, unknown or
    misshapen is an error.
    """
    run = find_weights(run)
    tensors, header = checkpoint.read(run / WEIGHTS, HINT)
    own = net.state_dict()
    facts = _facts(run, header)
    _known(fresh, {*own, *tensors})
    aside = {n for n in (*own, *tensors) if _begins(_layer(n), fresh)}
    tensors = {n: t for n, t in tensors.items() if n not in aside}
    if wider := _wider(net, tensors):
        tensors = widened(tensors, load_run(run)[1], net, str(run / WEIGHTS), {n for n in ("stem", *net.named) if _begins(n, fresh)})
    gates = _prefixes(net, lambda twin: twin.halts)
    heads = () if facts.classes == list(classes) else _prefixes(net, lambda twin: isinstance(twin, Head))
    exits = _prefixes(net, lambda twin: isinstance(twin, Exit))
    tensors = {n: own[n] if n.startswith(exits) and n in own else t for n, t in tensors.items()}
    kept = {
        n: t for n, t in own.items()
        if n in aside or n.startswith(heads) or (n.startswith((*gates, "modules_aside.")) and n not in tensors)
    }  # fmt: skip
    given = {n: t for n, t in tensors.items() if n in own or not n.startswith("modules_aside.")}
    hint = "start from a run of the same model or of its static twin, of the same size, or leave layers out by train.fresh"
    checkpoint.fill(net, {**given, **kept}, run / WEIGHTS, hint)
    return Start(sorted(kept), wider)


def _layer(name: str) -> str:
    """Name of the layer that a tensor belongs to."""
    first, *rest = name.split(".")
    return rest[0].replace("/", ".") if first == "twins" else first


def _begins(layer: str, parts: Sequence[str]) -> bool:
    return any(f"{layer}.".startswith(f"{part}.") for part in parts)


def _known(parts: Sequence[str], names: Collection[str]) -> None:
    """Raise for one of `parts` with which no layer's name begins."""
    layers = {_layer(n) for n in names}
    for part in parts:
        if not any(_begins(layer, [part]) for layer in layers):
            known = ", ".join(sorted({layer.split(".")[0] for layer in layers}))
            raise DeployError("train.fresh", f"neither the net nor the run it starts from has a layer {part!r}", f"use some of {known}")


def _wider(net: Net, tensors: dict[str, torch.Tensor]) -> bool:
    """Whether a layer of the net has more channels than in `tensors`, and none has fewer."""
    counts = [(len(t), len(tensors[n])) for n, t in net.state_dict().items() if n.endswith("norm.gamma") and n in tensors]
    return any(own > given for own, given in counts) and all(own >= given for own, given in counts)


def _prefixes(net: Net, wanted: Callable[[Twin], bool]) -> tuple[str, ...]:
    """Beginnings of the names of tensors that belong to the twins that are wanted."""
    return tuple(f"twins.{n.replace('.', '/')}." for n, twin in net.named.items() if wanted(twin))


def _facts(run: Path, header: dict) -> Facts:
    try:
        return Facts(**(header | {"image_shape": tuple(int(n) for n in header["image_shape"])}))
    except (KeyError, TypeError, ValueError) as e:
        raise DeployError(str(run / WEIGHTS), f"its header is incomplete ({e})", HINT) from None
