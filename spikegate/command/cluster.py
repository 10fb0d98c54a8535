"""Independent parts of a job on several processes or machines. The only module that knows Dask (extra ``cluster``)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from spikegate.command.extras import needs
from spikegate.errors import DeployError

Found = TypeVar("Found")
TRIES = 2  # times that a part is begun again when its worker died


class Cluster:
    """Workers that compute parts. A part whose worker dies is computed again by another; what is finished is kept."""

    def __init__(self, client: Any, address: str) -> None:
        self.client, self.address = client, address

    @property
    def workers(self) -> int:
        """Threads of all workers: how many parts are computed at a time."""
        return max(1, int(sum(self.client.nthreads().values())))

    def map(self, function: Callable[..., Found], parts: Sequence[tuple[Any, ...]], *common: Any,
            progress: Callable[[int], None] = lambda part: None) -> list[Found]:
        """``function(*common, *part)`` of each part, results in the order of the parts; `progress` is told each part that is done.

        Raises
        ------
        DeployError
            As the function does, or when a part's workers died more than `TRIES` times.
        """
        import distributed

        library: Any = distributed  # untyped

        futures = {self.client.submit(function, *common, *part, pure=False): k for k, part in enumerate(parts)}
        found: list[Any] = [None] * len(parts)
        try:
            for future in library.as_completed(futures):
                k = futures[future]
                try:
                    found[k] = future.result()
                except library.KilledWorker:
                    what = f"part {k + 1} of {len(parts)}: its worker died {TRIES + 1} times"
                    raise DeployError("--cluster", what, "look into the workers' logs: out of memory?") from None
                progress(k)
        finally:
            self.client.cancel(list(futures))
        return found

    def one(self, function: Callable[..., Found], *part: Any) -> Found:
        """A single part, waited for."""
        return self.map(function, [part])[0]

    def everywhere(self, function: Callable[[], Any]) -> None:
        """Call `function` in each worker, whatever it is at."""
        with contextlib.suppress(OSError, TimeoutError):
            self.client.run(function, on_error="ignore")


@contextmanager
def workers_of(address: str) -> Iterator[Cluster]:
    """Workers at ``local`` (a process for each core), ``local:N``, or ``tcp://host:port`` of a scheduler that runs; nothing stays behind.

    Raises
    ------
    DeployError
        Dask is not installed, or nobody answers at the address.
    """
    kind, _, count = address.partition(":")
    if kind != "local" and "://" not in address:
        raise DeployError("--cluster", f"{address!r} is no address", "use local, local:N, or tcp://host:port of a Dask scheduler")
    if kind == "local" and count and not (count.isdigit() and int(count) > 0):
        raise DeployError("--cluster", f"{address!r} asks for no number of workers", "use local:N with N from 1")
    with needs("--cluster"):
        import dask
        import distributed
    library: Any = distributed  # untyped
    for name in ("distributed.nanny", "distributed.worker", "distributed.core", "distributed.scheduler", "distributed.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised; a stop would print pages
    # A worker may start processes of its own (Lava's, trainings), which daemons may not.
    settings = {"distributed.worker.daemon": False, "distributed.scheduler.allowed-failures": TRIES}
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if kind == "local":
            n = int(count) if count else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            where: Any = stack.enter_context(library.LocalCluster(
                n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL))  # fmt: skip
        else:
            where = address
        try:
            client = stack.enter_context(library.Client(where, timeout=10))
        except (OSError, TimeoutError) as e:
            hint = "start one: dask scheduler, then dask worker"
            raise DeployError("--cluster", f"no scheduler answers at {address} ({e})", hint) from None
        yield Cluster(client, address)
