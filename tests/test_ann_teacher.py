"""A teacher in an ONNX file: what it is given, what its file must be, and a run that has one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bench import ann
from spikegate.graph.ir import DeployError
from spikegate.train.ann_teacher import OnnxNet
from spikegate.train.data import load
from spikegate.train.loop import fit
from spikegate.train.restore import load_run
from spikegate.train.settings.config import check
from spikegate.train.settings.data_config import DataConfig

SHAPE, CLASSES, PIXELS = (1, 8, 8), 10, 16
WEIGHT = np.random.default_rng(0).normal(0, 0.3, (64, CLASSES)).astype(np.float32)


def file_of(path, kind=TensorProto.FLOAT, shape=("N", *SHAPE), weight=WEIGHT, inputs=("images",), out=TensorProto.FLOAT):
    """A linear classifier of the pixels as they come."""
    nodes = [
        helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["as_float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
        helper.make_node("Cast", ["y"], ["logits"], to=out),
    ]
    values = [helper.make_tensor_value_info(n, kind, list(shape)) for n in inputs]
    answer = helper.make_tensor_value_info("logits", out, None)
    graph = helper.make_graph(nodes, "linear", values, [answer], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def loaded(path):
    return OnnxNet(path, SHAPE, CLASSES, PIXELS)


def test_float_inputs_get_pixels_up_to_one_and_bytes_as_they_are(tmp_path):
    x = torch.from_numpy(np.random.default_rng(1).integers(0, PIXELS + 1, (5, *SHAPE), np.uint8))
    as_float, as_bytes = (loaded(file_of(tmp_path / f"{k}.onnx", k))(x) for k in (TensorProto.FLOAT, TensorProto.UINT8))
    expected = x.flatten(1).numpy().astype(np.float32) @ WEIGHT
    assert np.allclose(as_bytes, expected, rtol=1e-5, atol=1e-4)
    assert np.allclose(as_float, expected / PIXELS, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": (2, *SHAPE)}, "cannot be run"),
        ({"shape": ("N", 3, 8, 8), "weight": np.tile(WEIGHT, (3, 1))}, r"takes images \[3, 8, 8\], the data has \[1, 8, 8\]"),
        ({"shape": ("N", 64)}, "four axes"),
        ({"kind": TensorProto.DOUBLE}, "float or uint8"),
        ({"inputs": ("images", "more")}, "not one float"),
        ({"weight": WEIGHT[:, :9]}, "the data has 10 classes"),
        ({"weight": WEIGHT[:32]}, "cannot be loaded"),
        ({"weight": WEIGHT * np.float32("nan")}, "not finite"),
        ({"out": TensorProto.INT64}, "not finite float32"),
    ],
)
def test_files_that_cannot_teach_are_refused_by_name(tmp_path, change, told):
    with pytest.raises(DeployError, match=told) as e:
        loaded(file_of(tmp_path / "net.onnx", **change))
    assert "net.onnx" in str(e.value)


def test_what_is_no_file_or_no_model_is_refused(tmp_path):
    with pytest.raises(DeployError, match="is not there"):
        loaded(tmp_path / "none.onnx")
    for content in (b"", b"no model", file_of(tmp_path / "whole.onnx").read_bytes()[:200]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(DeployError, match=r"bad\.onnx"):
            loaded(tmp_path / "bad.onnx")


def test_a_net_learns_from_it(tmp_path):
    small = {
        "data": {"name": "digits", "limit_train": 64},
        "model": {"name": "spikformer", "dim": 8, "heads": 2, "timesteps": 2, "stem_channels": 4},
        "train": {"epochs": 1, "float_share": 0.0, "threads": 1},
    }
    teacher = file_of(tmp_path / "ann.onnx")
    runs = []
    for name, train in (("alone", {}), ("taught", {"teacher": str(teacher), "distill": 0.9})):
        config = check(small | {"train": small["train"] | train, "output": str(tmp_path / name)}, "test")
        runs.append(load_run(fit(config))[1].state_dict())
    assert any(not torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_the_ann_of_the_bench_is_written_as_it_was_trained(tmp_path):
    args = ann.Args(tmp_path / "ann.onnx", DataConfig(name="digits", limit_train=200), epochs=2, batch_size=50, width=4, threads=1)
    splits = load(args.data)
    scaled = ann.Scaled(splits.train.x)
    net = ann.train(args, splits, scaled).eval()
    ann.write(net, scaled, splits.image_shape, args.output)
    x = splits.test.x[:16]
    found = OnnxNet(args.output, splits.image_shape, len(splits.classes), splits.levels)(x)
    with torch.no_grad():
        assert torch.allclose(found, net(scaled(x)), atol=1e-4) and found.std() > 0
