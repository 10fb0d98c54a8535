"""An export from a stranger: embedding, manifest, images and records are taken for what they are, or refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spikegate.data.shipped import open_images
from spikegate.deploy.bundle import open_export
from spikegate.errors import DeployError
from spikegate.formats.host import Host, write_host
from spikegate.formats.host_conv import HostConv
from spikegate.formats.host_file import taken_apart
from spikegate.formats.manifest import read_manifest, write_manifest
from spikegate.reading import arrays

ROOT = Path(__file__).parents[1]
onnx = pytest.importorskip("onnx")


@pytest.fixture
def export(tmp_path) -> Path:
    return Path(shutil.copytree(ROOT / "zoo" / "stas-digits", tmp_path / "e"))


def renewed(export: Path) -> Path:
    """With the right hashes again."""
    path = export / "manifest.json"
    content = json.loads(path.read_text())
    content["sha256"] = {n: hashlib.sha256((export / n).read_bytes()).hexdigest() for n in content["sha256"]}
    path.write_text(json.dumps(content))
    return export


def changed(export: Path, change) -> Path:
    model = onnx.load(export / "embedding.onnx")
    change(model, export)
    (export / "embedding.onnx").write_bytes(model.SerializeToString())
    return renewed(export)


def initial(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def outside(where):
    def change(model, export):
        weight = initial(model, "weight")
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", where), ("offset", "0")):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value

    return change


def attribute(name, values):
    def change(model, export):
        next(a for n in model.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == name).ints[:] = values

    return change


def huge(model, export):
    made = onnx.helper.make_node("ConstantOfShape", ["big"], [model.graph.node[0].output[0]])
    model.graph.node[0].CopyFrom(made)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1 << 16, 1 << 16]), "big"))


def claims(model, export):
    initial(model, "weight").dims[:] = [1 << 20, 1 << 20, 3, 3]


def subgraph(model, export):
    body = onnx.helper.make_graph([], "g", [], [])
    model.graph.node[1].CopyFrom(onnx.helper.make_node("If", ["pixels"], ["product"], then_branch=body, else_branch=body))


def fraction(model, export):
    values = onnx.numpy_helper.to_array(initial(model, "weight")).copy()
    values.flat[0] += 0.5
    initial(model, "weight").CopyFrom(onnx.numpy_helper.from_array(values, "weight"))


def wide(model, export):
    initial(model, "weight").CopyFrom(onnx.numpy_helper.from_array(np.full((16, 1, 3, 3), 2.0**22, np.float32), "weight"))


def not_finite(model, export):
    initial(model, "high").CopyFrom(onnx.numpy_helper.from_array(np.float32(np.inf), "high"))


def kind(model, export):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32


def batch(model, export):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7


def order(model, export):
    model.graph.node[-2].attribute[0].ints[:] = [0, 1, 2]


def pixels(model, export):
    model.metadata_props[0].value = "99999"


def swapped(model, export):
    a, b = model.graph.node[2], model.graph.node[3]
    a.op_type, b.op_type = "Floor", "Mul"


def function(model, export):
    model.functions.add().name = "f"


def domain(model, export):
    model.graph.node[1].domain = "other"


REFUSED = {
    "beside": (outside("../secret.bin"), "another file"), "absolute": (outside("/etc/hostname"), "another file"),
    "stride 0": (attribute("strides", [0, 0]), "embedding.onnx"), "stride -1": (attribute("strides", [-1, -1]), "embedding.onnx"),
    "unequal strides": (attribute("strides", [1, 2]), "differs"), "pads": (attribute("pads", [1 << 30] * 4), "embedding.onnx"),
    "loop": (huge, "ConstantOfShape"), "claims": (claims, "claims"), "if": (subgraph, "If"), "fraction": (fraction, "fractions"),
    "wide": (wide, "float32 is exact"), "inf": (not_finite, "infinity"), "int32": (kind, "differs"), "batch": (batch, "differs"),
    "order": (order, "differs"), "pixels": (pixels, "embedding.onnx"), "swapped": (swapped, "differs"), "function": (function, "differs"),
    "domain": (domain, "operation"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_embedding_that_we_did_not_write_never_reaches_onnxruntime(export, name, monkeypatch):
    change, words = REFUSED[name]
    (export.parent / "secret.bin").write_bytes(b"\0\0\x80?" * 4096)
    import onnxruntime

    changed(export, change)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(DeployError, match=words):
        open_export(export)


@pytest.mark.parametrize("name", b"weight bias scale image Conv strides pixels clipped embedding bound".split())
def test_a_name_that_is_no_text_is_refused(export, name):
    """Found by fuzzing: protobuf hands such a name over as bytes."""
    path = export / "embedding.onnx"
    data = path.read_bytes()
    assert name in data
    for changed_ in (data.replace(name, b"\xff" + name[1:], 1), data.replace(name, b"\xff" + name[1:])):
        path.write_bytes(changed_)
        with pytest.raises(DeployError, match=r"embedding\.onnx"):
            taken_apart(path.read_bytes(), str(path))


def test_every_embedding_that_we_write_is_read_and_computes_the_same(tmp_path):
    rng = np.random.default_rng(1)

    def conv(out, stride, shift, **more):
        return HostConv(rng.integers(-90, 90, (out, 2, 3, 3)), rng.integers(-9, 9, out), shift, stride, 1, **more)

    images = rng.integers(0, 256, (5, 2, 8, 8)).astype(np.uint8)
    coarse, parts = conv(6, 2, 4, silent=(1, 1), fold=2), conv(3, 1, 0, parts=4)
    offset = HostConv(rng.integers(-9, 9, (4, 2, 3, 3)), rng.integers(-99, 99, (4, 8, 8)), 3, 1, 1)
    for convs in ([conv(4, 1, 6)], [conv(4, 2, 0)], [parts], [offset], [conv(2, 1, 5), coarse, parts, offset]):
        first = convs[0]
        fixed = {"low": -3000, "high": 3000, "image_shape": (2, 8, 8), "pixels": 255}
        write_host(
            tmp_path / "e.onnx",
            weight=first.weight,
            bias=first.bias,
            shift=first.shift,
            stride=first.stride,
            padding=1,
            more=convs[1:],
            **fixed,
        ) if first.parts == 1 else write_host(
            tmp_path / "e.onnx", weight=offset.weight, bias=offset.bias, shift=3, stride=1, padding=1, more=convs, **fixed
        )
        written = convs if first.parts == 1 else [offset, *convs]
        expected = np.clip(np.concatenate([c.encode(images) for c in written], -1), -3000, 3000)
        assert np.array_equal(Host(tmp_path / "e.onnx").encode(images), expected)


FIELDS = {
    "sha256": [{}, {"model.net": "0" * 64}, {"model.net": {}, "embedding.onnx": {}}, [], "x", None, {"../x": "0" * 64}],
    "dense_ops": [[], {"a": -1}, {"a": "b"}, {"a": 1e400}, 3], "classes": [0, -1, "3", 2.5, True, 1 << 60],
    "labels": [[1], "abc", [""], {}],
    "timesteps": [0, 4097, "4", None], "halting": [1, "true"], "grid": [[4], [4, 4, 4], [0, 4], "44"],
    "image_shape": [[8, 8], [1, 8, -8], 8],
    "host_macs": [-1, "x", 1e9], "data": [[], {}, {"name": 3}], "name": [3, "", "a\x1b[31mred", "a\nb"], "model": [["a"]],
    "dataset": [{}], "embedding_ops": [{}, [3]], "gates": ["gate", [None]], "schema": [2, "1", None],
    "ops": [[{"name": "\x1b[2J"}]], "exit_drop": ["x", -1],
}  # fmt: skip


@pytest.mark.parametrize("field, value", [(k, v) for k, values in FIELDS.items() for v in values], ids=lambda v: str(v)[:20])
def test_a_field_of_another_type_is_named_and_switches_nothing_off(export, field, value):
    path = export / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {field: value}))
    with pytest.raises(DeployError, match=r"manifest\.json") as e:
        read_manifest(export)
    assert str(e.value).isascii() and "\x1b" not in str(e.value)


@pytest.mark.parametrize(
    "text", ["[]", "3", "{", "[" * 100_000, '{"schema": NaN}', "\udcff"], ids=["list", "number", "cut", "deep", "nan", "x"]
)
def test_a_manifest_that_is_none(export, text):
    (export / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DeployError, match=r"manifest\.json"):
        read_manifest(export)


def test_the_manifest_does_not_say_where_the_data_lie(export):
    content = json.loads((export / "manifest.json").read_text())
    data = content["data"] | {"path": "/home/somebody/secret/images.npz"}
    write_manifest(export, {**{k: v for k, v in content.items() if k not in ("schema", "sha256")}, "data": data})
    assert "secret" not in (export / "manifest.json").read_text()
    content = json.loads((export / "manifest.json").read_text())
    (export / "manifest.json").write_text(json.dumps(content | {"data": {"name": "npz", "path": "/etc/hostname"}}))
    found = read_manifest(export)
    assert "path" not in found["data"]
    with pytest.raises(DeployError, match="needs a path"):
        open_images(export, found, "test:2")


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode()


ODD_NPY = {
    "no array": b"no array", "empty": b"", "zip": b"PK\3\4",
    "open bracket": npy_header("{'descr': '<i4', 'fortran_order': False, 'shape': (3,\n"),
    "4 TB": npy_header("{'descr': '<i4', 'fortran_order': False, 'shape': (1099511627776,), }\n") + bytes(64),
    "negative": npy_header("{'descr': '<i4', 'fortran_order': False, 'shape': (-1,), }\n") + bytes(64),
    "objects": npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + b"\x80\x04N.",
    "records": npy_header("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }\n") + bytes(4),
    "code": npy_header("__import__('os').system('touch PWNED')\n"),
}  # fmt: skip


@pytest.mark.parametrize("data", ODD_NPY.values(), ids=ODD_NPY)
def test_an_array_that_is_none_is_refused(tmp_path, data):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(DeployError, match=r"x\.npy"):
        arrays.read_npy(tmp_path / "x.npy", "hint")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as z:
        z.writestr("a.npy", data)
    with arrays.opened(tmp_path / "x.npz", "hint") as f, pytest.raises(DeployError, match=r"x\.npz: a: "):
        f["a"]


@pytest.mark.parametrize(
    "x", [np.arange(6).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.array(3), np.zeros((0, 2)), np.array(["a", "bc"])]
)
def test_an_array_is_read_as_numpy_reads_it(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", a=x)
    with arrays.opened(tmp_path / "x.npz", "hint") as f:
        for found in (arrays.read_npy(tmp_path / "x.npy", "hint"), f["a"]):
            assert found.dtype == x.dtype and found.shape == x.shape and np.array_equal(found, x)


def test_an_archive_that_unpacks_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.npy", npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (268435456,), }\n") + bytes(1 << 28))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 19
    with pytest.raises(DeployError, match="MiB of memory"), arrays.opened(tmp_path / "x.npz", "hint"):
        pass
