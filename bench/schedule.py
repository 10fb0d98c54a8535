"""Runs the nets of a bench: each after what it needs, several at a time if asked for; one that fails takes only its dependants along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from bench.plan import Plan, Row
from spikegate.graph.ir import DeployError

Net = tuple[str, int]  # row name, seed


def run_all(
    plan: Plan,
    nets: Sequence[tuple[Row, int]],
    work: Callable[[Row, int], None],
    *,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[Net, str]:
    """Call `work` for each net, in order, but for what it needs first; returns what failed, and why.

    An error of any kind in one net is reported and kept; the others go on. Only an interrupt ends it all.
    """
    rows = {(row.name, seed): row for row, seed in nets}
    failed: dict[Net, str] = {}
    waiting, running, done = list(rows), dict[Future[None], Net](), set[Net]()
    pool = ThreadPoolExecutor(jobs)
    try:
        while waiting or running:
            for net in list(waiting):
                row, seed = rows[net], net[1]
                needs = [(other, seed) for other in row.others if (other, seed) in rows]
                lost = [other for other, _ in needs if (other, seed) in failed]
                if lost:
                    failed[net] = f"not tried, because {lost[0]} failed"
                elif len(running) >= jobs or not all(n in done for n in needs):
                    continue
                else:
                    tell(f"{net[0]}, seed {seed} ({len(done) + len(failed) + len(running) + 1} of {len(rows)})")
                    running[pool.submit(work, row, seed)] = net
                waiting.remove(net)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                net = running.pop(future)
                error = future.exception()
                if isinstance(error, KeyboardInterrupt):
                    raise error
                if error is None:
                    done.add(net)
                    continue
                failed[net] = str(error) if isinstance(error, DeployError | OSError) else f"{type(error).__name__}: {error}"
                tell(f"{net[0]}, seed {net[1]} failed: {failed[net]}")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return failed
