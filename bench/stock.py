"""The same NetX files in stock `netx.hdf5.Network` and in ours: the nets of lava-dl's wheel and a chain of token-wise layers."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegate.formats.netx.chain import read_chain
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.formats.netx.pipeline import Pipeline
from spikegate.graph.ir import Graph, Payload
from spikegate.neurons.base import GRADED
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense

WHEEL = "tests/lava/lib/dl/netx"


@dataclass(frozen=True)
class Case:
    """One file. `steps` are stock's in one round; our runs have `length` timesteps in each of `samples` samples, stock the same stream.

    `first`, `count`: the layers that are run; left out are input blocks (stock does not connect them), a last layer without neurons
    (stock puts one there that never fires) and averages (stock refuses them).
    """

    name: str
    file: str
    steps: int
    length: int
    samples: int
    density: float
    target: float
    first: int = 0
    count: int | None = None
    bits: int = 0

    def path(self, scratch: Path) -> Path:
        """The file; the chain is written to `scratch`."""
        if self.file == "tokens.net":
            return chain(scratch / self.file)
        return Path(str(distribution("lava-dl").locate_file(WHEEL))) / self.file


CASES = (
    Case("tiny", "tiny.net", 40, 4000, 1, 0.1, 100, first=1),
    Case("mnist", "mnist.net", 60, 2000, 1, 0.1, 18, first=1, count=3),
    Case("ntidigits", "gts/ntidigits/ntidigits.net", 12, 4000, 1, 0.1, 100, count=5),
    Case("pilotnet_sdnn", "gts/pilotnet_sdnn/network.net", 3, 96, 1, 0.3, 80, first=1, bits=16),
    Case("pilotnet_square", "gts/pilotnet_sdnn/square_network.net", 3, 96, 1, 0.3, 80, first=1, bits=16),
    Case("pilotnet_lif", "gts/pilotnet_lif/network.net", 2, 64, 1, 0.3, 80, first=1),
    Case("tokens", "tokens.net", 4, 4, 240, 0.3, 500),
)


def chain(path: Path) -> Path:
    """49 tokens x 64 channels, six token-wise layers, then ten classes; random even weights."""
    rng = np.random.default_rng(0)
    graph = Graph(timesteps=4, input_shape=(49, 64), meta={"input_grid": [7, 7]})
    last = "input"
    for k in range(6):
        op = Conv(rng.integers(-24, 28, (64, 64, 1, 1)) * 2, rng.integers(-20, 20, 64), grid=(7, 7), neuron=Cuba(4096, 2048, 100))
        last = graph.add(f"conv{k}", op, x=last)
    graph.add("dense", Dense(rng.integers(-8, 9, (10, 49 * 64)) * 2, rng.integers(-9, 9, 10), Cuba(4096, 2048, 400)), x=last)
    graph.check()
    write_graph(graph, path)
    return path


def graph_of(case: Case, path: Path) -> Graph:
    """The part of the file that is run, with our own ops where they fit."""
    payload = GRADED if case.bits else Payload(0, 1)
    if case.file == "tokens.net":
        return read_graph(path)
    with h5py.File(path, "r") as f:
        graph, _ = read_chain(f, str(path), skip=case.first, count=case.count, payload=payload)
    graph.timesteps = case.length
    graph.check()
    return graph


def inputs_of(case: Case, graph: Graph, samples: int) -> np.ndarray:
    """Events int32 [samples, length, positions, channels]; graded ones are changes of a few units."""
    rng = np.random.default_rng(1)
    x = (rng.random((samples, case.length, *graph.input_shape)) < case.density).astype(np.int32)
    return x * (64 * rng.integers(-3, 4, x.shape)).astype(np.int32) if case.bits else x


def runs_on_numpy_2() -> None:
    """Stock Lava keeps strides and paddings in int8, and NumPy 2 refuses to add them to a map's width of 128 or more: here in int32."""
    conv = importlib.import_module("lava.proc.conv.models").AbstractPyConvModel
    types = importlib.import_module("lava.magma.core.model.py.type")
    for name in ("kernel_size", "stride", "padding", "dilation", "groups"):
        setattr(conv, name, types.LavaPyType(np.ndarray, np.int32, precision=8))


class Script:
    """A Lava script with a source, a network and a sink, started once; `run` goes on for so many steps.

    The network is stock's `netx.hdf5.Network`, or with `drop_in` ours in its place; all else stays.
    """

    def __init__(self, case: Case, path: Path, x: np.ndarray, grid: tuple[int, ...], total: int, drop_in: bool = False) -> None:
        from spikegate.deploy.lava.lava_import import lava_modules
        from spikegate.deploy.netx_network import Network

        lava = self.lava = lava_modules(netx=True)
        runs_on_numpy_2()
        network = Network if drop_in else lava.netx.Network
        stream = x.reshape(-1, *x.shape[2:])[:total]  # samples back to back
        if len(grid) == 2:
            stream = stream.reshape(len(stream), *grid, -1).transpose(0, 2, 1, 3)  # [T, width, height, channels]
        frames = np.moveaxis(stream.reshape(len(stream), -1) if len(grid) != 2 else stream, 0, -1)
        more: dict[str, Any] = {"input_message_bits": case.bits} if case.bits else {"reset_interval": case.length, "reset_offset": 1}
        with contextlib.redirect_stdout(io.StringIO()):
            self.net = network(net_config=str(path), skip_layers=case.first, num_layers=case.count, **more)
        self.layers = len(self.net.layers)
        source = lava.source.RingBuffer(data=frames)
        self.sink = lava.sink.RingBuffer(shape=self.net.out.shape, buffer=total)
        source.s_out.connect(self.net.inp)
        self.net.out.connect(self.sink.a_in)
        self.done = 0

    def run(self, steps: int) -> None:
        """Lava steps; the first call also compiles and starts the processes."""
        self.net.run(condition=self.lava.RunSteps(steps), run_cfg=self.lava.Loihi2SimCfg(select_tag="fixed_pt"))
        self.done += steps

    def outputs(self) -> np.ndarray:
        """What the last layer sent in the steps done, [steps, positions or 1, channels]."""
        data = self.sink.data.get()[..., : self.done]
        if data.ndim == 2:
            return data.T[:, None]
        w, h, c, t = data.shape
        return data.transpose(3, 1, 0, 2).reshape(t, w * h, c)

    def stop(self) -> None:
        self.net.stop()


class Bare:
    """The least that any such script takes: Lava's own source and sink, of the net's input, without a network between them."""

    def __init__(self, x: np.ndarray) -> None:
        from spikegate.deploy.lava.lava_import import lava_modules

        self.lava = lava_modules()
        self.source = self.lava.source.RingBuffer(data=np.moveaxis(x.reshape(-1, *x.shape[2:])[:8], 0, -1))
        self.sink = self.lava.sink.RingBuffer(shape=x.shape[2:], buffer=8)
        self.source.s_out.connect(self.sink.a_in)

    def run(self, steps: int) -> None:
        self.source.run(condition=self.lava.RunSteps(steps), run_cfg=self.lava.Loihi2SimCfg(select_tag="fixed_pt"))

    def stop(self) -> None:
        self.source.stop()


def compared(case: Case, path: Path, stock: Script, ours: np.ndarray, x: np.ndarray) -> tuple[int, int]:
    """(values compared, mismatches) of the last layer, ours [samples, T, ...] against stock's, which is one step later for each layer.

    Sigma-delta nets in stock Lava send their biases before the input arrives, which can leave another residue: there stock is held
    against our pipeline in stock's own timing (the drop-in), and that is what is counted.
    """
    found = stock.outputs()
    if case.bits:
        net = Pipeline(path, skip_layers=case.first, num_layers=case.count, input_message_bits=case.bits)
        stream = x.reshape(-1, *x.shape[2:])
        wanted = np.stack([net.step(stream[s % len(stream)])[-1].reshape(found.shape[1:]) for s in range(len(found))])
    else:
        wanted = ours.reshape(-1, *found.shape[1:])[: len(found) - stock.layers]
        found = found[stock.layers :]
    return int(found.size), int((found != wanted).sum())
