"""The host embedding: integer-exact by a proven bound, refused where it cannot be proven, defensive about images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.formats.host import Host, host_bound, write_host
from spikegate.graph.ir import DeployError
from spikegate.synapses.synapse import conv_current


def stem(path, weight, bias, pixels=255, stride=1, shift=4, low=-40, high=40, shape=(1, 6, 5)):
    fixed = {"padding": 1, "image_shape": shape, "pixels": pixels}
    return write_host(path, weight=weight, bias=bias, shift=shift, low=low, high=high, stride=stride, **fixed)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), stride=st.sampled_from([1, 2]), shift=st.integers(0, 9), channels=st.sampled_from([1, 3]))
def test_onnx_equals_integer_arithmetic(tmp_path_factory, seed, stride, shift, channels):
    """Property: for any integer weights within the bound, onnxruntime returns the integers of exact arithmetic."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-900, 900, (4, channels, 3, 3)), rng.integers(-9000, 9000, 4)
    path = tmp_path_factory.mktemp("host") / "embedding.onnx"
    stem(path, weight, bias, stride=stride, shift=shift, shape=(channels, 6, 5))
    images = rng.integers(0, 256, (5, channels, 6, 5)).astype(np.uint8)
    maps = images.reshape(5, channels, 30).transpose(0, 2, 1).astype(np.int64)
    total = np.rint(conv_current(maps, weight, (6, 5), stride, 1, 1)).astype(np.int64) + bias
    assert np.array_equal(Host(path).encode(images), np.clip(total >> shift, -40, 40))


def test_a_sum_that_float32_may_round_is_refused(tmp_path):
    weight, bias = np.full((2, 1, 3, 3), 8000), np.zeros(2, np.int64)
    assert host_bound(weight, bias, 255) == 9 * 8000 * 255 > 1 << 24
    with pytest.raises(DeployError, match=r"embedding.*2?\d{7}"):
        stem(tmp_path / "e.onnx", weight, bias)
    assert not (tmp_path / "e.onnx").exists()
    assert stem(tmp_path / "e.onnx", weight, bias, pixels=16) == 9 * 8000 * 16  # fewer grey levels: exact


@pytest.mark.parametrize(
    "images, words",
    [
        (np.zeros((2, 1, 6, 5), np.float32), "float32"),
        (np.zeros((2, 1, 5, 6), np.uint8), "5, 6"),
        (np.full((2, 1, 6, 5), 17, np.uint8), "up to 17"),
    ],
)
def test_other_images_are_refused(tmp_path, images, words):
    stem(tmp_path / "e.onnx", np.ones((2, 1, 3, 3), np.int64), np.zeros(2, np.int64), pixels=16)
    with pytest.raises(DeployError, match=words):
        Host(tmp_path / "e.onnx").encode(images)


def test_a_damaged_embedding_is_named(tmp_path):
    (tmp_path / "e.onnx").write_bytes(b"no model")
    with pytest.raises(DeployError, match=r"e\.onnx"):
        Host(tmp_path / "e.onnx")
    with pytest.raises(DeployError, match="no such file"):
        Host(tmp_path / "absent.onnx")
