"""The one place that imports lava-dl's SLAYER: quietly (it prints on stdout) and before any other start method is set."""

from __future__ import annotations

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import lava.lib.dl.slayer as slayer

__all__ = ["slayer"]
