"""`Network` in place of lava-dl's `netx.hdf5.Network`: same constructor, ports and timing, one process.

An existing script changes its import only: ``from spikegate.deploy import netx_network as netx`` in place of
``from lava.lib.dl import netx``, or `Network` from here. Every port shows at every Lava step what stock NetX shows; where stock NetX
refuses a layer or gets it wrong, what SLAYER computes (docs/netx.md lists each). Any run config of Lava will do: there is no
floating-point model to be picked by mistake.
"""

from __future__ import annotations

from types import SimpleNamespace

from spikegate.deploy.lava_processes.netx_process import Network
from spikegate.formats.netx import layers as _layers

hdf5 = SimpleNamespace(Network=Network)
blocks = SimpleNamespace(process=_layers)  # Input, Dense, RecurrentDense, ComplexDense, Conv: what `type(layer)` is

__all__ = ["Network", "blocks", "hdf5"]
