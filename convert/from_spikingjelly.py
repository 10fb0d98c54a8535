"""python convert/from_spikingjelly.py FILE.py:function: import a SpikingJelly model as an export that every other command takes."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not convert/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli
from spikegate.command.refusals import reported
from spikegate.errors import DeployError


@dataclass
class Args:
    """Import a model of SpikingJelly: norms folded, 8-bit weights, 12-bit decays, convolutions of the image on the host."""

    output: Path
    """Run folder; the export goes into its folder export/, the report to import.json."""
    model: Annotated[str | None, tyro.conf.Positional] = None
    """FILE.py:function, a function without arguments that returns the model (the file is run: give only one that you trust); or
    "published": the net of Spikformer, QKFormer, STMixer (CIFAR) or SEW-ResNet that --weights belong to by their key names."""
    weights: Path | None = None
    """State dict, .safetensors or torch's (read with weights_only=True); left out, the function's own weights."""
    data: str = "digits"
    """Data set: digits, fashion, cifar10, cifar100, npz, folder; of events: events, nmnist, dvsgesture, cifar10dvs.
    Validation images calibrate, test images score."""
    data_path: Path | None = None
    """Local copy of the data."""
    timesteps: int | None = None
    """T, where the model does not fix it itself; of published nets 4 if left out."""
    heads: int | None = None
    """Attention heads of a published net, which its weights do not tell (STMixer's do); 12 for Spikformer, 8 for QKFormer if left out."""
    repaired: bool = False
    """Import QKFormer with its pools after the neurons and without its leak between samples: another net, to be fine-tuned."""
    form: Literal["image", "sequence", "step"] | None = None
    """What one call takes: an image, a sequence [T, B, C, H, W], or one timestep. Left out, it is tried."""
    mean: tuple[float, ...] = (0.0,)
    """The model was trained on (pixel / levels - mean) / std."""
    std: tuple[float, ...] = (1.0,)
    """See mean."""
    epochs: int = 0
    """Epochs of fine-tuning in integer form."""
    rate: float = 0.3
    """Step of the fine-tuning, in weight mantissas."""
    test_images: int | None = None
    """Test images that are scored, spread evenly; left out, all of them, fewer where the net is large."""
    json: bool = False
    """Print the report as JSON only."""


def main() -> None:
    """Parse the command line and import."""
    args = cli.parse(Args, "Import a SpikingJelly model.")
    if args.model is None:
        cli.errors.print("error: no model named\n  hint: give FILE.py:function, or published with --weights", style="red", markup=False)
        sys.exit(2)
    from spikegate.convert.spikingjelly.importing import Pixels, import_model
    from spikegate.convert.spikingjelly.loading import load_model, read_state

    with reported(args.json):
        if args.model == "published":
            from spikegate.convert.spikingjelly.published import build

            if args.weights is None:
                raise DeployError("--weights", "a published net needs its state dict", "give the file that its authors released")
            model = build(read_state(args.weights), args.heads, args.timesteps or 4, args.repaired)
        else:
            model = load_model(args.model, args.weights)
        data = {"name": args.data, "path": str(args.data_path) if args.data_path else None}
        done = import_model(
            model, args.output, data, timesteps=args.timesteps, form=args.form, pixels=Pixels(args.mean, args.std), epochs=args.epochs,
            rate=args.rate, quiet=args.json, test_images=args.test_images,
        )  # fmt: skip
    if args.json:
        cli.print_json({"export": str(done.folder), "float_accuracy": done.float_accuracy, "int_accuracy": done.int_accuracy,
                        "layers": done.layers, "validation_accuracy": done.tuned})


if __name__ == "__main__":
    cli.run(main)
