"""Strict arithmetic everywhere: an overflow of a 24-bit register raises in tests (users get a warning)."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from convert.neuron import Strict


def pytest_configure(config: pytest.Config) -> None:
    Strict.raises = True


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
