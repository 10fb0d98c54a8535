"""Nets as files of other frameworks: NetX HDF5 (Lava) and NIR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spikegate.api.paths import as_path
from spikegate.command.extras import needs

if TYPE_CHECKING:
    from spikegate.graph.ir import Graph


def read_netx(path: str | Path, *, input_shape: tuple[int, ...] | None = None) -> Graph:
    """The graph in a NetX HDF5 file: an export of ours, or a file of lava-dl 0.6.0, which takes binary spikes.

    `input_shape` is needed where a foreign file states none: (channels, height, width) or (features,).

    Raises
    ------
    DeployError
        A file that cannot be read, or a layer that cannot be run exactly.
    """
    from spikegate.formats.netx.graph_file import read_graph

    return read_graph(as_path("path", path), input_shape=input_shape)


def write_netx(graph: Graph, path: str | Path) -> None:
    """Check a graph and write it as NetX HDF5; stock lava-dl reads plain chains of it.

    Raises
    ------
    DeployError
        Broken design rules, all at once, or a file that cannot be written.
    """
    from spikegate.formats.netx.graph_file import write_graph

    write_graph(graph, as_path("path", path))


def read_nir(path: str | Path, timesteps: int | None = None) -> Graph:
    """The graph in a NIR file; `timesteps` of a sample where the file does not say it.

    Raises
    ------
    DeployError
        A file that cannot be read, nodes that cannot be taken (all are named), or the package nir is missing.
    """
    with needs("NIR"):
        from spikegate.formats.nir.importer import read_nir as read

        return read(as_path("path", path), timesteps)


def write_nir(graph: Graph, path: str | Path) -> None:
    """Write a graph as NIR.

    Raises
    ------
    DeployError
        Naming every op that NIR has no word for, or that the package nir is missing.
    """
    with needs("NIR"):
        from spikegate.formats.nir.exporter import write_nir as write

        write(graph, as_path("path", path))
