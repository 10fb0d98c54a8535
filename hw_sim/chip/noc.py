"""Network on chip: tiles on a grid, XY routes (columns first), hops, load of every link and where it is highest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.hw_sim.chip.profile import Chip

DIRECTIONS = ("east", "west", "south", "north")


@dataclass(frozen=True)
class Mesh:
    """Chips of `columns` x `rows` tiles, in a grid `across` chips wide; a slot is a place for one core.

    Slots count the cores of a tile first, then the tiles of a chip row by row, then the chips row by row. That several chips continue one
    mesh is an assumption; links between chips are counted apart.
    """

    columns: int
    rows: int
    cores_per_tile: int
    cores_per_chip: int
    chips: int
    across: int

    @property
    def down(self) -> int:
        return -(-self.chips // self.across)

    @property
    def width(self) -> int:
        return self.columns * self.across

    @property
    def height(self) -> int:
        return self.rows * self.down

    @property
    def slots(self) -> int:
        return self.chips * self.cores_per_chip

    def xy(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tile column and row of slots, on the mesh of all chips."""
        chip, within = np.divmod(slots, self.cores_per_chip)
        y, x = np.divmod(within // self.cores_per_tile, self.columns)
        return x + chip % self.across * self.columns, y + chip // self.across * self.rows


def mesh_for(chip: Chip, chips: int) -> Mesh:
    """As many chips as needed, in a grid that is about as wide as high in tiles."""
    across = min(chips, max(1, round((chips * chip.rows / chip.columns) ** 0.5)))
    return Mesh(chip.columns, chip.rows, chip.cores_per_tile, chip.cores_per_chip, chips, across)


@dataclass(frozen=True, eq=False)
class Load:
    """What the packets of a placement do on the mesh.

    Attributes
    ----------
    packets, within_tile : packets per inference, and those that stay in their tile
    hops_x, hops_y, between_chips : link passages per inference, and those that lead from one chip to the next
    links : float64 [4, height, width], packets that leave each tile by `DIRECTIONS`
    histogram : packets by number of hops
    """

    packets: float
    within_tile: float
    hops_x: float
    hops_y: float
    between_chips: float
    links: np.ndarray
    histogram: np.ndarray

    @property
    def hops(self) -> float:
        return self.hops_x + self.hops_y

    def hot_spots(self, number: int = 5) -> list[dict[str, Any]]:
        """The links that carry most, first the fullest."""
        flat = self.links.ravel()
        order = np.argsort(-flat, kind="stable")[:number]
        where = [np.unravel_index(i, self.links.shape) for i in order if flat[i] > 0]
        return [{"x": int(x), "y": int(y), "direction": DIRECTIONS[d], "packets": float(self.links[d, y, x])} for d, y, x in where]


def route(mesh: Mesh, slots: np.ndarray, traffic: np.ndarray) -> Load:
    """Send packets [cores, cores] from core to core, each core in its slot."""
    x, y = mesh.xy(slots)
    a, b = np.nonzero(traffic)
    number = traffic[a, b].astype(np.float64)
    x0, y0, x1, y1 = x[a], y[a], x[b], y[b]
    dx, dy = np.abs(x1 - x0), np.abs(y1 - y0)
    links = np.zeros((4, mesh.height, mesh.width))
    legs = ((0, y0, x0, x1, x1 > x0), (1, y0, x0, x1, x1 < x0), (2, x1, y0, y1, y1 > y0), (3, x1, y0, y1, y1 < y0))
    for direction, line, start, end, rows in legs:
        along = np.zeros((mesh.width if direction > 1 else mesh.height, max(mesh.width, mesh.height) + 2))
        # A step east leaves tiles start .. end - 1; a step west leaves end + 1 .. start.
        low, high = (start, end) if direction in (0, 2) else (end + 1, start + 1)
        np.add.at(along, (line[rows], low[rows]), number[rows])
        np.add.at(along, (line[rows], high[rows]), -number[rows])
        load = np.cumsum(along, 1)
        links[direction] = load[:, : mesh.width] if direction < 2 else load[:, : mesh.height].T
    edge_x, edge_y = np.arange(mesh.width) % mesh.columns, np.arange(mesh.height) % mesh.rows
    between = links[0][:, edge_x == mesh.columns - 1].sum() + links[1][:, edge_x == 0].sum()
    between += links[2][edge_y == mesh.rows - 1].sum() + links[3][edge_y == 0].sum()
    return Load(
        packets=float(number.sum()), within_tile=float(number[dx + dy == 0].sum()), hops_x=float(number @ dx), hops_y=float(number @ dy),
        between_chips=float(between), links=np.where(np.abs(links) < 1e-9, 0, links),
        histogram=np.bincount(dx + dy, number, minlength=1) if len(number) else np.zeros(1),
    )
