"""A graph as a running network of Lava processes: compiled and started once, used for any number of runs, always stopped."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from spikegate.deploy.network import chip_mapping, feeding, teardown
from spikegate.deploy.network import mapping as maps
from spikegate.deploy.network.chip_leaf import ChipInjectorLeaf, ChipStageLeaf
from spikegate.deploy.network.chip_reports import ChipCollector
from spikegate.deploy.network.feeding import SourceLeaf, WholeLeaf
from spikegate.deploy.network.leaf import AHEAD, InjectorLeaf, Leaf, StageLeaf
from spikegate.deploy.network.message_log import Messages
from spikegate.deploy.network.messages import dtype_of
from spikegate.deploy.network.reports import Collector, enlarge
from spikegate.deploy.network.staging import usable_cores
from spikegate.deploy.network.watchdog import HELPERS, Pulse, Pulses, how_it_died
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.injector import fit, free_running, span_of
from spikegate.engine.integer import warm
from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError, Graph

PROTOCOLS = ("async", "loihi")
PATIENCE_S = 7.0  # without a sign of life from anyone for so long, the network hangs
CLOSE_S = 5.0  # for an orderly end; then processes are killed
START_S = 60.0  # for all processes to be there
MEMORY_HINT = "if you did not end it: the machine may be out of memory (dmesg); try a smaller --batch or --mapping chip"
GROUPS = 2  # sample groups in flight: one is computed while another waits for its decision
Common = tuple[maps.Plan, int, Pulse, Connection]  # arguments of every leaf, besides the graph
CHANNEL = GROUPS * AHEAD  # messages that a channel holds: as many as can be under way


class Network:
    """Context manager around the Lava processes of a graph.

    Parameters
    ----------
    graph : the integer graph
    mapping : "op", "block" or "chip", see `mapping.partition`
    batch : samples of a group, each in its own slot; `GROUPS` groups are in flight, one where a single process holds the net
    protocol : "async" (each process at its own pace, all runs in one Lava step) or "loihi" (all in step, one Lava step for each
        timestep of a group)
    patience_s : after so many seconds without any progress the process that the others wait for is named and all is stopped
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
        from spikegate.deploy.lava import lava_import as lava
        from spikegate.deploy.lava_processes import injector, stage

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
        self._runtime: Any = None
        self._failed = False
        self._stillborn: DeployError | None = None
        with contextlib.suppress(Exception):  # an op that fails is named by its process
            warm(graph)
        for out in (out for plan in self.plans.values() for out in plan.ports):
            out.layout.warm()
        ends, processes = [], {}
        job_end, self._jobs = mp.Pipe(duplex=False)
        enlarge(self._jobs)
        for name, plan in self.plans.items():
            self.pipes[name], end = mp.Pipe(duplex=False)
            enlarge(end)
            ends.append(end)
            common = (plan, batch, self.pulses.of(name), end)
            if name == maps.INJECTOR:
                leaf, kind = self._injector(common, job_end), injector.InjectorProcess
            else:
                ports = [self.plans[s].ports[self.plans[s].port_to(name)] for s in plan.senders]
                leaf, kind = self._stage(common, [port.layout for port in ports]), stage.StageProcess
            if trace:
                leaf.trace()
            processes[name] = kind(leaf)
        for name, plan in self.plans.items():
            for k, sender in enumerate(plan.senders):
                if name == maps.INJECTOR:
                    processes[sender].back.connect(processes[name].back)
                else:
                    out = getattr(processes[sender], f"out_{self.plans[sender].port_to(name)}")
                    out.connect(getattr(processes[name], f"in_{k}"))
        try:
            self._start(lava, processes, protocol)
        except BaseException:
            self._failed = True
            self.close()
            raise
        finally:
            for process in processes.values():
                process.runtime = None  # or its destructor would stop the runtime a second time
                with contextlib.suppress(ValueError):
                    lava.ProcessServer().processes.remove(process)
            for end in (*ends, job_end):
                end.close()

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

    def _start(self, lava: Any, processes: dict[str, Any], protocol: str) -> None:
        from spikegate.deploy.lava.channel import DirectBuilder

        wanted = lava.AsyncProtocol if protocol == "async" else lava.LoihiProtocol

        class Choice(lava.RunConfig):
            def select(self, process, models):
                return next(m for m in models if m.implements_protocol is wanted)

        # Children inherit the mask, so that Ctrl-C reaches the parent alone and it can end them in order. The tracker
        # comes first because starting it unblocks SIGINT again.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            first = processes[maps.INJECTOR]
            executable = first.compile(Choice(), {"pypy_channel_size": CHANNEL})
            executable.channel_builders = [DirectBuilder.instead_of(b) for b in executable.channel_builders]
            self._runtime = lava.Runtime(executable, lava.ActorType.MultiProcessing)
            self._end = weakref.finalize(self, teardown.kill, self._runtime, segments := [])  # also at exit, should nobody close
            executable.assign_runtime_to_all_processes(self._runtime)
            born = threading.Event()
            names = [process.name for process in executable.proc_builders]
            threading.Thread(target=self._watch_start, args=(self._runtime, names, born), daemon=True).start()
            try:
                self._runtime.initialize()
            except RuntimeError as e:
                raise self._stillborn or e from None
            finally:
                born.set()
            infrastructure = self._runtime._messaging_infrastructure
            segments += infrastructure.smm._shared_memory_handles
            self.pulses.helper(HELPERS[1], infrastructure.smm._manager._process.pid)
            known = self.pulses.pids()
            self._sentinels = {a.sentinel: (a, known.get(a.pid, HELPERS[0])) for a in infrastructure.actors}
            self.pulses.helper(HELPERS[0], next(a.pid for a, n in self._sentinels.values() if n == HELPERS[0]))
            self._runtime.start(lava.RunSteps(1, blocking=False) if protocol == "async" else lava.RunContinuous())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch_start(self, runtime: Any, names: list[str], born: threading.Event) -> None:
        """Lava waits without end for a process that dies while it starts; this wakes it up and keeps the name."""
        deadline = time.monotonic() + START_S
        while not born.wait(0.1):
            actors = runtime._messaging_infrastructure.actors if runtime._messaging_infrastructure else []
            dead = [k for k, actor in enumerate(list(actors)) if not actor.is_alive()]
            if dead or time.monotonic() > deadline:
                name = [*names, HELPERS[0]][dead[0]] if dead else maps.INJECTOR
                what = how_it_died(actors[dead[0]].exitcode) if dead else f"is not ready after {START_S:g} s"
                self._stillborn = DeployError(f"process {name}", f"{what} while the network started", MEMORY_HINT)
                error = RuntimeError("start failed")
                error.trace = ""  # type: ignore[attr-defined]  # Lava prints it
                for queue in list(getattr(runtime, "exception_q", ())):
                    queue.put(error)
                return

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, inputs: np.ndarray, labels: np.ndarray | None = None, *, spikes: bool = False,
            progress: Callable[[int], None] | None = None) -> Record:
        """Run samples through the network; parameters and record as of `spikegate.engine.integer.run`. May be called again."""
        if self._runtime is None:
            raise DeployError("network", "is closed", "make a new one")
        fit(self.graph, inputs)  # refuses unfit inputs here, not in another process
        collector = self._collector(len(inputs), spikes)
        if len(inputs):
            try:
                # A pipe holds little; the injector may be dead. So a thread writes while this one watches.
                threading.Thread(target=self._send, args=(inputs, spikes), daemon=True).start()
                self._collect(collector, progress)
            except BaseException:
                self._failed = True
                self.close()
                raise
        if self._trace:
            self.messages = collector.messages
            self.messages.order(list(self.plans))
        return collector.record(labels)

    def _collector(self, samples: int, spikes: bool) -> Collector | ChipCollector:
        if self.schedule is None:
            return Collector(self.graph, {n: p.ops for n, p in self.plans.items() if p.reports}, samples, spikes)
        return ChipCollector(self.schedule, list(self.plans), samples, spikes)

    def _send(self, inputs: np.ndarray, spikes: bool) -> None:
        each = feeding.PART if self.one_process else len(inputs)
        with contextlib.suppress(OSError):
            for begin in range(0, len(inputs), each):
                part = inputs[begin : begin + each].astype(dtype_of(self.graph.input_payload))
                job = (part, spikes, begin + each >= len(inputs)) if self.one_process else (part, spikes)
                self._jobs.send_bytes(pickle.dumps(job, protocol=5))

    def _collect(self, collector: Collector | ChipCollector, progress: Callable[[int], None] | None) -> None:
        names = {pipe: name for name, pipe in self.pipes.items()}
        started = time.monotonic()
        while not collector.finished:
            ready = wait([*names, *self._sentinels], timeout=0.25)
            pipes = [p for p in ready if p in names]
            for pipe in pipes:
                name = names[pipe]
                try:
                    message = pipe.recv_bytes()
                except EOFError:  # its process ended, as its sentinel will show
                    names.pop(pipe)
                    continue
                steps, ended = collector.read(name, message)
                self.steps[name] += steps
                if ended and progress is not None:
                    progress(ended)
            if not pipes:
                self._check_dead(ready)
                if time.monotonic() - max(started, self.pulses.last_change) > self.patience_s:
                    senders = {n: p.senders for n, p in self.plans.items()}
                    raise self.pulses.hanging(senders, list(self.graph.ops), self.patience_s)

    def _check_dead(self, ready: list) -> None:
        for item in ready:
            if item in self._sentinels:
                process, name = self._sentinels[item]
                mp.Process.join(process, 1)  # its exit code is known a little after its sentinel
                raise DeployError(f"process {name}", f"{how_it_died(process.exitcode)} during the run",
                                  MEMORY_HINT)

    def close(self) -> None:
        """Stop: in order if all is well, by killing otherwise. Nothing is left: no process, no shared memory."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        try:
            if not self._failed:
                orderly = threading.Thread(target=self._stop, args=(runtime,), daemon=True)
                orderly.start()
                orderly.join(CLOSE_S)
        finally:
            self._end()
            for pipe in (*self.pipes.values(), self._jobs):
                pipe.close()

    def _stop(self, runtime: Any) -> None:
        try:
            self._jobs.send(None)
            runtime.wait()
            runtime.stop()
        except Exception:  # whatever is left over is killed
            return
