"""Where the artefacts of a run lie: runs/<name>/{config.yml, model.safetensors, export/, deploy/, report/}."""

from __future__ import annotations

from pathlib import Path

from spikegate.errors import DeployError

ROOT = Path("runs")
ZOO = Path(__file__).parents[1] / "zoo"  # trained and exported nets that come with the package (linked from the repository's zoo/)
EXPORT_FILES = ("model.net", "manifest.json")  # and embedding.onnx, unless the net takes events


def zoo_names() -> list[str]:
    """Names of the nets of the zoo, sorted."""
    return sorted(p.name for p in ZOO.iterdir() if is_export(p)) if ZOO.is_dir() else []


def is_run(path: Path) -> bool:
    return (path / "config.yml").is_file() and (path / "model.safetensors").is_file()


def is_export(path: Path) -> bool:
    return all((path / name).is_file() for name in EXPORT_FILES)


def has_export(given: Path) -> bool:
    """Whether `find_export` would find one there; a name of the zoo counts, known or not."""
    return str(given).startswith("zoo:") or is_export(given) or is_export(given / "export")


def find_run(given: Path | None, root: Path = ROOT) -> Path:
    """The run named, or the newest one under `root`."""
    if given is not None:
        if is_run(given):
            return given
        if not given.exists():
            raise DeployError(str(given), "no such run", "give a folder that train/run.py wrote, or leave it out for the newest")
        missing = [n for n in ("config.yml", "model.safetensors") if not (given / n).is_file()]
        raise DeployError(
            str(given),
            f"not a finished run: {' and '.join(missing)} missing",
            "train it with train/run.py (--resume goes on with an unfinished one)",
        )
    runs = [p for p in root.iterdir() if is_run(p)] if root.is_dir() else []
    if not runs:
        raise DeployError(str(root), "no finished run here", "train one first: python train/run.py")
    return max(runs, key=lambda p: (p / "model.safetensors").stat().st_mtime)


def find_weights(given: Path) -> Path:
    """The folder with the settings and weights of a run, or of a net of the zoo: to read, not to write into."""
    return _in_zoo(given) or find_run(given)


def _in_zoo(given: Path) -> Path | None:
    """The folder of a net named ``zoo:<name>``; None for any other path."""
    if not str(given).startswith("zoo:"):
        return None
    known, name = zoo_names(), str(given).removeprefix("zoo:")
    if name not in known:
        raise DeployError(str(given), "no such net in the zoo", f"there are {', '.join(known) or 'none'}")
    return ZOO / name


def find_export(given: Path | None, root: Path = ROOT) -> Path:
    """The export folder named (or the one inside the run named, or ``zoo:<name>``), or the newest one under `root`."""
    if given is not None:
        if (kept := _in_zoo(given)) is not None:
            return kept
        for path in (given, given / "export"):
            if is_export(path):
                return path
        if not given.exists():
            raise DeployError(str(given), "no such export", "give a folder that convert/export.py wrote, or leave it out for the newest")
        raise DeployError(str(given), f"no export here ({', '.join(EXPORT_FILES)})", f"write one: python convert/export.py {given}")
    exports = [p / "export" for p in root.iterdir() if is_export(p / "export")] if root.is_dir() else []
    if not exports:
        raise DeployError(str(root), "no exported net here", "export one first: python convert/export.py")
    return max(exports, key=lambda p: (p / "manifest.json").stat().st_mtime)


def in_zoo(export: Path) -> bool:
    return export.resolve().parent == ZOO.resolve()


def named(export: Path) -> str:
    """How a command line names an export: its run, or ``zoo:<name>``."""
    return f"zoo:{export.name}" if in_zoo(export) else str(run_of(export))


def run_of(export: Path, root: Path = ROOT) -> Path:
    """The folder that holds deploy/ and report/ for an export: its run; for a net of the zoo, a folder under `root`."""
    if in_zoo(export):
        return root / f"zoo-{export.name}"
    return export.parent if export.name == "export" else export


def trained_in(export: Path) -> Path:
    """The folder with an export's trained weights: its run, or the export itself where both lie together (zoo)."""
    return export if is_run(export) else export.parent
