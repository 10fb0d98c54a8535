"""Settings: precedence, and that every mistake is named with its dotted key and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spikegate.graph.ir import DeployError
from spikegate.train.settings.config import DATASET_DEFAULTS, DATASETS, Config, check, flat, merge
from spikegate.train.settings.options import from_command_line, from_yaml, read_yaml, write_yaml

CONF = sorted((Path(__file__).parents[1] / "conf").glob("*.yml"))


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.yml"
    path.write_text(text)
    return str(path)


def test_data_set_defaults_then_yaml_then_options(tmp_path):
    path = file(tmp_path, "data: {name: fashion}\nmodel: {depth: 3}\ntrain: {lr: 1e-4}\n")
    config = from_command_line(["-c", path, "--model.timesteps", "2", "--seed", "5"])
    assert config.model.dim == DATASET_DEFAULTS["fashion"]["model"]["dim"] != Config().model.dim
    assert (config.model.depth, config.model.timesteps, config.train.lr, config.train.seed) == (3, 2, 1e-4, 5)


def test_options_beat_yaml_and_choose_the_defaults(tmp_path):
    path = file(tmp_path, "model: {dim: 48}\n")
    config = from_command_line(["--config", path, "--data.name", "fashion", "--model.dim", "16"])
    assert (config.model.dim, config.model.depth) == (16, DATASET_DEFAULTS["fashion"]["model"]["depth"])


def test_a_model_has_its_own_halting_default():
    assert from_command_line([]).model.halting.enabled is True
    assert from_command_line(["--model.name", "spikformer"]).model.halting.enabled is False
    assert from_command_line(["--model.halting.enabled", "False"]).model.halting.enabled is False


@pytest.mark.parametrize("path", CONF, ids=lambda p: p.stem)
def test_the_files_in_conf_are_valid_and_named_after_their_contents(path):
    config = from_yaml(path)
    assert path.stem.removesuffix("-tuned").removesuffix("-all-policies") == f"{config.data.name}-{config.model.name}"


def test_yaml_round_trip(tmp_path):
    config = from_command_line(["--data.name", "cifar10", "--data.path", "some/where", "--train.lr", "0.1"])
    write_yaml(config, tmp_path / "config.yml")
    assert from_yaml(tmp_path / "config.yml") == config
    assert from_yaml(tmp_path / "config.yml").hash == config.hash


def test_the_hash_is_of_what_decides_the_weights():
    base = Config()
    assert check({"train": {"threads": 7}, "data": {"name": "digits"}, "output": "x"}, "here").hash == base.hash
    assert check({"train": {"seed": 1}}, "here").hash != base.hash


def test_every_setting_is_described_and_every_default_is_in_range():
    def walk(model):
        for name, info in model.model_fields.items():
            assert info.description, name
            if hasattr(info.annotation, "model_fields"):
                walk(info.annotation)

    walk(Config)
    for name in DATASETS:
        check(merge(DATASET_DEFAULTS.get(name, {}), {"data": {"name": name}}), name)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model: {timestep: 3}", ["model.timestep", "unknown key", "did you mean model.timesteps?"]),
        ("model: {epochs: 3}", ["model.epochs", "did you mean train.epochs?"]),
        ("modle: {}", ["modle", "did you mean model?"]),
        ("model: {halting: {gama: 2}}", ["model.halting.gama", "did you mean model.halting.gamma?"]),
        ("model: {timesteps: 99}", ["model.timesteps", "16", "99", "timesteps T"]),
        ("model: {depth: 0}", ["model.depth", "got 0"]),
        ("data: {name: fashon}", ["data.name", "did you mean fashion?"]),
        ("train: {lr: .nan}", ["train.lr", "finite"]),
        ("train: {lr: fast}", ["train.lr", "number", "fast"]),
        ("train: 5", ["train", "section", "5"]),
        ("- 1\n- 2", ["mapping", "list"]),
        ("model: {dim: 3, dim: 4}", ["line 1", "'dim' is given twice"]),
        ("model:\n  dim: [1", ["line", "not YAML"]),
        ("model: {dim: 3}\n1: 2", ["1", "string"]),
        ("x: !!python/object/apply:os.system [ls]", ["not YAML", "python/object"]),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, wanted):
    with pytest.raises(DeployError) as e:
        from_yaml(Path(file(tmp_path, text)))
    for part in ["settings.yml", "hint", *wanted]:
        assert part in str(e.value)


def test_all_problems_are_listed_at_once(tmp_path):
    with pytest.raises(DeployError) as e:
        from_yaml(Path(file(tmp_path, "model: {dim: big, deep: 1}\ntrain: {epochs: -1, lr: 7}\nfoo: 1")))
    assert "5 problems" in str(e.value)
    assert all(key in str(e.value) for key in ("model.dim", "model.deep", "train.epochs", "train.lr", "foo"))


def test_options_out_of_range_are_listed_with_their_keys():
    with pytest.raises(DeployError) as e:
        from_command_line(["--model.timesteps", "0", "--train.batch-size", "1"])
    assert "model.timesteps" in str(e.value) and "train.batch_size" in str(e.value)


@pytest.mark.parametrize("args", [["--model.timestep", "3"], ["--model.timesteps", "many"], ["--data.name", "mnist"], ["-c"]])
def test_wrong_usage_exits_with_2(args, capsys):
    with pytest.raises(SystemExit) as e:
        from_command_line(args)
    assert e.value.code == 2


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    for path, what in ((tmp_path / "none.yml", "no such"), (tmp_path, "cannot be read"), (tmp_path / "binary.yml", "not a text file")):
        with pytest.raises(DeployError, match=what):
            read_yaml(path)
    (tmp_path / "empty.yml").write_text("")
    assert read_yaml(tmp_path / "empty.yml") == {}


def test_saved_settings_are_plain_yaml(tmp_path):
    write_yaml(Config(), tmp_path / "c.yml")
    assert flat(yaml.safe_load((tmp_path / "c.yml").read_text())) == flat(Config().facts())
