"""lava-nc 0.10.0 on Python 3.11 and later: what is done for it is done only while it is imported, and says so when it no longer can be."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from spikegate.deploy.lava.python312 import shared_defaults
from spikegate.errors import DeployError

ROOT = Path(__file__).parents[1]


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


def test_a_default_that_cannot_be_hashed_is_shared_as_in_python_3_10():
    value = Unhashable()
    with shared_defaults():
        holder = dataclasses.make_dataclass("Holder", ["x"], namespace={"x": value})
    assert holder().x is holder().x is value


def test_mutable_defaults_are_refused_as_ever():
    for value in ([], {}, set()):
        with shared_defaults(), pytest.raises(ValueError, match="mutable default"):
            dataclasses.make_dataclass("Holder", ["x"], namespace={"x": value})


def test_python_is_as_before_afterwards():
    before = dataclasses._get_field  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError), shared_defaults():
        raise RuntimeError
    assert dataclasses._get_field is before  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="mutable default"):
        dataclasses.make_dataclass("Holder", ["x"], namespace={"x": Unhashable()})


def test_a_python_that_makes_dataclasses_in_another_way_is_named(monkeypatch):
    monkeypatch.delattr(dataclasses, "_get_field")
    with pytest.raises(DeployError, match=r"(?s)lava-nc 0\.10\.0.*_get_field.*3\.11 to 3\.13"), shared_defaults():
        pass


def test_lava_needs_it_and_our_import_of_lava_provides_it():
    """Fails with Lava's own words when a newer Lava or Python no longer needs the shim (then it can go) or is no longer helped by it."""
    bare = subprocess.run([sys.executable, "-c", "import lava.magma.compiler.var_model"], capture_output=True, text=True, cwd=ROOT)
    assert bare.returncode and "mutable default" in bare.stderr, "lava-nc imports without deploy/lava/python312.py: remove it"
    ours = "import dataclasses as d; f = d._get_field; import spikegate.deploy.lava.lava_import; assert d._get_field is f"
    done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
