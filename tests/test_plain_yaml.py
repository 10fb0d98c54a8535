"""Settings, cost tables and chip profiles: every text is a mapping or one error with its place."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.errors import DeployError
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.energy.measured import plain
from spikegate.synapses.rounding import best_scale
from spikegate.train.settings.options import read_yaml

ODD = {
    "a zone of days": "a: 2001-12-14t21:59:43.10+99:59", "no such date": "a: 2001-13-44", "digits": "a: 1" + "0" * 6000,
    "twice": "a: 1\na: 2", "twice within": "a:\n  b: 1\n  b: 1", "deep": "[" * 5000, "a tag": "a: !!python/object:os.system {}",
    "no text": "a: \x00", "alias": "a: *b",
}  # fmt: skip


@pytest.mark.parametrize("reader", [read_yaml, lambda p: load_table(str(p)), lambda p: load_chip(str(p))])
@pytest.mark.parametrize("name", ODD)
def test_what_yaml_cannot_hold_is_one_error(name, reader, tmp_path):
    path = tmp_path / "odd.yml"
    path.write_text(ODD[name])
    with pytest.raises(DeployError, match=r"odd\.yml"):
        reader(path)


def test_a_records_facts_have_the_types_that_are_read():
    good = {"samples": [0, 1], "split": "test", "images_per_s": 3.0, "data_path": None}
    assert plain(good, 2) and plain({}, 2)
    for change in ({"samples": 2}, {"samples": [0]}, {"samples": [0, "1"]}, {"split": 3}, {"images_per_s": "fast"}, {"chip_steps": {}}):
        assert not plain(good | change, 2), change


@pytest.mark.parametrize("power", [-900, -40, 0, 40, 600, 900])
def test_the_best_scale_does_not_depend_on_the_unit(power):
    """Weights times a power of two: the scale is divided by it, exactly, and nothing overflows."""
    weight = np.random.default_rng(0).normal(size=200)
    limit = 1e4
    assert best_scale([np.ldexp(weight, power)], np.ldexp(limit, -power)) == np.ldexp(best_scale([weight], limit), -power)
