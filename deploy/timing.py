"""What --timing, --schedule, --mapping and --protocol mean together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert import schedule as chip
from convert.ir import DeployError, Graph
from convert.schedule import Schedule

if TYPE_CHECKING:
    from deploy import compare, run


@dataclass(frozen=True)
class Timing:
    """`schedule` None: algorithmic timing, one step per timestep. Else one step is one chip step."""

    schedule: Schedule | None
    mapping: str
    protocol: str

    @property
    def options(self) -> dict[str, Any]:
        """For `targets.Target`."""
        return vars(self)


def timing_of(graph: Graph, args: run.Args | compare.Args) -> Timing:
    """The timing that the options ask for; what is left out fits it.

    Raises
    ------
    DeployError
        Options that do not go together, or `pipelined` for a net that cannot be (see `convert.schedule`).
    """
    if args.timing == "algorithmic":
        if args.schedule != "auto":
            raise DeployError(f"--schedule {args.schedule}", "algorithmic timing has no chip steps to schedule", "add --timing loihi")
        return Timing(None, args.mapping or "chip", args.protocol or "async")
    if args.protocol == "async":
        raise DeployError("--protocol async", "its processes take no chip steps together", "leave it out with --timing loihi")
    wanted = args.schedule
    if wanted == "auto":
        wanted = "pipelined" if chip.pipeline_safe(graph) else "wait"
    return Timing(chip.schedule(graph, wanted), args.mapping or "op", "loihi")


def described(facts: dict[str, Any]) -> str:
    """A schedule's facts in a line."""
    lines = ""
    if facts["delay_cells"]:
        held = f"{facts['delay_cells']:,} values, {facts['delay_bits']:,} bits"
        lines = f"; delay lines of up to {facts['delay_steps']} chip steps hold {held}"
    apart = "1 chip step" if facts["interval"] == 1 else f"{facts['interval']} chip steps"
    return f"{facts['schedule']}: a timestep every {apart}, {facts['depth']} chip steps deep{lines}"
