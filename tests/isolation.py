"""Tests read what the repository ships and nothing else: empty folders instead of the user's and the system's, no network."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

KEPT = "SPIKEGATE_TESTS_OUTSIDE"  # the variables as they were, for xdist's workers too
DEAD_PROXY = "http://127.0.0.1:9"  # programs that are not Python, such as uv and curl, take it and fail
OFFLINE = Path(__file__).parent / "offline"


def isolate() -> None:
    """Change this process's environment, once, and so that of all that it starts. Folders are removed at its end.

    The compiled kernels stay where they are, beside the sources or in $NUMBA_CACHE_DIR: they come from the sources alone.
    """
    if KEPT in os.environ:  # a worker of pytest-xdist: its parent did it
        return
    home = Path(tempfile.mkdtemp(prefix="spikegate-tests-"))
    atexit.register(_remove, home, os.getpid())
    folders = {
        "HOME": "", "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share",
        "XDG_STATE_HOME": ".local/state", "MPLCONFIGDIR": ".matplotlib", "TORCH_HOME": ".torch", "SCIKIT_LEARN_DATA": ".sklearn",
        "SPIKEGATE_DATA": "data", "SPIKEGATE_SYSTEM_DATA": "datasets",
    }  # fmt: skip
    given = {name: str(home / folder) for name, folder in folders.items()}
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        given |= {proxy: DEAD_PROXY, proxy.upper(): DEAD_PROXY}
    given |= {"no_proxy": "localhost,127.0.0.1,::1", "NO_PROXY": "localhost,127.0.0.1,::1"}
    paths = [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
    given["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ[KEPT] = json.dumps({name: os.environ.get(name) for name in given})
    os.environ |= given
    sys.path.insert(0, str(OFFLINE))
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401 (adds its hook)


def outside() -> dict[str, str]:
    """The environment without all this, for a test that installs packages."""
    before = json.loads(os.environ[KEPT])
    return {k: v for k, v in {**os.environ, **before}.items() if v is not None and k != KEPT}


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of it
        shutil.rmtree(home, ignore_errors=True)
