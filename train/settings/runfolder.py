"""Where a training run writes, and which run it may go on with."""

from __future__ import annotations

from pathlib import Path

from spikegate.command.runs import ROOT
from spikegate.errors import DeployError

CONFIG, WEIGHTS, CHECKPOINT, METRICS = "config.yml", "model.safetensors", "last.ckpt", "metrics.json"


def claim(output: Path | None, stem: str, root: Path = ROOT) -> Path:
    """Make the folder of a new run: `output`, or `root`/<stem>-<k> with the first free k.

    A folder that holds a run, finished or not, is refused.
    """
    try:
        if output is None:
            return _next(stem, root)
        if any((output / name).exists() for name in (CONFIG, WEIGHTS, CHECKPOINT)):
            finished = (output / WEIGHTS).exists()
            go_on = "" if finished else f"go on with it: --resume {output}; or "
            raise DeployError(
                str(output), f"already holds {'a finished' if finished else 'an unfinished'} run, which is not overwritten",
                f"{go_on}choose another folder with --output, or remove this one first",
            )
        output.mkdir(parents=True, exist_ok=True)
        return output
    except OSError as e:
        where, hint = str(output or root), "choose a writable folder with --output"
        raise DeployError(where, f"cannot be made a run folder ({e.strerror})", hint) from None


def _next(stem: str, root: Path) -> Path:
    k = 1
    while True:
        path = root / f"{stem}-{k}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            k += 1


def find_unfinished(given: Path | None, root: Path = ROOT) -> Path:
    """The unfinished run named (its folder or a file in it), or the newest one under `root`."""
    if given is None:
        found = [p for p in root.iterdir() if _unfinished(p)] if root.is_dir() else []
        if not found:
            raise DeployError("--resume", f"no unfinished run in {root}/", "name one with --resume runs/<name>, or start a new run")
        return max(found, key=_age)
    folder = given.parent if given.is_file() else given
    if not folder.is_dir():
        raise DeployError(str(given), "no such run to resume", "give a folder that train/run.py wrote, or leave it out for the newest")
    if (folder / WEIGHTS).exists():
        raise DeployError(str(folder), "this run is finished, nothing is left to resume", "start a new run without --resume")
    if not (folder / CONFIG).is_file():
        raise DeployError(str(folder), f"holds no run to resume: {CONFIG} is missing", "give a folder that train/run.py wrote")
    return folder


def _unfinished(path: Path) -> bool:
    return (path / CONFIG).is_file() and not (path / WEIGHTS).exists()


def _age(path: Path) -> float:
    last = path / CHECKPOINT
    return (last if last.is_file() else path / CONFIG).stat().st_mtime
