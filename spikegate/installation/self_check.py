"""Does it work: a net of the zoo against stored figures, then Lava and torch against it, within 20 seconds (imports not counted)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from spikegate.command.runs import zoo_names
from spikegate.errors import DeployError

NET, IMAGES = "stas-digits", 4
PREDICTIONS = (5, 9, 2, 4)
CHIP_EVENTS = (187872, 200379, 179577, 201222)  # of these images, on any machine: integers are exact
SECONDS = 20


@dataclass(frozen=True)
class Step:
    """One check: what it checks, "ok", "left out: why" or what is wrong, and how long it took."""

    name: str
    outcome: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.outcome == "ok" or self.outcome.startswith("left out")


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises a DeployError in the main thread after so many seconds."""

    def stop(*_: object) -> None:
        raise DeployError("self-check", f"took more than {seconds} s", "try again on a quiet machine; SPIKEGATE_LOG=INFO says more")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def reference(net: Any, images: Any, labels: Any) -> str:
    """The integer reference against the figures that stand here."""
    record = net.run(images, labels=labels)
    found = tuple(record.prediction.tolist()), tuple(record.chip_events.tolist())
    if found != (PREDICTIONS, CHIP_EVENTS):
        raise DeployError("integer reference", f"zoo:{NET} gives predictions and chip events {found}, not {PREDICTIONS, CHIP_EVENTS}",
                          "remove the compiled kernels (their folder is named above) and run spikegate compile; then report it")
    return "ok"


def agrees(net: Any, images: Any, targets: tuple[str, str]) -> str:
    """Two targets, every spike compared."""
    result = net.compare(images, targets=targets)
    if not result.equal:
        raise DeployError(" = ".join(targets), str(result.divergence), "report it with the output of spikegate doctor --json")
    return "ok"


def run(lava: bool, torch: bool, told: Callable[[Step], None] | None = None) -> list[Step]:
    """The steps in order, up to the first that fails; `lava` and `torch` say whether they are installed."""
    from spikegate.api.net import load

    steps: list[Step] = []
    if NET not in zoo_names():
        return [Step("zoo", f"zoo:{NET} is missing: install the package again", 0.0)]
    checks: list[tuple[str, str | Callable[[], str]]] = []
    try:
        net = load(f"zoo:{NET}")
        images, labels = net.images("test", IMAGES)
    except DeployError as e:
        return [Step(f"zoo:{NET}", str(e), 0.0)]
    checks.append((f"integer reference: zoo:{NET}, stored figures", lambda: reference(net, images, labels)))
    checks.append(("Lava = integer reference", (lambda: agrees(net, images, ("int", "lava"))) if lava else "lava-nc is not installed"))
    checks.append(("torch = integer reference", (lambda: agrees(net, images, ("torch", "int"))) if torch else
                   "needs torch, safetensors and lava-dl"))
    for module, there in (("spikegate.deploy.lava.lava_import", lava), ("spikegate.train.restore", torch)):
        try:  # a cold disk takes long to read PyTorch, which is not wrong: not counted
            if there:
                import_module(module)
        except Exception as e:
            return [Step(f"import of {module}", str(e) if isinstance(e, DeployError) else f"{type(e).__name__}: {e}", 0.0)]
    with at_most(SECONDS):
        for name, check in checks:
            start = time.perf_counter()
            try:
                outcome = f"left out: {check}" if isinstance(check, str) else check()
            except Exception as e:  # whatever fails here is the first thing wrong
                outcome = str(e) if isinstance(e, DeployError) else f"{type(e).__name__}: {e}"
            steps.append(Step(name, outcome, time.perf_counter() - start))
            if told is not None:
                told(steps[-1])
            if not steps[-1].good:
                break
    return steps
