"""Soft reset and several spikes a timestep through NIR: told for a file, written in the metadata, and as snnTorch and Sinabs run them."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.fidelity import APPROXIMATE, EXACT, WORDS, refused
from spikegate.formats.nir.importer import from_nir, import_graph
from spikegate.graph.ir import DeployError
from spikegate.neurons.cuba import Cuba

RNG = np.random.default_rng(5)
WEIGHT = np.round(RNG.normal(0, 12, (6, 8))) * 2
X = (RNG.random((9, 20, 8)) < 0.4).astype(np.int32)


def chain(node, weight=WEIGHT):
    """Input, Linear, one layer of neurons, Output."""
    nodes = {"input": nir.Input(np.array([8])), "w": nir.Linear(weight), "n": node, "output": nir.Output(np.array([6]))}
    return nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "output")], type_check=False)


def equations(weight, x, keep, gain, theta, step, levels=1, late=False):
    """Spikes [N, T, out] in floats: NIR's voltage, a threshold that is subtracted, at once or behind the next leak."""
    v, out, owed = np.zeros((len(x), len(weight))), [], 0.0
    for t in range(x.shape[1]):
        v = keep * v + gain * (x[:, t] @ weight.T) - (owed if late else 0)
        s = np.clip(np.ceil((v - theta) / step), 0, levels)
        owed = s * step
        v = v if late else v - owed
        out.append(s)
    return np.stack(out, 1)


@pytest.mark.parametrize("reset, levels", [("subtract", 1), ("subtract", 5), ("subtract-late", 1)])
@pytest.mark.parametrize("metadata", [False, True])
def test_integrate_and_fire_is_exact(reset, levels, metadata):
    """Whole numbers: on every input the spikes of the equations, whether the reset is told or written in the node's metadata."""
    facts = {"reset": reset, "levels": levels} if metadata else {}
    g = chain(nir.IF(np.ones(6), np.full(6, 30.0), metadata=facts))
    told = {} if metadata else {"reset": reset, "levels": levels}
    graph, report = import_graph(g, timesteps=20, calibrate=X, **told)
    assert report.exact and report.fidelity == EXACT
    exact = from_nir(g, timesteps=20, **told)
    assert [op.neuron for op in exact.ops.values()] == [op.neuron for op in graph.ops.values()]
    assert graph.ops["n"].neuron.reset == "subtract" and graph.ops["n"].neuron.levels == levels
    wanted = equations(WEIGHT, X, 1.0, 1.0, 30.0, 30.0, levels, reset == "subtract-late")
    sent = integer.run(graph, X.reshape(9, 20, *graph.input_shape), spikes=True).spikes["n"].reshape(wanted.shape)
    assert np.array_equal(sent, wanted) and wanted.max() == (levels if levels == 1 else wanted.max()) and wanted.any()


def test_a_leak_that_the_threshold_is_taken_behind():
    """snnTorch's order: the threshold is missing after the next leak, so that 1 / beta of it is taken at once."""
    g = chain(nir.LIF(np.full(6, 5.0), np.full(6, 5.0), np.zeros(6), np.full(6, 30.0)))
    graph, report = import_graph(g, timesteps=20, calibrate=X, reset="subtract-late")
    neuron = graph.ops["n"].neuron
    assert neuron.v_step == pytest.approx(neuron.vth / 0.8, abs=0.5)
    wanted = equations(WEIGHT, X, 0.8, 1.0, 30.0, 30.0, late=True)
    sent = integer.run(graph, X.reshape(9, 20, *graph.input_shape), spikes=True).spikes["n"].reshape(wanted.shape)
    row = report.layers[0]
    assert row.fidelity == APPROXIMATE and row.agreement == pytest.approx((sent == wanted).mean()) and row.agreement > 0.99


def test_as_many_spikes_as_the_voltage_holds():
    graph, report = import_graph(chain(nir.IF(np.ones(6), np.full(6, 10.0))), timesteps=20, calibrate=X, reset="subtract", levels=0)
    wanted = equations(WEIGHT, X, 1.0, 1.0, 10.0, 10.0, 127)
    assert wanted.max() > 3 and graph.ops["n"].neuron.levels >= 2 * wanted.max()
    sent = integer.run(graph, X.reshape(9, 20, *graph.input_shape), spikes=True).spikes["n"].reshape(wanted.shape)
    assert np.array_equal(sent, wanted) and report.exact


@pytest.mark.parametrize(
    "node, told, what",
    [
        (nir.IF(np.ones(6), np.full(6, 9.0), metadata={"reset": "half"}), {}, "'half' is unknown"),
        (nir.IF(np.ones(6), np.full(6, 9.0)), {"reset": "zero", "levels": 3}, "reset that subtracts"),
        (nir.IF(np.ones(6), np.full(6, 9.0), np.full(6, 1.0)), {"reset": "subtract"}, "resets to 1 in the file"),
        (nir.IF(np.ones(6), np.full(6, 0.0)), {"reset": "subtract"}, "subtracts nothing"),
        (nir.LIF(np.ones(6), np.ones(6), np.zeros(6), np.full(6, 9.0)), {"reset": "subtract-late"}, "forgets its voltage"),
        (nir.LIF(np.linspace(2, 5, 6), np.ones(6), np.zeros(6), np.full(6, 9.0)), {"reset": "subtract-late"}, "another share"),
    ],
)
def test_what_is_refused(node, told, what):
    with pytest.raises(DeployError, match=what) as found:
        import_graph(chain(node), timesteps=4, calibrate=0.2, **told)
    report = refused(found.value)
    assert report["fidelity"] in WORDS and report["layers"][0]["reason"] and report["layers"][0]["hint"]


def test_without_a_word_nothing_changes():
    assert from_nir(chain(nir.IF(np.ones(6), np.full(6, 30.0))), timesteps=4).ops["n"].neuron == Cuba(4096, 0, 30)


class TestSnnTorch:
    """Models of snnTorch beside their own run."""

    @pytest.fixture(autouse=True)
    def framework(self):
        self.torch, self.snn = pytest.importorskip("torch"), pytest.importorskip("snntorch")
        self.torch.manual_seed(0)

    def model(self, **more):
        t, leaky = self.torch, self.snn.Leaky
        first, last = t.nn.Linear(8, 12), t.nn.Linear(12, 4)
        return t.nn.Sequential(t.nn.Flatten(), first, leaky(beta=0.75, init_hidden=True, **more), t.nn.Dropout(0.3), last,
                               leaky(beta=0.5, init_hidden=True, output=True, **more))  # fmt: skip

    @pytest.mark.parametrize("how", [{}, {"reset_delay": False}, {"reset_mechanism": "zero"}, {"threshold": 0.4}])
    def test_a_model_beside_its_own_run(self, how):
        from spikegate.convert.frameworks.importing import import_framework

        graph, report = import_framework(self.model(**how), self.torch.zeros(1, 8), 20, 0.5)
        assert report.source_sums > 0.9 and report.source_answers >= 15 / 16
        assert [r.name for r in report.layers] == ["2", "5"] and all(r.agreement > 0.98 and r.fidelity in WORDS for r in report.layers)
        soft = how.get("reset_mechanism") != "zero"
        assert all((op.neuron.reset == "subtract") == soft for op in graph.ops.values() if op.kind in ("dense", "block_dense"))

    def test_whole_weights_are_exact(self):
        from spikegate.convert.frameworks.importing import import_framework

        t = self.torch
        net = t.nn.Sequential(t.nn.Linear(8, 6, bias=False), self.snn.Leaky(beta=1.0, threshold=30.0, init_hidden=True, output=True))
        net[0].weight.data = t.tensor(WEIGHT).float()
        _, report = import_framework(net, t.zeros(1, 8), 20, X)
        assert report.fidelity == EXACT and report.source_sums == 1.0

    def test_through_its_own_nir_export(self, tmp_path):
        """The file says a reset to 0, as snnTorch writes it; told of the real one, it is the model."""
        pytest.importorskip("nirtorch")
        from snntorch.export_nir import export_to_nir

        from spikegate.convert.frameworks.importing import model_spikes
        from spikegate.formats.nir.importer import import_nir

        t = self.torch

        def each(n, beta):
            return {"beta": t.full((n,), beta), "threshold": t.ones(n), "init_hidden": True}

        first, last = self.snn.Leaky(**each(12, 0.75)), self.snn.Leaky(**each(4, 0.5), output=True)
        net = t.nn.Sequential(t.nn.Linear(8, 12), first, t.nn.Linear(12, 4), last)
        net[0].weight.data *= 4  # voltages well above the threshold: what a reset leaves matters
        net[2].weight.data *= 4
        nir.write(tmp_path / "net.nir", export_to_nir(net, t.zeros(1, 8), ignore_dims=[0]))
        wanted, found = model_spikes(net, X), {}
        for reset in ("zero", "subtract-late"):
            graph, _ = import_nir(tmp_path / "net.nir", timesteps=20, dt=1e-4, calibrate=X, reset=reset)
            found[reset] = (integer.run(graph, X.reshape(9, 20, *graph.input_shape)).logits == wanted).mean()
        assert found["subtract-late"] > 0.9 > found["zero"], found

    @pytest.mark.parametrize(
        "change, what",
        [({"inhibition": True}, "inhibition"), ({"reset_mechanism": "none"}, "never reset"), ({"graded_spikes_factor": 2.0}, "graded")],
    )
    def test_what_no_neuron_has_is_refused_by_name(self, change, what):
        from spikegate.convert.frameworks.importing import nir_of

        with pytest.raises(DeployError, match=f"(?s)2.*{what}"):
            nir_of(self.model(**change), self.torch.zeros(1, 8))

    def test_code_outside_of_layers_is_refused(self):
        from spikegate.convert.frameworks.importing import nir_of

        t, snn = self.torch, self.snn

        class Net(t.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc, self.lif = t.nn.Linear(8, 4), snn.Leaky(beta=0.9, init_hidden=True)

            def forward(self, x):
                return self.lif(2 * self.fc(x))

        with pytest.raises(DeployError, match="outside of layers: lif"):
            nir_of(Net(), t.zeros(1, 8))


class TestSinabs:
    """Models of Sinabs beside their own run: several spikes a timestep, a threshold that is subtracted for each."""

    @pytest.fixture(autouse=True)
    def framework(self):
        self.torch, self.layers = pytest.importorskip("torch"), pytest.importorskip("sinabs.layers")
        self.torch.manual_seed(0)

    def test_linear(self):
        from spikegate.convert.frameworks.importing import import_framework

        t, sl = self.torch, self.layers
        net = t.nn.Sequential(t.nn.Linear(8, 12), sl.IAF(), t.nn.Linear(12, 4), sl.LIF(tau_mem=5.0))
        net[0].weight.data *= 3
        graph, report = import_framework(net, t.zeros(1, 20, 8), 20, 0.5)
        assert all(r.agreement > 0.98 for r in report.layers) and report.source_sums > 0.9
        assert max(op.neuron.levels for op in graph.ops.values() if hasattr(op, "neuron")) > 1

    def test_convolutional(self):
        from spikegate.convert.frameworks.importing import import_framework

        t, sl = self.torch, self.layers
        net = t.nn.Sequential(
            t.nn.Conv2d(2, 4, 3), sl.IAFSqueeze(batch_size=1), sl.SumPool2d(2), t.nn.Flatten(),
            t.nn.Linear(36, 5), sl.IAFSqueeze(batch_size=1),
        )  # fmt: skip
        _, report = import_framework(net, t.zeros(12, 2, 8, 8), 12, 0.3)
        assert all(r.agreement > 0.97 for r in report.layers) and report.source_sums > 0.8

    def test_what_is_left_out_is_said(self):
        from spikegate.convert.frameworks.importing import import_framework

        t, sl = self.torch, self.layers
        net = t.nn.Sequential(t.nn.Linear(8, 4), sl.IAF(min_v_mem=-1.0))
        _, report = import_framework(net, t.zeros(1, 5, 8), 5, 0.5)
        assert report.layers[0].fidelity == APPROXIMATE and "lower bound" in report.layers[0].notes[-1]
        with pytest.raises(DeployError, match="tau_syn"):
            import_framework(t.nn.Sequential(t.nn.Linear(8, 4), sl.LIF(tau_mem=5.0, tau_syn=3.0)), t.zeros(1, 5, 8), 5, 0.5)


def test_the_command_imports_a_model(tmp_path, monkeypatch, capsys):
    pytest.importorskip("snntorch")
    import json
    import sys

    from spikegate.convert import from_framework
    from spikegate.formats.netx.graph_file import read_graph

    text = "import torch, snntorch\ndef make():\n    torch.manual_seed(0)\n    return torch.nn.Sequential(torch.nn.Linear(8, 6), " \
           "snntorch.Leaky(beta=0.5, init_hidden=True, output=True){})\n"  # fmt: skip
    (tmp_path / "mine.py").write_text(text.format(""))
    (tmp_path / "other.py").write_text(text.format(", torch.nn.ReLU()"))
    argv = ["x", f"{tmp_path}/mine.py:make", "--shape", "1", "8", "--timesteps", "10", "--output", f"{tmp_path}/out", "--json"]
    monkeypatch.setattr(sys, "argv", argv)
    from_framework.main()
    said = json.loads(capsys.readouterr().out)
    assert said["report"]["layers"][0]["fidelity"] in WORDS and said["report"]["source_sums"] > 0.9
    assert read_graph(tmp_path / "out" / "model.net").timesteps == 10
    assert json.loads((tmp_path / "out" / "import.json").read_text())["fidelity"] in WORDS
    monkeypatch.setattr(sys, "argv", [argv[0], f"{tmp_path}/other.py:make", *argv[2:]])
    with pytest.raises(DeployError):
        from_framework.main()
    said = json.loads(capsys.readouterr().out)
    assert said["fidelity"] == "unsupported" and said["layers"][0]["hint"]
