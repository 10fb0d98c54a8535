"""What --timing, --schedule, --mapping and --protocol mean together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikegate.engine.chip_time import schedule as chip
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.graph.ir import DeployError, Graph


@dataclass(frozen=True)
class Timing:
    """`schedule` None: algorithmic timing, one step per timestep. Else one step is one chip step."""

    schedule: Schedule | None
    mapping: str
    protocol: str

    @property
    def gates(self) -> str:
        """Where the gates are: "inside" a process that holds other ops, too, or in "processes" of their own."""
        return "inside" if self.mapping == "chip" else "processes"

    @property
    def named(self) -> str:
        """The mapping in words."""
        return f"{self.mapping} mapping" + (", gates inside" if self.gates == "inside" else "")

    @property
    def options(self) -> dict[str, Any]:
        """For `targets.Target`."""
        return vars(self)


def timing_of(graph: Graph, timing: str = "algorithmic", schedule: str = "auto", mapping: str | None = None,
              protocol: str | None = None) -> Timing:
    """The timing that the options ask for; what is left out fits it.

    Raises
    ------
    DeployError
        Options that do not go together, or `pipelined` for a net that cannot be (see `spikegate.engine.chip_time.schedule`).
    """
    if timing == "algorithmic":
        if schedule != "auto":
            raise DeployError(f"--schedule {schedule}", "algorithmic timing has no chip steps to schedule", "add --timing loihi")
        return Timing(None, mapping or "block", protocol or "async")
    if protocol == "async":
        raise DeployError("--protocol async", "its processes take no chip steps together", "leave it out with --timing loihi")
    wanted = schedule
    if wanted == "auto":
        wanted = "pipelined" if chip.pipeline_safe(graph) else "wait"
    return Timing(chip.schedule(graph, wanted), mapping or "op", "loihi")


def described(facts: dict[str, Any]) -> str:
    """A schedule's facts in a line."""
    lines = ""
    if facts["delay_cells"]:
        held = f"{facts['delay_cells']:,} values, {facts['delay_bits']:,} bits"
        lines = f"; delay lines of up to {facts['delay_steps']} chip steps hold {held}"
    apart = "1 chip step" if facts["interval"] == 1 else f"{facts['interval']} chip steps"
    return f"{facts['schedule']}: a timestep every {apart}, {facts['depth']} chip steps deep{lines}"
