"""From a net in PyTorch to one that deploys: train, export, import from SpikingJelly. All of it needs ``spikegate[train]``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from spikegate.api.net import Net, load
from spikegate.api.paths import as_path
from spikegate.command.extras import needs


def fit(settings: str | Path | dict[str, Any], output: str | Path | None = None, *,
        progress: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Train as ``spikegate train`` does, without a word; returns the run folder.

    Parameters
    ----------
    settings : a YAML file (see conf/), or the same as nested mappings: ``{"model": {"name": "stas"}, "train": {"epochs": 2}}``
    output : run folder to write; None: that of the settings, or the next free one under runs/
    progress : called after each epoch with its metrics: ``epoch``, ``phase``, ``loss``, ``train_accuracy``, ``validation_accuracy``,
        ``mean_tokens``, ``mean_timesteps``, ``seconds`` and more, as metrics.json keeps them

    Raises
    ------
    DeployError
        Settings that are wrong (all are listed), data that is not at hand, a folder in use, a package that is missing.
    """
    from spikegate.train.settings.options import from_mapping, read_yaml

    values, where = (settings, "settings") if isinstance(settings, dict) else (read_yaml(Path(settings)), str(settings))
    if output is not None:
        values = {**values, "output": str(output)}
    config = from_mapping(values, where)
    with needs("fit"):
        from rich.console import Console

        from spikegate.train.loop import fit as run

        return run(config, Console(quiet=True), progress)


def export(run: str | Path, output: str | Path | None = None, *, exit_drop: float | None = None, exit_loss: float | None = None,
           exit_risk: float | None = None, exit_confidence: float = 0.9) -> Net:
    """Export a trained run to `output` (RUN/export if left out) and open it.

    `exit_drop` calibrates the exit gate's margins: the share of the validation answers that may change by it; None: no margin.
    `exit_loss` does so by accuracy: as early as costs at most that share of the validation images, cross-validated.
    `exit_risk` does so with a guarantee: with probability `exit_confidence` at most that share of all answers changes.

    Raises
    ------
    DeployError
        No run, broken design rules, any difference between torch and the file, a package that is missing.
    """
    from spikegate.command.runs import find_run

    folder = find_run(as_path("run", run))
    with needs("export"):
        from spikegate.convert.exits import Rule
        from spikegate.convert.trained_run import write_export

        rule = Rule(exit_drop, exit_loss, exit_risk, exit_confidence)
        return load(write_export(folder, None if output is None else Path(output), rule).folder)


def import_spikingjelly(
    model: Any, output: str | Path, data: str | dict[str, Any] = "digits", *, timesteps: int | None = None,
    form: Literal["image", "sequence", "step"] | None = None, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,),
    epochs: int = 0,
) -> Net:
    """Import a SpikingJelly model in evaluation form: norms folded, 8-bit weights, 12-bit decays, the image's convolutions on the host.

    Parameters
    ----------
    model : torch.nn.Module
    output : run folder; the export goes to output/export, the report with accuracies and layers to output/import.json
    data : data set by name, or as a mapping with name and path; validation images calibrate, test images score
    timesteps : T, where the model does not fix it itself
    form : what one call takes: an image, a sequence [T, B, C, H, W] or one timestep; None: it is tried
    mean, std : the model was trained on (pixel / largest pixel - mean) / std; one number, or one for each channel
    epochs : of fine-tuning in integer form

    Raises
    ------
    DeployError
        Layers that the chip has no form for (all are named), data that does not fit, a package that is missing.
    """
    with needs("import_spikingjelly"):
        from spikegate.convert.spikingjelly.importing import Pixels, import_model

        source = {"name": data, "path": None} if isinstance(data, str) else data
        return load(import_model(model, Path(output), source, timesteps=timesteps, form=form, pixels=Pixels(mean, std), epochs=epochs,
                                 quiet=True).folder)  # fmt: skip
