"""docs/ops.md names every kind of op with its slots, its fields and their defaults."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from spikegate.graph.ir import load_ops
from spikegate.neurons.base import NEURONS

DOCS = Path(__file__).parents[1] / "docs"
OPS = load_ops()


def part_of(kind: str) -> str:
    """The op's own section, or its row of a table."""
    page = (DOCS / "ops.md").read_text()
    section = re.search(rf"^### {kind}\n(.*?)(?=^##)", page + "\n##", re.M | re.S)
    row = re.search(rf"^\| `{kind}` \|.*$", page, re.M)
    found = section.group(1) if section else row.group(0) if row else ""
    assert found, f"docs/ops.md has no part on {kind}"
    return found


@pytest.mark.parametrize("kind", OPS)
def test_slots_and_fields_with_their_defaults(kind):
    text, op = part_of(kind), OPS[kind]
    for slot in op.slots:
        assert f"`{slot}`" in text, f"{kind} has the slot {slot}"
    for f in dataclasses.fields(op):
        if f.name == "neuron":
            assert "`neuron" in text
        elif f.default is dataclasses.MISSING:
            assert f"`{f.name}`" in text, f"{kind} has the field {f.name}, without default"
        else:
            value = f'"{f.default}"' if isinstance(f.default, str) else f.default
            assert f"`{f.name} = {value}`" in text, f"{kind}.{f.name} is {value} where the file has none"


@pytest.mark.parametrize("kind", NEURONS)
def test_neurons_of_blocks_with_their_fields(kind):
    row = re.search(rf"^\| `{kind}` \|.*$", (DOCS / "semantics.md").read_text(), re.M)
    assert row, f"docs/semantics.md has no row on {kind}"
    named = row.group(0).split("|")[2]
    for f in dataclasses.fields(NEURONS[kind]):
        assert f"`{f.name}`" in named or "the same" in named, f"{kind} has the field {f.name}"


def test_the_default_neuron_of_attention_is_the_documented_one():
    default = next(f.default for f in dataclasses.fields(OPS["spiking_attention"]) if f.name == "neuron")
    assert "neuron = (4096, 2048, 63)" in part_of("spiking_attention")
    assert np.array_equal([default.i_decay, default.v_decay, default.vth], [4096, 2048, 63])
