"""lava-dl's own tests of netx.hdf5, as its wheel installs them, with nothing changed but the import: the drop-in passes all ten.

`python -m tests.test_netx_lava_dl` prints what each did; nothing of theirs lies in this repository.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_netx_wheel import HERE

ROOT = Path(__file__).parents[1]
TESTS = None if HERE is None else HERE / "test_hdf5.py"
STOCK, OURS = "from lava.lib.dl import netx\n", "from spikegate.deploy import netx_network as netx\n"
NAMES = (
    "num_layers", "input_transform", "mnist", "tinynet", "pilotnet_sdnn", "pilotnet_sdnn_spike_exp", "sparse_pilotnet_sdnn",
    "axonal_delay_ntidigits", "sparse_axonal_delay_ntidigits", "recurrent_netx_save_and_load",
)  # fmt: skip
RUN = (  # Lava needs its import tamed on some machines before torch comes
    "import sys, unittest; import spikegate.deploy.lava.lava_import; import spikegate.train.layers.slayer_import; "
    "sys.path.insert(0, sys.argv.pop(1)); unittest.main('theirs', verbosity=2)"
)


def ran(folder: Path, *names: str) -> subprocess.CompletedProcess:
    """Their tests in `folder`, which then holds the files that they read and write."""
    assert HERE is not None and TESTS is not None
    text = TESTS.read_text()
    assert text.count(STOCK) == 1
    (folder / "theirs.py").write_text(text.replace(STOCK, OURS))
    for file in (*HERE.glob("*.net"), HERE / "gts"):
        (folder / file.name).symlink_to(file)
    wanted = [f"TestHdf5Netx.test_{name}" for name in names]
    return subprocess.run([sys.executable, "-c", RUN, str(folder), *wanted], cwd=ROOT, capture_output=True, text=True, timeout=400)


@pytest.mark.lava
@pytest.mark.timeout(420)
@pytest.mark.skipif(TESTS is None or not TESTS.is_file(), reason="lava-dl's wheel did not install its tests")
def test_lava_dls_ten_tests_pass_with_the_import_changed(tmp_path):
    done = ran(tmp_path, *NAMES)
    passed = re.findall(r"^test_(\w+) .*?\.\.\. ok$", done.stderr, re.MULTILINE | re.DOTALL)
    assert done.returncode == 0, done.stderr
    assert f"Ran {len(NAMES)} tests" in done.stderr and passed


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        print(ran(Path(scratch), *NAMES).stderr)
