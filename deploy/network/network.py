"""A graph as a running network of Lava processes: compiled and started once, used for any number of runs, always stopped."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from spikegate.deploy.network import chip_mapping, feeding
from spikegate.deploy.network import mapping as maps
from spikegate.deploy.network.chip_leaf import ChipInjectorLeaf, ChipStageLeaf
from spikegate.deploy.network.chip_reports import ChipCollector
from spikegate.deploy.network.feeding import SourceLeaf, WholeLeaf
from spikegate.deploy.network.leaf import AHEAD, InjectorLeaf, Leaf, StageLeaf
from spikegate.deploy.network.message_log import Messages
from spikegate.deploy.network.messages import dtype_of
from spikegate.deploy.network.reports import Collector, enlarge
from spikegate.deploy.network.staging import usable_cores
from spikegate.deploy.network.starting import PROTOCOLS, Running, named_limits
from spikegate.deploy.network.watchdog import IDLE, Pulse, Pulses
from spikegate.deploy.network.watching import Watch
from spikegate.engine.arguments import checked
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.injector import fit, free_running, span_of
from spikegate.engine.integer import warm
from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError, Graph

PATIENCE_S = 7.0  # without a sign of life from anyone for so long, the network hangs
GROUPS = 2  # sample groups in flight: one is computed while another waits for its decision
Common = tuple[maps.Plan, int, Pulse, Connection]  # arguments of every leaf, besides the graph
CHANNEL = GROUPS * AHEAD  # messages that a channel holds: as many as can be under way
_BUILDING = threading.Lock()  # Lava keeps lists for the whole program


class Network:
    """Context manager around the Lava processes of a graph. Threads may share it: their runs take turns.

    Parameters
    ----------
    graph : the integer graph
    mapping : "op", "block" or "chip", see `mapping.partition`
    batch : samples of a group, each in its own slot; `GROUPS` groups are in flight, one where a single process holds the net
    protocol : "async" (each process at its own pace, all runs in one Lava step) or "loihi" (all in step, one Lava step for each
        timestep of a group)
    patience_s : after so many seconds in which nobody works, or so much processor time of one process, without any progress, the process
        that the others wait for is named and all is stopped
    schedule : None for algorithmic timing, one Lava step per timestep; else one Lava step is one chip step of this schedule
    stages : most processes that mapping "chip" cuts the net into, and "block" its blocks; None: one for each core, but no more than
        there are groups where one timestep decides about the next
    trace : keep every message of a run in `messages`

    Raises
    ------
    DeployError
        Naming the process that died, failed or hangs. The network is then closed and nothing of it is left.
    """

    def __init__(self, graph: Graph, mapping: str = "block", batch: int = 8, protocol: str = "async", patience_s: float = PATIENCE_S,
                 schedule: Schedule | None = None, stages: int | None = None, trace: bool = False) -> None:
        if protocol not in PROTOCOLS:
            raise DeployError("protocol", f"{protocol!r} is unknown", f"use one of {', '.join(PROTOCOLS)}")
        if batch < 1:
            raise DeployError("batch", f"{batch} is no number of slots", "use 1 or more")
        from spikegate.deploy.lava_processes import stage

        self.graph, self.batch, self.patience_s, self.schedule = graph, batch, patience_s, schedule
        most = stages or (usable_cores() if free_running(graph) else min(GROUPS, usable_cores()))
        self.plans: dict[str, Any]
        if schedule is None:
            span = span_of(graph, batch) if protocol == "async" else 1  # a Lava step is a timestep
            self.plans = maps.plan(graph, mapping, batch, span, most, thrifty=stages is None)
        else:
            self.plans = chip_mapping.plan(schedule, mapping, batch)
        self.one_process = schedule is None and protocol == "async" and len(self.plans) == 2
        if self.one_process:
            self.plans = feeding.plan(graph, self.plans)
        crowded = [p for p in self.plans.values() if len(p.senders) > stage.IN]
        if crowded:
            raise DeployError(f"process {crowded[0].name}", f"receives from {len(crowded[0].senders)} processes, {stage.IN} at most",
                              "use mapping block or chip")
        self.pulses = Pulses(list(self.plans))
        self.pipes: dict[str, Connection] = {}
        self.steps = dict.fromkeys(self.plans, 0)  # timesteps (or chip steps) that each process reported, over all runs
        self.messages: Messages | None = None  # of the last run, where they are traced
        self._trace = trace
        self._running: Running | None = None
        self._jobs: Connection | None = None
        self._failed = False
        self._turn, self._runner, self._owner = threading.Lock(), 0, os.getpid()  # `_runner`: the thread that runs samples, or 0
        with contextlib.suppress(Exception):  # an op that fails is named by its process
            warm(graph)
        for out in (out for plan in self.plans.values() for out in plan.ports):
            out.layout.warm()
        with _BUILDING:
            self._start(protocol)

    def _start(self, protocol: str) -> None:
        from spikegate.deploy.lava import lava_import as lava

        ends: list[Connection] = []
        processes: dict[str, Any] = {}
        try:
            with named_limits():
                processes = self._processes(ends)
            self._running = Running(processes, maps.INJECTOR, protocol, CHANNEL, self.pulses)
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for process in processes.values():
                process.runtime = None  # or its destructor would stop the runtime a second time
                with contextlib.suppress(ValueError):
                    lava.ProcessServer().processes.remove(process)
            for end in ends:
                end.close()

    def _processes(self, ends: list[Connection]) -> dict[str, Any]:
        """Lava's process objects, connected; `ends` takes the children's ends of all pipes."""
        from spikegate.deploy.lava_processes import injector, stage

        processes: dict[str, Any] = {}
        job_end, self._jobs = mp.Pipe(duplex=False)
        ends.append(job_end)
        enlarge(self._jobs)
        for name, plan in self.plans.items():
            self.pipes[name], end = mp.Pipe(duplex=False)
            enlarge(end)
            ends.append(end)
            common = (plan, self.batch, self.pulses.of(name), end)
            if name == maps.INJECTOR:
                leaf, kind = self._injector(common, job_end), injector.InjectorProcess
            else:
                ports = [self.plans[s].ports[self.plans[s].port_to(name)] for s in plan.senders]
                leaf, kind = self._stage(common, [port.layout for port in ports]), stage.StageProcess
            if self._trace:
                leaf.trace()
            processes[name] = kind(leaf)
        for name, plan in self.plans.items():
            for k, sender in enumerate(plan.senders):
                if name == maps.INJECTOR:
                    processes[sender].back.connect(processes[name].back)
                else:
                    out = getattr(processes[sender], f"out_{self.plans[sender].port_to(name)}")
                    out.connect(getattr(processes[name], f"in_{k}"))
        return processes

    def _injector(self, common: Common, jobs: Connection) -> Leaf:
        """What the injector does."""
        if self.schedule is not None:
            return ChipInjectorLeaf(self.schedule, *common, jobs)
        return SourceLeaf(self.graph, *common, jobs) if self.one_process else InjectorLeaf(self.graph, *common, jobs, GROUPS)

    def _stage(self, common: Common, layouts: list[Any]) -> Leaf:
        """What a process with ops does; `layouts`: of the messages that it receives."""
        if self.schedule is not None:
            return ChipStageLeaf(self.schedule, *common, layouts)
        return WholeLeaf(self.graph, *common, layouts) if self.one_process else StageLeaf(self.graph, *common, layouts)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, inputs: np.ndarray, labels: np.ndarray | None = None, *, spikes: bool = False,
            progress: Callable[[int], None] | None = None) -> Record:
        """Run samples through the network; parameters and record as of `spikegate.engine.integer.run`. May be called again."""
        with self._my_turn():
            inputs, labels = checked(self.graph, inputs, labels)
            fit(self.graph, inputs)  # refuses unfit inputs here, not in another process
            collector = self._collector(len(inputs), spikes)
            if len(inputs):
                try:
                    self._run(inputs, spikes, collector, progress)
                except BaseException:
                    closed, self._failed = self._running is None, True
                    self.close()
                    self._close_pipes()
                    if closed:
                        raise DeployError("network", "was closed by another thread while it ran", "close it after the run") from None
                    raise
            if self._trace:
                self.messages = collector.messages
                self.messages.order(list(self.plans))
            return collector.record(labels)

    @contextlib.contextmanager
    def _my_turn(self) -> Iterator[None]:
        """Runs of several threads come one after the other."""
        if os.getpid() != self._owner:
            raise DeployError("network", "belongs to another process, of which this one is a child", "make a new one here")
        if self._runner == threading.get_ident():
            raise DeployError("network", "is running already", "a run cannot be begun from the progress function of another")
        with self._turn:
            if self._running is None:
                raise DeployError("network", "is closed", "make a new one")
            self._runner = threading.get_ident()
            try:
                yield
            finally:
                self._runner = 0

    def _collector(self, samples: int, spikes: bool) -> Collector | ChipCollector:
        if self.schedule is None:
            return Collector(self.graph, {n: p.ops for n, p in self.plans.items() if p.reports}, samples, spikes)
        return ChipCollector(self.schedule, list(self.plans), samples, spikes)

    def _run(self, inputs: np.ndarray, spikes: bool, collector: Collector | ChipCollector, progress: Callable[[int], None] | None) -> None:
        # A pipe holds little; the injector may be dead. So a thread writes while this one reads.
        sending = threading.Thread(target=self._send, args=(inputs, spikes), daemon=True)
        sending.start()
        reading = threading.Event()  # while this thread waits for the processes
        pulse = self.pulses.of(maps.INJECTOR)

        def waiting() -> bool:
            return reading.is_set() and not (sending.is_alive() and pulse.phase == IDLE)

        def hanging(verdict: str, name: str) -> DeployError:
            senders = {n: p.senders for n, p in self.plans.items()}
            return self.pulses.hanging(verdict, name, senders, list(self.graph.ops), self.patience_s)

        assert self._running is not None
        with Watch(self.pulses, self._running.actors, self.patience_s, hanging, waiting) as watch:
            self._collect(collector, progress, watch, reading)

    def _send(self, inputs: np.ndarray, spikes: bool) -> None:
        each = feeding.PART if self.one_process else len(inputs)
        assert self._jobs is not None
        with contextlib.suppress(OSError):
            for begin in range(0, len(inputs), each):
                part = inputs[begin : begin + each].astype(dtype_of(self.graph.input_payload))
                job = (part, spikes, begin + each >= len(inputs)) if self.one_process else (part, spikes)
                self._jobs.send_bytes(pickle.dumps(job, protocol=5))

    def _collect(self, collector: Collector | ChipCollector, progress: Callable[[int], None] | None, watch: Watch,
                 reading: threading.Event) -> None:
        names = {pipe: name for name, pipe in self.pipes.items()}
        while not collector.finished:
            reading.set()
            pipes = wait([*names], timeout=0.25)
            if not names:
                time.sleep(0.05)
            for pipe in pipes:
                if watch.found is not None:
                    break
                reading.set()
                assert isinstance(pipe, Connection)
                name = names[pipe]
                try:
                    message = pipe.recv_bytes()
                except (EOFError, OSError):  # all processes have ended, as the watch finds
                    names.pop(pipe)
                    continue
                reading.clear()
                steps, ended = collector.read(name, message)
                self.steps[name] += steps
                if ended and progress is not None:
                    progress(ended)
            if watch.found is not None and not collector.finished:
                self._read_last(watch.found, collector)
                raise watch.found

    def _read_last(self, found: DeployError, collector: Collector | ChipCollector) -> None:
        """Read what a process reported before it ended: where it failed by itself, that is the better reason, and raised here."""
        name = found.where.removeprefix("process ")
        with contextlib.suppress(EOFError, OSError):
            while name in self.pipes and self.pipes[name].poll():
                collector.read(name, self.pipes[name].recv_bytes())

    def close(self) -> None:
        """Stop: in order if all is well, by killing otherwise. Nothing is left: no process, no shared memory."""
        running, self._running = self._running, None
        if running is None:
            return
        elsewhere = self._runner not in (0, threading.get_ident())  # that thread's run ends with an error, and closes the pipes
        if self._failed or elsewhere or os.getpid() != self._owner:
            running.kill()
        else:
            running.stop(self._jobs)
        if not elsewhere:
            self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (*self.pipes.values(), self._jobs):
            if pipe is not None:
                pipe.close()
