"""deploy/run.py on NetX files, and what the reader refuses: by layer and name, with a hint, never with a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.convert.checks.audit import audit
from spikegate.deploy.netx_run import placed, prepared
from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import DeployError, Payload
from tests.slayer_chains import Chain

ROOT = Path(__file__).parents[1]


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "deploy/run.py", *map(str, arguments)], capture_output=True, text=True, timeout=100)


def changed(tmp_path, family="cuba", **fields) -> Path:
    """A chain's file with fields of its first computing layer set, or removed where None."""
    path = tmp_path / "chain.net"
    chain = next(c for c in (Chain(s, family) for s in range(2, 60)) if type(c.blocks[0]).__name__ == "Conv")
    chain.export(path)
    with h5py.File(path, "a") as f:
        for key, value in fields.items():
            key = f"layer/1/{key}"
            if key in f:
                del f[key]
            if value is not None:
                f[key] = value
    return path


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"neuron/type": "ADRF_IZHIKEVICH"}, ["layer/1/neuron", "ADRF_IZHIKEVICH", "forward"]),
        ({"neuron/type": "HODGKIN"}, ["layer/1/neuron", "HODGKIN", "ALIF"]),
        ({"neuron/gradedSpike": True}, ["gradedSpike", "graded_spike=False"]),
        ({"neuron/weight_exp": 5}, ["weight_exp", "clamped"]),
        ({"neuron/messageBits": 8}, ["messageBits"]),
        ({"neuron/refDelay": 3}, ["refDelay"]),
        ({"neuron/iDecay": 5000}, ["layer1", "i_decay", "4096"]),
        ({"delay": np.full(2, 3)}, ["layer/1/delay", "2 values"]),
        ({"delay": -1}, ["layer/1/delay", "negative"]),
        ({"groups": 7}, ["layer/1", "groups"]),
        ({"shape": np.array([1, 2, 3])}, ["layer/1/shape", "geometry"]),
        ({"weight": None}, ["layer/1", "weight", "missing"]),
        ({"type": np.array([b"concat"])}, ["layer/1", "concat", "sources"]),
    ],
)
def test_what_cannot_be_exact_is_refused_by_name(tmp_path, fields, words):
    with pytest.raises(DeployError) as e:
        read_graph(changed(tmp_path, **fields))
    for word in [*words, "hint"]:
        assert word in str(e.value), str(e.value)


def test_an_activation_that_stock_netx_would_silently_replace_is_refused(tmp_path):
    with pytest.raises(DeployError, match="tanh"):
        read_graph(changed(tmp_path, "sigma_delta", **{"neuron/activation": "tanh"}))


@pytest.mark.parametrize("shape", [(5, 2, 3, 4), (2, 5, 2, 3, 4), (5, 12, 2), (2, 5, 12, 2), (5, 24)])
def test_the_input_may_come_in_the_files_own_axes(shape):
    from spikegate.graph.ir import Graph

    graph = Graph(input_shape=(12, 2), meta={"input_map": [2, 3, 4]})
    chw = np.arange(24).reshape(2, 3, 4)
    own = chw.transpose(1, 2, 0).reshape(12, 2)
    form = chw if shape[-3:] == (2, 3, 4) else own if shape[-2:] == (12, 2) else chw.ravel()
    got = placed(np.broadcast_to(form, shape).astype(np.int32), graph)
    assert got.shape[-3:] == (5, 12, 2) and (got == own).all()


def test_the_command_gives_the_same_on_int_and_lava_as_the_library(tmp_path):
    chain = Chain(8, "alif")
    chain.export(tmp_path / "any.net")
    x = np.moveaxis(chain.x.numpy(), -1, 1)
    np.save(tmp_path / "x.npy", x)
    want = chain.scaled(chain.outputs[-1])
    found = []
    for target in ("int", "lava"):
        folder = tmp_path / target
        done = run(tmp_path / "any.net", "--input", tmp_path / "x.npy", "--target", target, "--output", folder, "--json")
        assert done.returncode == 0, done.stderr
        with np.load(folder / "outputs.npz") as f:
            assert np.array_equal(f["outputs"], want)
        facts = json.loads(done.stdout)
        assert facts["multiplying_layers"] == [] and facts["timesteps"] == chain.timesteps
        assert facts["input_unit"] == "spikes" and facts["compile_s"] >= 0 and facts["delay_shift"] is False
        found.append(facts["events"])
    assert found[0] == found[1]


def test_recurrent_layers_run_on_lava_too(tmp_path):
    chain = next(c for c in (Chain(s, "cuba") for s in range(60)) if "recurrent" in c.flat)
    chain.export(tmp_path / "any.net")
    graph, x = prepared(tmp_path / "any.net", chain.input)
    from spikegate.deploy.network.network import Network

    with Network(graph, "op", batch=2) as network:
        record = network.run(x, spikes=True)
    assert np.array_equal(record.counts, integer.run(graph, x).counts)
    assert np.array_equal(record.spikes[list(graph.ops)[-1]], chain.scaled(chain.outputs[-1]))


@pytest.mark.parametrize("family", ["cuba", "alif", "sigma_delta"])
def test_our_own_file_keeps_a_foreign_chain(tmp_path, family):
    chain = Chain(8, family)
    chain.export(tmp_path / "theirs.net")
    graph = read_graph(tmp_path / "theirs.net")
    graph.timesteps = chain.timesteps
    write_graph(graph, tmp_path / "ours.net")
    a, b = (integer.run(g, chain.input) for g in (graph, read_graph(tmp_path / "ours.net")))
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.logits, b.logits)


def test_the_audit_says_which_nets_multiply(tmp_path):
    for family, multiplies in (("alif", False), ("sigma_delta", True)):
        chain = Chain(11, family, timesteps=3)
        chain.export(tmp_path / f"{family}.net")
        graph = read_graph(tmp_path / f"{family}.net", payload=Payload(-9, 9) if multiplies else Payload(0, 1))
        graph.timesteps = 3
        rows = audit(graph, chain.input[:1] * (3 if multiplies else 1))
        assert all(r.exact for r in rows) and any(r.macs for r in rows) == multiplies


@pytest.mark.parametrize(
    "content, words",
    [(None, "no such file"), (np.full((4, 3), 0.5), "fractions"), (np.zeros((4, 3), np.int32), "the net takes"), (b"a", "no .npy array")],
)
def test_bad_inputs_exit_1_without_a_traceback(tmp_path, content, words):
    Chain(8, "cuba").export(tmp_path / "any.net")
    if isinstance(content, bytes):
        (tmp_path / "x.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "x.npy", content)
    done = run(tmp_path / "any.net", "--input", tmp_path / "x.npy", "--target", "int")
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_the_shift_between_layers_is_an_option_for_netx_files_only(tmp_path):
    chain = Chain(8, "cuba", shift=True)
    chain.export(tmp_path / "any.net")
    np.save(tmp_path / "x.npy", np.moveaxis(chain.x.numpy(), -1, 1))
    done = run(tmp_path / "any.net", "--input", tmp_path / "x.npy", "--target", "int", "--delay-shift", "--output", tmp_path / "found")
    assert done.returncode == 0 and "compiled kernels" in done.stdout and "input          spikes" in done.stdout, done.stderr
    with np.load(tmp_path / "found/outputs.npz") as f:
        assert np.array_equal(f["outputs"], chain.scaled(chain.outputs[-1])) and np.array_equal(f["total"], f["outputs"].sum(1))
    done = run("zoo/stas-digits", "--delay-shift")
    assert done.returncode == 1 and "--delay-shift" in done.stderr and "Traceback" not in done.stderr


def test_bad_files_and_options_exit_1_without_a_traceback(tmp_path):
    Chain(8, "cuba").export(tmp_path / "any.net")
    with h5py.File(tmp_path / "odd.net", "w") as f:
        f.create_dataset("layer/0/type", (1,), "S10", [b"residual"])
    (tmp_path / "text.net").write_text("hello")
    np.save(tmp_path / "x.npy", np.ones((1, 2, 3), np.int32))
    said = {"absent.net": "no such file", "text.net": "not a readable NetX", "odd.net": "layer/0: type 'residual'", "any.net": "--halt"}
    for name, words in said.items():
        done = run(tmp_path / name, "--input", tmp_path / "x.npy", "--target", "int", *(["--halt", "off"] if name == "any.net" else []))
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
