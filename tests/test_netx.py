"""The exported file: our own graphs, stock chains both ways, and files that must be refused."""

from __future__ import annotations

import contextlib
import io

import h5py
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import is_stock_chain, read_graph, write_graph
from spikegate.graph.ir import DeployError
from tests.graphs import chain_graph, halting_graph, halting_input


def test_a_halting_net_survives_the_file(tmp_path):
    graph = halting_graph()
    write_graph(graph, tmp_path / "model.net")
    again = read_graph(tmp_path / "model.net")
    assert list(again.ops) == list(graph.ops) and again.edges == graph.edges and again.timesteps == graph.timesteps
    a, b = (integer.run(g, halting_input(), spikes=True) for g in (graph, again))
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.logits, b.logits)


def test_stock_netx_refuses_a_net_that_it_would_run_wrong(tmp_path):
    write_graph(halting_graph(), tmp_path / "model.net")
    with h5py.File(tmp_path / "model.net") as f:
        assert f["layer/0/type"][0] == b"concat"


@pytest.mark.lava
@pytest.mark.timeout(120)
def test_stock_netx_runs_our_chain_with_equal_spikes(tmp_path):
    """Stock `netx.hdf5.Network` on the file we write; layer k acts k + 1 Lava steps later."""
    from spikegate.deploy.lava.lava_import import lava_modules

    graph = chain_graph()
    assert is_stock_chain(graph)
    write_graph(graph, tmp_path / "chain.net")
    x = (np.random.default_rng(5).random((1, graph.timesteps, 20, 2)) < 0.4).astype(np.int32)
    ours = integer.run(graph, x, spikes=True)
    assert all(ours.spikes[n].any() for n in graph.ops)
    lava = lava_modules(netx=True)
    with contextlib.redirect_stdout(io.StringIO()):
        net = lava.netx.Network(net_config=str(tmp_path / "chain.net"), skip_layers=1, reset_interval=graph.timesteps, reset_offset=1)
    depth = len(graph.ops)
    frames = np.zeros((4, 5, 2, graph.timesteps), np.int32)  # WHC + time, as stock Conv takes it
    for t in range(graph.timesteps):
        frames[..., t] = x[0, t].reshape(5, 4, 2).transpose(1, 0, 2)
    source = lava.source.RingBuffer(data=frames)
    source.s_out.connect(net.inp)
    sinks = []
    for layer in net.layers:
        sinks.append(lava.sink.RingBuffer(shape=layer.out.shape, buffer=graph.timesteps + depth))
        layer.out.connect(sinks[-1].a_in)
    try:
        net.run(condition=lava.RunSteps(graph.timesteps + depth), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
        got = [sink.data.get() for sink in sinks]
    finally:
        net.stop()
    for k, (name, data) in enumerate(zip(graph.ops, got)):
        for t in range(graph.timesteps):
            step = data[..., t + k + 1]
            mine = ours.spikes[name][0, t]
            step = step.transpose(1, 0, 2).reshape(mine.shape) if step.ndim == 3 else step
            assert np.array_equal(step, mine), (name, t)


def test_we_run_what_stock_slayer_blocks_export(tmp_path):
    """Blocks exported by SLAYER's own `export_hdf5` give the spikes of SLAYER's own forward."""
    import torch

    from spikegate.train.layers.slayer_import import slayer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1}
    norm = {"norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    blocks = [
        slayer.block.cuba.Conv({**neuron, **norm}, 2, 6, 3, padding=1, weight_scale=3, delay_shift=False),
        slayer.block.cuba.Conv(neuron, 6, 4, 1, weight_scale=3, delay_shift=False),
        slayer.block.cuba.Flatten(),
        slayer.block.cuba.Dense(neuron, 80, 7, weight_scale=3, delay_shift=False),
    ]
    x = (torch.rand(3, 2, 5, 4, 6) < 0.4).float()
    expected, y = [], x
    for training in (True, False):  # a training pass first: the running mean of the norm is then not zero
        y, expected = x, []
        for block in blocks:
            block.train(training)
            y = block(y)
            expected.append(y)
    with h5py.File(tmp_path / "slayer.net", "w") as f:
        f.create_dataset("layer/0/type", (1,), "S10", [b"input"])
        f["layer/0/shape"] = np.array([2, 5, 4])
        for i, block in enumerate(blocks):
            block.export_hdf5(f.create_group(f"layer/{i + 1}"))
    graph = read_graph(tmp_path / "slayer.net")
    graph.timesteps = 6
    spikes = integer.run(graph, x.permute(0, 4, 2, 3, 1).reshape(3, 6, 20, 2).int().numpy(), spikes=True).spikes
    for name, torch_spikes in zip(graph.ops, [expected[0], expected[1], expected[3]]):
        theirs = torch_spikes.detach().numpy()
        theirs = theirs.transpose(0, 4, 2, 3, 1).reshape(3, 6, 20, -1) if theirs.ndim == 5 else theirs.transpose(0, 2, 1)
        assert theirs.any()
        assert np.array_equal(spikes[name], theirs), name


def damaged(tmp_path, change):
    write_graph(halting_graph(), tmp_path / "model.net")
    with h5py.File(tmp_path / "model.net", "a") as f:
        change(f)
    return tmp_path / "model.net"


def _set(f, path, value):
    del f[path]
    f[path] = value


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: f["graph/ops/00004"].attrs.__setitem__("kind", "softmax"), ["block1.attention", "softmax", "known types"]),
        (lambda f: _set(f, "layer/1/weight", np.full((8, 8, 1, 1), np.nan)), ["layer/1", "NaN"]),
        (lambda f: _set(f, "layer/1/weight", np.full((8, 8, 1, 1), 0.5)), ["layer/1", "fractions"]),
        (lambda f: _set(f, "layer/1/weight", np.full((8, 5, 1, 1), 2)), ["block1.q", "shape"]),
        (lambda f: _set(f, "layer/1/weight", np.full((8, 8, 1, 1), 900)), ["block1.q", "Loihi holds"]),
        (lambda f: f["layer/1"].__delitem__("weight"), ["layer/1", "missing"]),
        (lambda f: f["graph"].attrs.__setitem__("schema", 99), ["schema 99"]),
        (lambda f: f["graph/ops/00000"].attrs.__delitem__("low"), ["inject", "low"]),
        (lambda f: f.__setitem__("layer/1/extra", h5py.ExternalLink("/etc/passwd", "/x")), ["link"]),
    ],
)
def test_damage_is_named(tmp_path, change, words):
    path = damaged(tmp_path, change)
    with pytest.raises(DeployError) as e:
        read_graph(path)
    for word in words:
        assert word in str(e.value)


def test_files_that_are_no_netx_are_refused(tmp_path):
    with pytest.raises(DeployError, match="no such file"):
        read_graph(tmp_path / "absent.net")
    (tmp_path / "text.net").write_text("hello")
    with pytest.raises(DeployError, match="not a readable NetX"):
        read_graph(tmp_path / "text.net")
    write_graph(halting_graph(), tmp_path / "model.net")
    whole = (tmp_path / "model.net").read_bytes()
    (tmp_path / "cut.net").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeployError, match=r"cut\.net"):
        read_graph(tmp_path / "cut.net")


def test_unsupported_stock_layers_are_listed_all_at_once(tmp_path):
    with h5py.File(tmp_path / "odd.net", "w") as f:
        for i, kind in enumerate(["input", "concat", "dense", "residual"]):
            f.create_dataset(f"layer/{i}/type", (1,), "S10", [kind.encode()])
    with pytest.raises(DeployError) as e:
        read_graph(tmp_path / "odd.net")
    assert "layer/1" in str(e.value) and "layer/3" in str(e.value) and "concat" in str(e.value)


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.net"
    write_graph(halting_graph(), path)
    before = path.read_bytes()
    broken = halting_graph()
    broken.ops["readout"].weight[0, 0, 0] = 3
    with pytest.raises(DeployError, match="readout"):
        write_graph(broken, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
