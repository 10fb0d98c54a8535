"""Tests see an empty home and no network, and strict arithmetic: an overflow of a 24-bit register raises (users get a warning)."""

import os
import signal
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
if not Path("/dev/nvidiactl").exists():  # read when Triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest

from spikegate.neurons.cuba import Strict
from tests import isolation

isolation.isolate()


def pytest_configure(config: pytest.Config) -> None:
    Strict.raises = True


def hear_ctrl_c() -> None:
    """For a child process: a test run in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def digits() -> Any:
    """scikit-learn's digits in their parts, as train/run.py splits them."""
    import torch

    from spikegate.data.parts import load_parts

    torch.set_num_threads(1)
    return load_parts("digits")


LAVA_FILES = (
    "test_lava", "test_lava_ops", "test_lava_chip_time", "test_deploy_cli", "test_pipeline", "test_readme", "test_netx_cli",
    "test_netx_wheel",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests that start Lava share one worker: some check that no process and no shared memory is left on the machine."""
    for item in items:
        lava = item.get_closest_marker("lava") or item.path.stem in LAVA_FILES
        item.add_marker(pytest.mark.xdist_group("lava" if lava else item.path.stem))
