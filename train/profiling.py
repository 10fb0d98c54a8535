"""A trace of a few training steps, for ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import profiler

SKIPPED, WARM, SHOWN = 4, 1, 3  # steps before, with the profiler getting ready, and in the trace


@contextmanager
def traced(path: Path | None, device: torch.device) -> Iterator[Callable[[], None]]:
    """Yields what to call after each step; the trace is written to `path`, None: nothing is traced."""
    if path is None:
        yield lambda: None
        return
    kinds = [profiler.ProfilerActivity.CPU, *([profiler.ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    plan = profiler.schedule(wait=SKIPPED, warmup=WARM, active=SHOWN, repeat=1)
    with profiler.profile(activities=kinds, schedule=plan, on_trace_ready=lambda p: p.export_chrome_trace(str(path))) as trace:
        yield trace.step
