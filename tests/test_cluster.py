"""Parts on workers: equal to one process, in order; a worker that dies costs its part again and nothing else; nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.system_report import measure_all as bench_all
from spikegate.command.cluster import workers_of
from spikegate.deploy.bundle import load_images, open_export
from spikegate.deploy.inference import infer
from spikegate.deploy.parts import run_parts
from spikegate.engine.joined import join
from spikegate.graph.ir import DeployError
from tests.standin_bench import Commands, bench_of

pytest.importorskip("distributed")
pytestmark = pytest.mark.xdist_group("cluster")
ROOT = Path(__file__).parents[1]
NET = ROOT / "zoo" / "stas-exit-digits"


def square(offset: int, n: int) -> tuple[int, int]:
    return offset + n * n, os.getpid()


def dies_once(folder: str, n: int) -> int:
    mark = Path(folder) / str(n)
    if n == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def always_dies(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


def refuses(n: int) -> int:
    raise DeployError("here", f"not {n}", "another")


def test_parts_come_back_in_order_and_a_death_is_mended(tmp_path):
    told: list[int] = []
    with workers_of("local:2") as cluster:
        assert cluster.workers == 2
        found = cluster.map(square, [(n,) for n in range(8)], 100, progress=told.append)
        assert [f for f, _ in found] == [100 + n * n for n in range(8)] and sorted(told) == list(range(8))
        assert os.getpid() not in {pid for _, pid in found}
        assert cluster.map(dies_once, [(n,) for n in range(5)], str(tmp_path)) == list(range(5)) and (tmp_path / "2").exists()
        with pytest.raises(DeployError, match="not 3"):
            cluster.one(refuses, 3)


@pytest.mark.slow
def test_a_part_that_kills_every_worker_is_given_up():
    with workers_of("local:1") as cluster, pytest.raises(DeployError, match="died"):
        cluster.one(always_dies, 1)


def test_a_set_of_images_in_parts_is_the_set(tmp_path):
    bundle = open_export(NET)
    images = load_images(bundle, "test:70")
    options = {"target": "int", "spikes": True}
    whole = infer(bundle, images.x, images.y, **options)
    told: list[int] = []
    parts = run_parts(infer, "local:2", bundle.folder, images.x, images.y, options, told.append)
    assert sum(told) == 70 and len(told) > 1
    for what in ("counts", "exit_step", "logits", "alive", "labels"):
        assert np.array_equal(getattr(whole, what), getattr(parts, what)), what
    for what in ("spikes", "activity", "values"):
        theirs = getattr(whole, what)
        assert theirs.keys() == getattr(parts, what).keys()
        assert all(np.array_equal(v, getattr(parts, what)[n]) and v.dtype == getattr(parts, what)[n].dtype for n, v in theirs.items()), what
    assert join([whole]).counts.shape == whole.counts.shape


def test_ctrl_c_leaves_no_worker_behind(tmp_path):
    code = ("import sys, time, os; from spikegate.command.cluster import workers_of\n"
            "with workers_of('local:2') as c:\n"
            "    print(*c.client.run(os.getpid).values(), flush=True); c.map(time.sleep, [(60,), (60,)])")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = tmp_path / "job.py"
    script.write_text("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nif __name__ == '__main__':\n"
                      + "".join(f"    {line}\n" for line in code.splitlines()))
    started = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert started.stdout is not None
    workers = [int(pid) for pid in started.stdout.readline().split()]
    assert len(workers) == 2
    started.send_signal(signal.SIGINT)
    assert started.wait(60) != 0
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_sweep_is_the_same_on_a_cluster(tmp_path):
    found = []
    for more in ([], ["--cluster", "local:2"]):
        args = [sys.executable, ROOT / "hw_sim" / "sweep.py", NET, "--over", "timesteps", "--images", "8", "--json"]
        done = subprocess.run([*args, "--output", tmp_path, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["rows"])
    assert found[0] == found[1] and len(found[0]) > 1


def test_a_bench_is_the_same_on_a_cluster_and_a_failure_takes_only_its_dependants(tmp_path):
    alone, spread = (bench_of(tmp_path / name) for name in ("alone", "spread"))
    assert bench_all(alone, alone.plan.rows, None, 1) == {} == bench_all(spread, spread.plan.rows, None, 1, "local:2")
    when = ("date", "seconds")
    for row in alone.plan.rows:
        if not row.base:
            here, there = alone.read(row, 0), spread.read(row, 0)
            assert here and {k: v for k, v in here.items() if k not in when} == {k: v for k, v in there.items() if k not in when}, row.name
    broken = bench_of(tmp_path / "broken", call=Commands(fail=("train/run.py", "halting")))
    failed = bench_all(broken, broken.plan.rows, 1, 1, "local:2")
    assert {name for name, _ in failed} == {"halting", "exit"} and broken.read(broken.plan.row("static"), 0)


@pytest.mark.parametrize("address, what", [("here", "no address"), ("local:0", "number"), ("tcp://127.0.0.1:9", "answers")])
def test_an_address_without_workers_is_named(address, what):
    with pytest.raises(DeployError, match=what), workers_of(address):
        pass


@pytest.mark.parametrize("more", [["--target", "torch"], ["--timing", "loihi"]])
def test_what_a_cluster_cannot_do_is_said(more, tmp_path):
    args = [sys.executable, ROOT / "deploy" / "run.py", NET, "--target", "int", "--data", "test:2", "--cluster", "local:1"]
    done = subprocess.run([*args, "--output", tmp_path, *more], capture_output=True, text=True)
    assert done.returncode == 1 and "--cluster" in done.stderr and "Traceback" not in done.stderr
