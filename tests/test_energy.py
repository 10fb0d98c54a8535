"""Prices: hand-computed energies, refusal to price silently, tables with sources, and the papers' published rows."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.cost_tables import COLUMNS, EVIDENCE, FOLDER, HOST, QUANTITIES, CostTable, load_table, load_tables, names
from spikegate.hw_sim.energy.ledger import NetInfo, book, quantities
from spikegate.hw_sim.energy.pricing import COMPONENTS, price, price_ledger
from spikegate.hw_sim.energy.published import conv_macs, formula_mj, spikformer_macs
from spikegate.hw_sim.energy.units import count_text, energy_text
from tests.run_folder import adaptive_graph, record_of

# op, spike_in, synop, attention_ac, neuron_update, gate_update, spike_out, message
CONV = (10, 100, 0, 8, 0, 3, 6)
ATTENTION = (3, 0, 20, 4, 0, 5, 5)  # graded: more spikes out than neurons
GATE = (2, 7, 0, 0, 4, 1, 2)
READOUT = (1, 6, 0, 2, 9, 2, 0)
INFO = NetInfo(
    host_macs=1000, embedding_ops=frozenset({"conv"}),
    sources={"conv": ["input"], "attention": ["conv"], "gate": ["conv"], "readout": ["attention", "~gate"]},
    dense_ops={"conv": 200, "attention": 50, "gate": 0, "readout": 12},
)


def tiny_record() -> Record:
    """Two samples, two timesteps; the second sample exits after the first timestep."""
    once = np.array([CONV, ATTENTION, GATE, READOUT], np.int64)
    counts = np.stack([np.stack([once, 2 * once]), np.stack([once, 0 * once])])
    return Record(
        ops=["conv", "attention", "gate", "readout"], kinds=["conv", "spiking_attention", "token_gate", "readout"], counts=counts,
        exit_step=np.array([2, 1]), logits=np.zeros((2, 3), np.int64), gates=["gate"], alive=np.ones((2, 2, 2, 4), bool),
    )


def table_without(*keys: str, left_out: dict[str, str] | None = None) -> CostTable:
    content = yaml.safe_load((FOLDER / "loihi1-davies.yml").read_text())
    for key in keys:
        content["prices"].pop(key, None)
        content["leaves_out"].pop(key, None)
    content["leaves_out"] |= left_out or {}
    return CostTable.model_validate(content)


def test_loihi_energies_equal_a_hand_computation():
    energy = price(tiny_record(), INFO, load_table("loihi1-davies"))
    passes = (1 + 2 + 1) / 2  # times that the events above happen per inference
    parts = energy.components_pj
    assert parts["synapses"] == pytest.approx(passes * 23.6 * (100 + 6))
    assert parts["attention"] == pytest.approx(passes * 23.6 * 20)
    # conv: 3 of 8 updates spike; attention: all 4; readout: both
    assert parts["neurons"] == pytest.approx(passes * (3 * 81 + 5 * 52 + 4 * 81 + 2 * 81))
    # half of conv's messages go to the gate
    assert parts["messages"] == pytest.approx(passes * 1.7 * (3 + 5))
    assert parts["gates"] == pytest.approx(passes * (23.6 * (7 + 4 + 9) + 1.7 * (2 + 3)))
    assert parts["host"] == energy.host_pj == pytest.approx(4600)
    assert sum(parts.values()) == pytest.approx(energy.total_pj) and set(parts) == set(COMPONENTS)
    assert not energy.partial


def test_paper_energies_equal_a_hand_computation():
    energy = price(tiny_record(), INFO, load_table("paper45"))
    assert energy.chip_pj == pytest.approx(2 * 0.9 * (100 + 20 + 7 + 4 + 6 + 9))
    assert energy.gates_total_pj == pytest.approx(2 * 0.9 * (7 + 4 + 9))
    assert energy.left_out == ["neurons", "idle visits", "messages"]


def test_energy_by_op_timestep_and_counter():
    energy = price(tiny_record(), INFO, load_table("loihi1-davies"))
    assert energy.energy_pj.shape == (2, 4, len(COLUMNS))
    conv, synop = 0, COUNTERS.index("synop")
    assert energy.energy_pj[0, conv, synop] == pytest.approx(23.6 * 100)  # both samples
    assert energy.energy_pj[1, conv, synop] == pytest.approx(23.6 * 200 / 2)  # one of two samples, twice as much
    assert energy.chip_per_sample_pj.mean() == pytest.approx(energy.chip_pj)
    assert energy.chip_per_sample_pj[0] == pytest.approx(3 * energy.chip_per_sample_pj[1])


def test_quantities_keep_every_event_of_a_real_run():
    counts = record_of(adaptive_graph()).counts
    q = quantities(counts)
    updates = q[..., QUANTITIES.index("neuron_update_active")] + q[..., QUANTITIES.index("neuron_update_inactive")]
    assert np.array_equal(updates, counts[..., COUNTERS.index("neuron_update")]) and q.min() >= 0
    assert np.array_equal(q[..., QUANTITIES.index("synop")], counts[..., COUNTERS.index("synop")])


def test_delayed_sources_count_as_sources():
    manifest = {"host_macs": 7, "embedding_ops": ["a"], "dense_ops": {"a": 3}, "ops": [{"name": "b", "sources": ["a", "~gate"]}]}
    assert NetInfo.from_manifest(manifest) == NetInfo(7, frozenset({"a"}), {"b": ["a", "gate"]}, {"a": 3})


def test_messages_to_gates_are_spikes_times_edges_to_gates():
    graph = adaptive_graph()
    record = record_of(graph)
    info = NetInfo(sources={n: [e.source for e in graph.edges if e.target == n] for n in graph.ops})
    ledger = book(record, info)
    for i, name in enumerate(graph.ops):
        if graph.ops[name].kind in ("token_gate", "exit_gate"):
            assert not ledger.work[:, i].any()
            continue
        edges = sum(graph.ops[e.target].kind in ("token_gate", "exit_gate") for e in graph.consumers(name))
        expected = record.counts[:, :, i, COUNTERS.index("spike_out")].sum(0) * edges
        assert np.array_equal(ledger.gates[:, i, QUANTITIES.index("message")], expected), name
    assert np.array_equal(ledger.work.sum((0, 1)) + ledger.gates.sum((0, 1)), ledger.total)


def test_events_without_a_price_make_the_total_partial():
    energy = price(tiny_record(), INFO, table_without("message"))
    assert energy.partial and energy.unpriced == {"message": 2 * (6 + 5 + 2)}
    energy = price(tiny_record(), INFO, table_without("neuron_update_active", "neuron_update_inactive"))
    assert energy.unpriced == {"neuron_update": 2 * (8 + 4 + 2)}
    energy = price(tiny_record(), INFO, table_without("host_mac"))
    assert energy.unpriced == {"host_mac": 1000}


def test_what_did_not_happen_or_is_left_out_with_a_reason_is_not_partial():
    assert not price(tiny_record(), INFO, table_without("message", left_out={"message": "one core"})).partial
    record = tiny_record()
    record.counts[..., COUNTERS.index("message")] = 0
    assert not price(record, INFO, table_without("message")).partial


@pytest.mark.parametrize("name", names())
def test_every_price_has_a_source_and_every_counter_an_account(name):
    table = load_table(name)
    assert table.name == name
    for price_ in table.prices.values():
        assert price_.source and price_.node and price_.voltage and price_.evidence in EVIDENCE and price_.leaves_out
    for quantity in (*QUANTITIES, HOST):
        assert table.pj(quantity) is not None
    assert "static power" in table.leaves_out


def test_shipped_figures():
    paper, loihi = load_table("paper45"), load_table("loihi1-davies")
    assert [paper.pj(q) for q in ("synop", "attention_ac", "gate_update", HOST)] == [0.9, 0.9, 0.9, 4.6]
    given = {q: loihi.pj(q) for q in ("synop", "neuron_update_active", "neuron_update_inactive", "message", HOST)}
    assert given == {"synop": 23.6, "neuron_update_active": 81, "neuron_update_inactive": 52, "message": 1.7, HOST: 4.6}
    assert loihi.prices["synop"].bound == "minimum"
    assert {loihi.prices[n].evidence for n in ("attention_ac", "gate_update")} == {"assumed"}


GOOD = (FOLDER / "paper45.yml").read_text()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD.replace("    value: 0.9\n", "", 1), "prices.synop.value"),
        (GOOD.replace("value: 0.9", "value: -0.9", 1), "prices.synop.value"),
        (GOOD.replace("value: 0.9", "value: .nan", 1), "prices.synop.value"),
        (GOOD.replace("unit: pJ", "unit: joules", 1), "prices.synop.unit"),
        (GOOD.replace("evidence: assumed", "evidence: hearsay", 1), "evidence"),
        (GOOD.replace("  synop:", "  synops:", 1), "synop"),
        (GOOD.replace("  attention_ac:", "  synop:", 1), "is given twice"),
        (GOOD.replace("  neuron_update:", "  synop:", 1), "listed under leaves_out"),
        (GOOD.replace("  gate_update:", "  neuron_update_active:", 1), "both neuron_update_active"),
        (GOOD.replace("name: paper45", "name: ../up", 1), "name"),
        (GOOD.replace("schema: 1", "schema: 7", 1), "schema"),
        ("prices: [", "not YAML"),
        ("just words", "holds no keys"),
        ("", "holds no keys"),
    ],
)
def test_a_bad_table_is_refused_by_file_and_key(tmp_path, text, named):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(DeployError) as e:
        load_table(str(path))
    assert e.value.where == str(path) and named in e.value.problem and "paper45" not in e.value.problem and e.value.hint


def test_unknown_and_double_tables_are_refused(tmp_path):
    with pytest.raises(DeployError, match="loihi1-davies"):
        load_table("loihi2")
    with pytest.raises(DeployError, match="two tables are called paper45"):
        load_tables(["paper45", str(FOLDER / "paper45.yml")])


def test_units_of_a_table_are_converted(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(GOOD.replace("name: paper45", "name: mine").replace("value: 0.9\n    unit: pJ", "value: 900\n    unit: fJ"))
    ours = price_ledger(book(tiny_record(), INFO), load_table(str(path)))
    assert ours.chip_pj == pytest.approx(price(tiny_record(), INFO, load_table("paper45")).chip_pj)


def test_spikformer_4_384_on_cifar_has_the_known_dense_count():
    macs = spikformer_macs(32, 384, 4, 10)
    assert sum(macs.values()) == 934_039_296
    assert round(4 * sum(macs.values()) / 1e9, 3) == 3.736
    assert round((macs["conv1"] + macs["embedding"]) / sum(macs.values()), 3) == 0.502


@pytest.mark.parametrize(  # ImageNet, 224 x 224, T = 4
    ("gops", "channels", "published_mj", "tolerance_mj"),
    [
        (6.82, 64, 7.734, 0.002),  # Spikformer 8-384: the paper's table has the term of 64 channels in every row
        (11.09, 64, 11.577, 0.002),  # 8-512
        (13.67, 64, 13.899, 0.002),  # 10-512
        (22.09, 64, 21.477, 0.002),  # 8-768
        (3.88, 48, 4.69, None),  # Spikingformer 8-384, printed with two decimals: equal in both
        (6.52, 64, 7.46, None),  # 8-512
        (12.54, 96, 13.68, None),  # 8-768
    ],
)
def test_the_field_formula_reproduces_published_energies(gops, channels, published_mj, tolerance_mj):
    ours = formula_mj(gops * 1e9, conv_macs(3, channels, 3, 224, 224), 4)
    if tolerance_mj is None:
        assert round(ours, 2) == published_mj
    else:
        assert ours == pytest.approx(published_mj, abs=tolerance_mj)


def test_spikformer_rows_are_not_reproduced_with_their_own_channels():
    assert formula_mj(6.82e9, conv_macs(3, 48, 3, 224, 224), 4) == pytest.approx(7.335, abs=1e-3)
    assert formula_mj(22.09e9, conv_macs(3, 96, 3, 224, 224), 4) == pytest.approx(22.274, abs=1e-3)


@pytest.mark.parametrize(
    ("pj", "text"),
    [(0, "0 pJ"), (3.6, "3.60 pJ"), (999.6, "1.00 nJ"), (51_800, "51.8 nJ"), (1_234_000, "1.23 uJ"), (-511, "-511 pJ"), (2e10, "20.0 mJ")],
)
def test_energies_for_people_have_three_digits(pj, text):
    assert energy_text(pj) == text


def test_counts_for_people():
    assert [count_text(v) for v in (0, 0.25, 54.53, 123456.7)] == ["0", "0.250", "54.5", "123,457"]
