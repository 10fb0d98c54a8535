"""Time of every chip step and of an inference: a sum model, and a bound that is the largest of named terms.

*sum*: a core works through its accumulates, its neurons and its spikes one after the other; a step takes the slowest core's time plus the
barrier (SANA-FE calls this form 'simple'). *bound*: no step is shorter than its largest single term (accumulates, neurons, weight memory,
busiest link, barrier); the form of Timcheck et al. (arXiv 2601.10035), the coefficients are the chip profile's, not theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.noc import route
from spikegate.hw_sim.chip.placement import Placement

TERMS = ("synop", "neuron", "memory", "link", "barrier")
SCHEDULES = ("auto", "pipelined", "wait")
SAMPLES_AT_A_TIME = 512
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, eq=False)
class Latency:
    """Times in ns; `steps` are chip steps.

    Attributes
    ----------
    schedule : "pipelined" (a timestep starts every `Workload.interval` chip steps, 1 where nothing goes back)
        or "wait" (a timestep runs through before the next starts)
    sum_ns, bound_ns : float64 [N], from a sample's first chip step to its last
    interval_ns : float64 [N], sum model; time between samples that follow at once (pipelined: the pipeline is full)
    steps : int64 [N], chip steps of a sample
    step_ns : float64 [chip steps], mean over the samples that run it, sum model
    bound_by : for each chip step the term that bounds it in most samples
    terms_ns : term -> float64 [N], sum over a sample's steps of each term alone
    slowest : group that bounds most steps of the sum model
    """

    schedule: str
    sum_ns: np.ndarray
    bound_ns: np.ndarray
    interval_ns: np.ndarray
    steps: np.ndarray
    step_ns: np.ndarray
    bound_by: list[str]
    terms_ns: dict[str, np.ndarray]
    slowest: str

    @property
    def bottleneck(self) -> str:
        """The term that is largest over all samples and steps."""
        return max(TERMS, key=lambda n: float(self.terms_ns[n].sum()))

    def to_json(self) -> dict[str, Any]:
        """Seconds: means and percentiles over samples."""
        def spread(ns: np.ndarray) -> dict[str, float]:
            ends = {f"p{p}": float(v) * 1e-9 for p, v in zip(PERCENTILES, np.percentile(ns, PERCENTILES))}
            return {"mean": float(ns.mean()) * 1e-9, **ends}

        return {
            "schedule": self.schedule, "latency_s": spread(self.sum_ns), "latency_bound_s": spread(self.bound_ns),
            "interval_s": spread(self.interval_ns), "chip_steps": float(self.steps.mean()),
            "execution_time_per_step_s": (self.step_ns * 1e-9).tolist(), "bound_by": self.bound_by, "bottleneck": self.bottleneck,
            "slowest_op": self.slowest, "terms_s": {n: float(v.mean()) * 1e-9 for n, v in self.terms_ns.items()},
        }


def schedule_for(mapping: Mapping, wanted: str) -> str:
    """The schedule to use; "auto" is pipelined where halting allows it.

    Raises
    ------
    DeployError
        Unknown schedule, or pipelined asked for where a decision of one timestep is needed at the start of the next.
    """
    safe = mapping.work.pipeline_safe
    if wanted == "auto":
        return "pipelined" if safe else "wait"
    if wanted not in SCHEDULES:
        raise DeployError("--schedule", f"no schedule {wanted!r}", f"use one of {', '.join(SCHEDULES)}")
    if wanted == "pipelined" and not safe:
        hint = "use --schedule wait, or train with the rectangle order of halting"
        what = "a decision of one timestep is needed at the start of the next"
        if mapping.work.exits:
            what, hint = "an exit comes after the timesteps that it would save have begun", "use --schedule wait, or export without exits"
        raise DeployError("--schedule", f"{what}: this net cannot be pipelined", hint)
    return wanted


def latency(mapping: Mapping, placement: Placement, schedule: str = "auto") -> Latency:
    """Times of all samples of a mapping's workload; see `schedule_for` for what is refused."""
    schedule = schedule_for(mapping, schedule)
    work, chip = mapping.work, mapping.chip
    barrier = chip.ns("barrier") + (chip.ns("chip_barrier") if mapping.chips > 1 else 0.0)
    idle = float(mapping.neurons.max()) * chip.ns("neuron_inactive")  # every mapped neuron is visited, whoever has work
    parts = [_Group(mapping, i) for i in range(len(work.groups))]
    links = np.array([route(placement.mesh, placement.slots, mapping.traffic[t]).links.max() for t in range(work.timesteps)])
    n, depth = work.samples, work.depth
    apart = work.interval
    steps = (work.exit_step - 1) * apart + depth if schedule == "pipelined" else work.exit_step * depth
    longest = int(steps.max())
    out = {k: np.zeros(n) for k in ("sum", "bound", "interval")}
    terms = {k: np.zeros(n) for k in TERMS}
    total, ran, votes = np.zeros(longest), np.zeros(longest), np.zeros((longest, len(TERMS)), np.int64)
    slow = np.zeros(len(parts), np.int64)
    for start in range(0, n, SAMPLES_AT_A_TIME):
        rows = np.arange(start, min(n, start + SAMPLES_AT_A_TIME))
        times = [p.times(rows) for p in parts]
        relative = _relative(work.count("spike_out"), rows)
        for k in range(longest):
            running = steps[rows] > k
            if not running.any():
                continue
            busy = _busy(schedule, k, depth, [g.level for g in work.groups], work.timesteps, apart)
            step, kind, who = _step(times, busy, idle, barrier, chip.ns("link_packet") * links, relative, len(rows))
            out["sum"][rows] += step * running
            for j, term in enumerate(TERMS):
                terms[term][rows] += kind[j] * running
            out["bound"][rows] += kind.max(0) * running
            total[k] += (step * running).sum()
            ran[k] += running.sum()
            votes[k] += np.bincount(kind.argmax(0)[running], minlength=len(TERMS))
            slow += np.bincount(who[running & (who >= 0)], minlength=len(parts))
        if schedule == "pipelined":
            levels = [g.level for g in work.groups]
            out["interval"][rows] = _interval(times, levels, work.exit_step[rows], work.periods[rows], idle, barrier, apart)
    interval = out["interval"] if schedule == "pipelined" else out["sum"]
    bound_by = [TERMS[int(v.argmax())] for v in votes]
    return Latency(schedule, out["sum"], out["bound"], interval, steps, total / np.maximum(ran, 1), bound_by, terms,
                   work.groups[int(slow.argmax())].name)


class _Group:
    """One group's largest core times per event."""

    def __init__(self, mapping: Mapping, i: int) -> None:
        work, chip = mapping.work, mapping.chip
        self.i, self.mapping = i, mapping
        steps = range(work.timesteps)
        self.share = {c: np.stack([mapping.shares(i, c, t) for t in steps]) for c in ("synop", "spike_out")}
        self.neurons = mapping.cuts[i].neurons.astype(np.float64)
        self.synop, self.memory, self.spike = chip.ns("synop"), chip.ns("memory_word"), chip.ns("spike_out")
        self.idle, self.fire = chip.ns("neuron_inactive"), chip.ns("neuron_active") - chip.ns("neuron_inactive")

    def times(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(sum model, synop, neuron, memory) ns of the slowest core, each [rows, T]."""
        work = self.mapping.work
        events = (work.count("synop") + work.count("attention_ac"))[rows, :, self.i].astype(np.float64)
        spikes = work.count("spike_out")[rows, :, self.i].astype(np.float64)
        synop = events[..., None] * self.share["synop"]
        fired = np.minimum(spikes[..., None] * self.share["spike_out"], self.neurons)
        neuron = self.neurons * self.idle + fired * self.fire
        whole = synop * (self.synop + self.memory) + neuron + spikes[..., None] * self.share["spike_out"] * self.spike
        return whole.max(2), synop.max(2) * self.synop, neuron.max(2), synop.max(2) * self.memory


def _busy(schedule: str, k: int, depth: int, levels: list[int], timesteps: int, apart: int) -> list[tuple[int, int]]:
    """(group, timestep from 0) of those that have work in chip step k."""
    if schedule == "pipelined":
        since = [(i, k - level + 1) for i, level in enumerate(levels)]
        return [(i, s // apart) for i, s in since if s % apart == 0 and 0 <= s // apart < timesteps]
    t, level_now = divmod(k, depth)
    return [(i, t) for i, level in enumerate(levels) if level == level_now + 1]


def _step(times: list, busy: list[tuple[int, int]], idle: float, barrier: float, link: np.ndarray, relative: np.ndarray,
          rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sum model [rows], terms [TERMS, rows], slowest group [rows], -1 where idle neurons are slowest) of one chip step."""
    slowest, who = np.full(rows, idle), np.full(rows, -1)
    kinds = np.zeros((len(TERMS), rows))
    kinds[1], kinds[4] = idle, barrier
    for i, t in busy:
        whole, synop, neuron, memory = (v[:, t] for v in times[i])
        who = np.where(whole > slowest, i, who)
        slowest = np.maximum(slowest, whole)
        for j, v in ((0, synop), (1, neuron), (2, memory)):
            kinds[j] = np.maximum(kinds[j], v)
        kinds[3] = np.maximum(kinds[3], link[t] * relative[:, t])
    return slowest + barrier, kinds, who


def _interval(times: list, levels: list[int], exits: np.ndarray, periods: np.ndarray, idle: float, barrier: float,
              apart: int) -> np.ndarray:
    """Time between samples [rows] in a full pipeline: each chip step holds a timestep of every level, taken from the same sample.

    Timesteps that have begun when a sample ends early count as idle: no token lives in them.
    """
    out = np.zeros(len(exits))
    for last, period in np.unique(np.stack([exits, periods], 1), axis=0):
        rows = (exits == last) & (periods == period)
        for k in range(period):
            step = np.full(int(rows.sum()), idle)
            for i, level in enumerate(levels):
                t, rest = divmod((k - level + 1) % period, apart)
                if rest == 0 and t < last:
                    step = np.maximum(step, times[i][0][rows, t])
            out[rows] += step + barrier
    return out


def _relative(spikes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Each sample's spikes of a timestep against the mean, float64 [rows, T]; scales the link's load, known as a mean only."""
    sums = spikes.sum(2)
    average = sums.mean(0)
    return sums[rows] / np.where(average > 0, average, 1)
