"""python tests/smoke.py [--all]: what a user does first, on this Python; exit code 1 at the first thing that fails. Two minutes.

Steps that take a package which is not installed are left out and named; with --all that fails, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec

STEPS = [
    # (needs, what to run, what it must say)
    ((), ["-c", "import spikegate; print(spikegate.__version__)"], "0."),
    ((), ["-m", "spikegate", "--help"], "usage: spikegate"),
    ((), ["-m", "spikegate", "run", "zoo:stas-digits", "--data", "test:8", "--target", "int"], "8 test images of digits"),
    ((), ["-m", "spikegate", "run", "zoo:stas-fashion", "--data", "test:8", "--target", "int"], "that come with the net"),
    ((), ["-m", "spikegate", "estimate", "zoo:stas-digits"], "energy"),
    ((), ["-m", "spikegate", "report", "zoo:stas-digits"], "report.html"),
    (("lava",), ["-m", "spikegate", "compare", "zoo:stas-digits", "--targets", "int,lava", "--data", "test:4", "--patience", "60"],
     "int = lava"),
    (("torch", "lava"), ["-m", "spikegate", "train", "--train.epochs", "1", "--data.limit_train", "100", "--output", "runs/smoke"],
     "runs/smoke"),
    (("torch", "lava"), ["-m", "spikegate", "export", "runs/smoke"], "manifest.json"),
    (("torch", "lava"), ["-m", "spikegate", "compare", "runs/smoke", "--data", "test:4", "--patience", "60"], "torch = int = lava"),
]  # fmt: skip


def main() -> None:
    """Run the steps in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        for needs, words, said in STEPS:
            shown = "spikegate " + " ".join(words[2:]) if words[0] == "-m" else words[-1]
            missing = [name for name in needs if find_spec(name) is None]
            if missing:
                if "--all" in sys.argv:
                    sys.exit(f"failed, {' and '.join(missing)} not installed: {shown}")
                print(f"left out, {' and '.join(missing)} not installed: {shown}", flush=True)
                continue
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
            if done.returncode or said not in done.stdout + done.stderr or "Traceback" in done.stderr:
                sys.exit(f"failed, exit code {done.returncode}, expected {said!r}: {shown}\n{done.stdout}{done.stderr}")
            print(f"{time.perf_counter() - start:6.1f} s  {shown}", flush=True)
    print(f"ok on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
