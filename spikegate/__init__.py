"""Spikegate: spiking vision transformers with adaptive computation, from training to neuromorphic deployment."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikegate.api.files import read_netx, read_nir, write_netx, write_nir
    from spikegate.api.net import Net, load
    from spikegate.api.training import export, fit, import_spikingjelly
    from spikegate.deploy.network.network import Network
    from spikegate.engine.record import Record
    from spikegate.errors import DeployError
    from spikegate.graph.ir import Graph

__version__ = "0.2.0"
__all__ = [
    "DeployError", "Graph", "Net", "Network", "Record", "export", "fit", "import_spikingjelly", "load", "read_netx", "read_nir",
    "write_netx", "write_nir",
]  # fmt: skip

_HOMES = {  # where each name is defined; imported when it is first asked for
    "DeployError": "spikegate.errors",
    "Graph": "spikegate.graph.ir",
    "Net": "spikegate.api.net",
    "Network": "spikegate.deploy.network.network",
    "Record": "spikegate.engine.record",
    "export": "spikegate.api.training",
    "fit": "spikegate.api.training",
    "import_spikingjelly": "spikegate.api.training",
    "load": "spikegate.api.net",
    "read_netx": "spikegate.api.files",
    "read_nir": "spikegate.api.files",
    "write_netx": "spikegate.api.files",
    "write_nir": "spikegate.api.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spikegate' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
