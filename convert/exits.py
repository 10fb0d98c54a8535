"""Exit margins by any of three rules, for a net that is being exported or for an export that is there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command import cli
from spikegate.command.runs import find_export, run_of
from spikegate.convert.calibrate import ENOUGH, calibrate_margin, with_margin, with_shifts
from spikegate.convert.exit_loss import WithinLoss, margin_within
from spikegate.convert.guarantee import CONFIDENCE, Guarantee, guaranteed_margin
from spikegate.convert.rewriting import write_form
from spikegate.data.shipped import open_images
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.exit_gate import NEVER


@dataclass(frozen=True)
class Rule:
    """By what the margins are chosen: changed answers (`drop`), lost accuracy (`loss`), or a guarantee (`risk`, `confidence`).

    Raises
    ------
    DeployError
        Two of them.
    """

    drop: float | None = None
    loss: float | None = None
    risk: float | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        given = self.given
        if len(given) > 1:
            raise DeployError(given[-1], f"and {given[0]} are two ways to calibrate the same gate", "give one of them")

    @property
    def given(self) -> list[str]:
        """Options that were given; none: no margins."""
        return [f"--exit-{k}" for k in ("drop", "loss", "risk") if getattr(self, k) is not None]


@dataclass(frozen=True)
class Calibrated:
    """Margins int64 [T], validation images that they come from, whether shifted copies joined them, and by which rule: the share of
    changed answers, or what the other two found."""

    margin: np.ndarray
    images: int
    shifted: bool
    drop: float | None = None
    within: WithinLoss | None = None
    guarantee: Guarantee | None = None

    @property
    def lines(self) -> list[str]:
        """What a user is told."""
        margins = [int(m) for m in self.margin[:-1]]
        shown = [m if m < NEVER else "never" for m in margins]
        count = f"{self.images:,}" + (" (with shifted copies)" if self.shifted else "")
        found = [f"exit margins at timesteps 1..{len(margins)}: [{', '.join(map(str, shown))}], calibrated on {count} validation images"]
        if self.within is not None:
            w = self.within
            found.append(f"accuracy on validation images that did not shape the margins: {w.accuracy:.2%} after {w.timesteps:.2f} "
                         f"timesteps, {w.accuracy_before:.2%} at full length")  # fmt: skip
        if self.guarantee is not None:
            g = self.guarantee
            found.append(f"guarantee: with confidence {g.confidence:g}, at most {g.risk:.2%} of the answers change "
                         f"({g.changed} of the {g.tested} validation images that tested the margins did)")  # fmt: skip
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of a manifest."""
        return {
            "exit_drop": self.drop, "exit_loss": None if self.within is None else self.within.facts,
            "exit_guarantee": None if self.guarantee is None else self.guarantee.facts,
        }  # fmt: skip


NONE = {"exit_drop": None, "exit_loss": None, "exit_guarantee": None}  # fields of a manifest without margins


def calibrated(graph: Graph, encode: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, rule: Rule) -> Calibrated:
    """Margins of a graph's exit gate by a rule, from validation images [N, ...], labels [N].

    Where answers that change are counted, few images get shifted copies beside them.

    Raises
    ------
    DeployError
        A net without exit gate, a share that is none, too few images.
    """
    if rule.risk is not None:
        guarantee = guaranteed_margin(graph, encode(images), rule.risk, rule.confidence)
        return Calibrated(guarantee.margin, len(images), False, guarantee=guarantee)
    if rule.loss is not None:
        within = margin_within(graph, encode(images), labels, rule.loss)
        return Calibrated(within.margin, len(images), False, within=within)
    whole = images if len(images) >= ENOUGH else with_shifts(images)
    drop = rule.drop or 0.0
    return Calibrated(calibrate_margin(graph, encode(whole), drop), len(whole), len(whole) > len(images), drop)


def rewrite(run: Path | None, output: Path | None, rule: Rule, *, data_path: Path | None = None, as_json: bool = False) -> Path:
    """Write an export with other exit margins to `output` (RUN/exits if left out), without training and without torch; returns the folder.

    Raises
    ------
    DeployError
        No export, no validation images at hand, what `calibrated` refuses.
    """
    export = find_export(run)
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    host = open_host(export, graph, manifest)
    opened = open_images(export, manifest, "validation", data_path)
    with cli.errors.status("margins"):
        found = calibrated(graph, host.encode, opened.x, opened.y, rule)
    folder = output or run_of(export) / "exits"
    write_form(export, folder, with_margin(graph, found.margin), host.encode(opened.x[:8]), name=f"{manifest['name']}-exits", halting=True,
               **found.facts)  # fmt: skip
    if as_json:
        cli.print_json({"folder": str(folder), "margins": found.margin[:-1].tolist(), "images": found.images, **found.facts})
        return folder
    for line in found.lines:
        cli.console.print(line, soft_wrap=True, markup=False)
    cli.console.print(f"wrote {folder}; next: python deploy/run.py {folder}", soft_wrap=True, markup=False)
    return folder
