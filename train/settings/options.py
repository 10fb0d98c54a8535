"""Settings from files and the command line: data set's defaults < resumed run < YAML < dotted options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from pydantic import BaseModel, Field, create_model

from spikegate.command import cli
from spikegate.errors import DeployError
from spikegate.files import atomic
from spikegate.reading.plain_yaml import PlainYaml
from spikegate.train.settings.config import DATASETS, LATER, MODELS, Config, check, defaults, merge
from spikegate.train.settings.runfolder import CONFIG, find_unfinished

DESCRIPTION = """Train a spiking vision transformer. Every setting of the YAML file is a dotted option, too.

Example: python train/run.py -c conf/fashion-stas.yml --model.timesteps 2 --train.epochs 4"""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a DeployError names line and column of what cannot be read."""
    hint = "start from a file in conf/, or from the config.yml of a run"
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), PlainYaml)
    except FileNotFoundError:
        raise DeployError(str(path), "no such settings file", hint) from None
    except UnicodeDecodeError:
        raise DeployError(str(path), "not a text file", hint) from None
    except OSError as e:
        raise DeployError(str(path), f"cannot be read ({e.strerror})", hint) from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        at = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise DeployError(f"{path}{at}", f"not YAML ({getattr(e, 'problem', None) or e})", "mind indentation, colons and quotes") from None
    except RecursionError:
        raise DeployError(str(path), "nested too deeply", hint) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise DeployError(str(path), f"must be a mapping with data:, model:, train:, not a {type(values).__name__}", hint)
    return values


def from_yaml(path: Path) -> Config:
    """Settings of a file on top of its data set's defaults."""
    return from_mapping(read_yaml(path), str(path))


def of_run(run: Path) -> Config:
    """Settings of a run folder. What it does not name came later than the run: there it holds what was so before."""
    path = run / CONFIG
    return from_mapping(merge(nested(LATER), read_yaml(path)), str(path))


def nested(options: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value as nested mappings."""
    out: dict[str, Any] = {}
    for key, value in options.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        out = merge(out, value)
    return out


def from_mapping(values: dict[str, Any], where: str = "settings") -> Config:
    """Settings as nested mappings, on top of their data set's and model's defaults; a DeployError under `where` lists what is wrong."""
    return check(merge(_defaults(values), values), where)


def write_yaml(config: Config, path: Path) -> None:
    """Write all settings but `output` and `resume`, atomically."""
    with atomic(path) as part:
        part.write_text(yaml.safe_dump(config.facts(), sort_keys=False), encoding="utf-8")


def from_command_line(args: list[str]) -> Config:
    """Settings of one command. Wrong usage exits with 2, a wrong value is a DeployError."""
    known, rest = _early(args)
    base: dict[str, Any] = {}
    if known.resume is not None and known.resume != "False":
        known.resume = str(find_unfinished(None if known.resume == "True" else Path(known.resume)))
        base = of_run(Path(known.resume)).facts()
        rest += ["--resume", known.resume]
    if known.config is not None:
        values = read_yaml(Path(known.config))
        check(merge(_defaults(values), values), known.config)
        base = merge(base, values)
        rest += ["--config", known.config]
    for key, value, names in (("data", known.data, DATASETS), ("model", known.model, MODELS)):
        if value is not None:
            if value in names:
                base = merge(base, {key: {"name": value}})
            rest += [f"--{key}.name", value]
    base = merge(_defaults(base), base)
    config = Annotated[Path | None, tyro.conf.arg(aliases=["-c"])], Field(None, description="YAML file with settings, see conf/")
    options = _lenient(Config, {"config": config})
    chosen = cli.parse(options, DESCRIPTION, rest, options.model_validate(base)).model_dump(exclude={"config"})
    return check(chosen, "command line")


def _early(args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that decide what the other options' defaults are, and all other arguments."""
    parser = argparse.ArgumentParser(prog="train/run.py", add_help=False, allow_abbrev=False, usage="train/run.py [-h] [OPTIONS]")
    parser.add_argument("-c", "--config")
    parser.add_argument("--data.name", dest="data")
    parser.add_argument("--model.name", dest="model")
    parser.add_argument("--resume", nargs="?", const="True")
    return parser.parse_known_args(args)


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    def named(section: str, otherwise: str) -> str:
        given = values.get(section)
        name = given.get("name", otherwise) if isinstance(given, dict) else otherwise
        return name if isinstance(name, str) else otherwise

    return defaults(named("data", "digits"), named("model", "stas"))


def _lenient(model: type[BaseModel], more: dict[str, Any] | None = None) -> Any:
    """The same fields without ranges, so that the command line's ranges are reported as the YAML file's are: all, with dotted keys."""
    fields: dict[str, Any] = dict(more or {})
    for name, info in model.model_fields.items():
        kind, arguments = info.annotation, [m for m in info.metadata if type(m).__module__.startswith("tyro")]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = _lenient(kind)
            fields[name] = (inner, Field(default_factory=inner, description=info.description))
        elif arguments:
            marked: Any = (kind, *arguments)
            fields[name] = (Annotated[marked], Field(info.default, description=info.description))
        else:
            fields[name] = (kind, Field(info.default, description=info.description))
    return create_model(model.__name__, **fields)
