"""`spikegate.deploy.netx_network.Network` in place of lava-dl's `netx.hdf5.Network`: same constructor, ports and timing, one process.

An existing script changes its import only. Every port shows at every Lava step what stock NetX shows; where stock NetX refuses a layer or
gets it wrong, what SLAYER computes (docs/netx.md lists each). Any run config of Lava will do: there is no floating-point model to be
picked by mistake. State is not open as Vars: use `reset_interval` where a script resets ``neuron.u``, and ports to read spikes.
"""

from __future__ import annotations

from spikegate.deploy.lava_processes.netx_process import Network

__all__ = ["Network"]
