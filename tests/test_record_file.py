"""events.npz: read as it was written, by this version and those before; refused where it contradicts itself."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from spikegate.engine.record import Record
from spikegate.engine.record_counts import packed_counts, unpacked_counts
from spikegate.errors import DeployError
from tests.run_folder import adaptive_graph, record_of

SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
COUNTS = st.sampled_from([0, 0, 0, 1, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**62, -1])


@given(SHAPES.flatmap(lambda shape: arrays.arrays(np.int64, shape, elements=COUNTS)), st.data())
def test_counts_are_unpacked_as_they_were(counts, data):
    exits = np.array(data.draw(st.lists(st.integers(1, counts.shape[1]), min_size=len(counts), max_size=len(counts))), np.int64)
    counts[np.arange(counts.shape[1]) >= exits[:, None]] = 0
    packed = packed_counts(counts, exits)
    rows = np.unpackbits(packed["counts_rows"], count=counts.shape[0] * counts.shape[1]).astype(bool)
    held = {int(k.split("/")[1]): v for k, v in packed.items() if "/" in k}
    assert all(v.dtype == f"u{w}" and v.max() > {1: 0, 2: 255, 4: 65535, 8: 2**32 - 1}[w] for w, v in held.items())
    found = unpacked_counts(tuple(packed["counts_shape"]), rows, packed["counts_width"], held)
    assert found.dtype == np.int64 and np.array_equal(found, counts)


def test_counts_that_contradict_their_widths_are_refused():
    with pytest.raises(ValueError, match="counts of 1 bytes are"):
        unpacked_counts((1, 1), np.ones(1, bool), np.array([[1, 1]]), {1: np.ones((1, 1), np.uint8)})


def equal(a: Record, b: Record) -> bool:
    same = all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("counts", "exit_step", "logits", "alive", "labels"))
    by_op = [(getattr(a, k), getattr(b, k)) for k in ("activity", "values")]
    return same and all([*x] == [*y] and all(np.array_equal(x[n], y[n]) for n in x) for x, y in by_op) and (
        (a.ops, a.kinds, a.gates, a.entering, a.meta) == (b.ops, b.kinds, b.gates, b.entering, b.meta)
    )  # fmt: skip


@pytest.mark.parametrize("samples", [1, 11])
@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_record_is_read_as_it_was_written(tmp_path, samples, schema):
    record, path = record_of(adaptive_graph(), samples=samples), tmp_path / "events.npz"
    assert record.activity and record.values
    record.save(path)
    if schema < 3:  # as the versions before wrote it
        with np.load(path) as f:
            new = ("counts", "activity", "values", "sent")
            content = {k: f[k] for k in f.files if not k.startswith(new)} | {"schema": np.array(schema), "counts": record.counts}
        content |= {f"activity/{n}": a for n, a in record.activity.items()} | {f"values/{n}": a for n, a in record.values.items()}
        if schema == 2:
            content["used"] = record.counts.any((0, 1))
            content["counts"] = record.counts[:, :, content["used"]]
        np.savez(path, **content)
    found = Record.load(path)
    assert equal(found, record) and all(a.dtype == np.int32 for a in found.activity.values())
    assert all(a.dtype == np.int64 for a in (found.counts, found.logits, found.exit_step, *found.values.values()))


def test_a_record_of_nothing_but_counts_is_read(tmp_path):
    record = record_of(adaptive_graph())
    record.activity, record.values, record.labels = {}, {}, None
    record.save(tmp_path / "events.npz")
    found = Record.load(tmp_path / "events.npz")
    assert found.activity == {} and found.values == {} and found.labels is None and np.array_equal(found.counts, record.counts)


def test_empty_timesteps_claim_no_memory(tmp_path):
    record = record_of(adaptive_graph())
    record.save(tmp_path / "events.npz")
    with np.load(tmp_path / "events.npz") as f:
        content = {k: f[k] for k in f.files}
    n = 1 << 20
    content |= {"counts_shape": np.array([n, 16]), "counts_rows": np.zeros(n * 2, np.uint8), "exit_step": np.ones(n, np.uint8)}
    np.savez_compressed(tmp_path / "events.npz", **content)
    with pytest.raises(DeployError, match="MiB of memory"):
        Record.load(tmp_path / "events.npz")


def test_the_file_says_which_op_sent_what(tmp_path):
    record = record_of(adaptive_graph())
    record.save(tmp_path / "events.npz")
    with np.load(tmp_path / "events.npz") as f:
        sent = json.loads(str(f["sent"]))
        assert sent["activity"] == {n: list(a.shape) for n, a in record.activity.items()} and sent["values"] == [*record.values]
        assert len(f["activity"]) == sum(a.size for a in record.activity.values()) and f["values"].shape[0] == len(record.values)


RECORD = {
    "exit_step": [np.zeros(11, int), np.ones(11, int), np.full(11, 99), np.zeros(3, int), np.zeros((11, 1), int), np.full(11, 1.5)],
    "counts_shape": [np.array([11]), np.array([1 << 40, 1 << 20]), np.array([4, 11]), np.array([-1, 1])],
    "counts_rows": [np.zeros(3, np.uint8), np.zeros(3)], "counts_width": [np.zeros((2, 3), int), np.array("x")],
    "counts/2": [np.zeros((1, 2), int), np.array([1.5])],
    "activity": [np.zeros(3, int), np.zeros((2, 2), int), np.array(["a"])], "values": [np.zeros((9, 1), int), np.array(["a"])],
    "sent": [np.array(j) for j in ("{", "{}", "[]", '{"activity": {"a": [-1]}, "values": []}', '{"activity": {"a": "b"}, "values": [1]}')],
    "logits": [np.zeros(3, int), np.full((11, 3), np.nan)],
    "ops": [np.array(["a\x1b[2J"]), np.array([1, 2]), np.array("x")], "labels": [np.zeros(3, int), np.array(["a"] * 11)],
    "alive": [np.zeros(3, np.uint8), np.zeros(3)], "alive_shape": [np.array([1 << 40, 1 << 20, 1, 1]), np.array([-1, 1, 1, 1])],
    "entering": [np.array([99]), np.array([-1])], "meta": [np.array("[]"), np.array("{"), np.array(3)],
    "schema": [np.array(7), np.array([1, 2])],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, value", [(k, v) for k, values in RECORD.items() for v in values], ids=lambda v: str(v)[:16].replace("\n", "")
)
def test_a_record_that_contradicts_itself_is_refused(tmp_path, name, value):
    record_of(adaptive_graph()).save(tmp_path / "events.npz")
    with np.load(tmp_path / "events.npz") as f:
        content = {k: f[k] for k in f.files}
    np.savez(tmp_path / "events.npz", **content | {name: value})
    with pytest.raises(DeployError, match=r"events\.npz"):
        Record.load(tmp_path / "events.npz")
    np.savez(tmp_path / "events.npz", **{k: v for k, v in content.items() if k != name})
    if name != "entering":  # which records of before other halting orders lack
        with pytest.raises(DeployError, match=rf"lacks {name}"):
            Record.load(tmp_path / "events.npz")
