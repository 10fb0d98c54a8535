"""Gates are Lava processes: what a gate sends decides what follows, and a trace shows it."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.deploy.network.network import Network
from spikegate.deploy.timing import timing_of
from spikegate.engine import integer
from spikegate.engine.chip_time.schedule import schedule
from spikegate.graph.ir import COUNTERS
from tests.faults.troubled import halting_net
from tests.graphs import halting_graph
from tests.test_lava import assert_equal, nothing_left, samples  # noqa: F401  # the fixture watches here, too

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]
DEFAULT = timing_of(halting_graph()).mapping


def synops(record, name: str) -> int:
    """Accumulates of an op in the whole run."""
    return int(record.counts[:, :, record.ops.index(name), COUNTERS.index("synop")].sum())


@pytest.fixture
def silenced(monkeypatch):
    """Everything that the Lava process gate1 sends through its ports is set to 0 behind the header."""
    from lava.magma.core.model.py.ports import PyOutPortVectorDense

    sent = PyOutPortVectorDense.send

    def send(port, data):
        leaf = getattr(port._process_model, "leaf", None)
        if leaf is not None and leaf.plan.name == "gate1":
            data = np.array(data)
            data[leaf.plan.layout.head :] = 0
        return sent(port, data)

    monkeypatch.setattr(PyOutPortVectorDense, "send", send)


@pytest.mark.parametrize("protocol", ["async", "loihi"])
@pytest.mark.parametrize("mapping", ["block", "op"])
def test_a_silenced_gate_silences_the_block_behind_it(mapping, protocol, silenced):
    graph, x = halting_net(), samples(9)
    reference = integer.run(graph, x)
    with Network(graph, mapping, 4, protocol) as network:
        record = network.run(x)
    assert synops(reference, "block2.q") > 0
    assert synops(record, "block2.q") == synops(record, "block2.fc1") == 0
    before = [k for k, n in enumerate(record.ops) if n.startswith("block1.")]  # of the first timestep: later ones hear of the gates
    assert np.array_equal(record.counts[:, 0, before], reference.counts[:, 0, before])


def test_with_gates_inside_there_is_no_such_process(silenced):
    graph, x = halting_net(), samples(9)
    with Network(graph, "chip", 4) as network:
        assert "gate1" not in network.plans
        assert_equal(network.run(x), integer.run(graph, x))


def test_gates_are_processes_by_default():
    assert DEFAULT == "block"
    with Network(halting_net()) as network:
        assert {"gate1", "gate2", "exit"} < network.plans.keys()


@pytest.mark.parametrize("mapping", ["block", "op", "chip"])
@pytest.mark.parametrize("protocol", ["async", "loihi"])
def test_every_message_is_traced(mapping, protocol):
    graph, x = halting_net(), samples(7)
    reference = integer.run(graph, x, spikes=True)
    pairs = {(s, t) for s, end in enumerate(reference.exit_step) for t in range(1, end + 1)}
    with Network(graph, mapping, 3, protocol, trace=True) as network:
        for _ in range(2):  # a run's messages are its own
            assert_equal(network.run(x, spikes=True), reference)
            messages = network.messages
            for total in messages.ports():
                mine = [m for m in messages.sent if (m.sender, m.port) == (total.sender, total.port)]
                rows = [tuple(r[:2]) for m in mine for r in m.rows.tolist()]
                fed = network.one_process  # the injector then sends samples, not timesteps
                assert sorted(rows) == (sorted(pairs) if not fed else [(s, 1) for s in range(7)])
                assert [m.number for m in mine] == list(range(len(mine)))
                assert total.bytes == sum(m.header + r[3] for m in mine for r in [m.rows.sum(0).tolist()])
        lines = list(messages.lines())
    for gate in ("gate1", "gate2") if mapping != "chip" else ():
        for _, sender, _, _, sample, t, events, size in lines:
            if sender == gate:
                assert events == np.count_nonzero(reference.spikes[gate][sample, t - 1])
                assert (size == 0) == (events == 0)


def test_chip_steps_are_traced_too():
    graph, x = halting_net(), samples(4)
    reference = integer.run(graph, x, spikes=True)
    with Network(graph, "op", 2, "loihi", schedule=schedule(graph, "wait"), trace=True) as network:
        record = network.run(x)
        gate = [r for m in network.messages.sent if m.sender == "gate1" for r in m.rows.tolist()]
    assert np.array_equal(record.logits, reference.logits)
    assert {(s, t): n for s, t, n, _ in gate} == {(s, t): np.count_nonzero(reference.spikes["gate1"][s, t - 1]) for s, t, _, _ in gate}
    assert len(gate) == reference.exit_step.sum()


def test_nothing_is_kept_without_a_trace():
    with Network(halting_net(), batch=3) as network:
        network.run(samples(3))
        assert network.messages is None
