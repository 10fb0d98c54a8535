"""Packed parts of HDF5 datasets: libhdf5 unpacks as much as a part gives, so what it gives is measured first, with a bound."""

from __future__ import annotations

import math
import zlib

from h5py import h5d, h5z

from spikegate.errors import DeployError

PACKERS = (h5z.FILTER_DEFLATE, h5z.FILTER_LZF)


def check_packed(data: h5d.DatasetID, where: str) -> None:
    """Every gzipped chunk of a dataset unpacks to no more than a chunk's bytes.

    Raises
    ------
    DeployError
        A chunk that unpacks to more, or not at all, or that is packed twice.
    """
    made = data.get_create_plist()
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if sum(code in PACKERS for code in filters) > 1:
        raise DeployError(where, "is packed twice", "store it with one of gzip and lzf, or unpacked")
    if h5z.FILTER_DEFLATE not in filters:
        return  # lzf gives at most 90 bytes for one
    chunk = math.prod(made.get_chunk()) * data.get_type().get_size()
    places: list[tuple[int, ...]] = []
    data.chunk_iter(lambda info: places.append(info.chunk_offset))
    for place in places:
        left_out, packed = data.read_direct_chunk(place)
        if not left_out >> filters.index(h5z.FILTER_DEFLATE) & 1 and not _fits(packed, chunk):
            raise DeployError(where, f"has a part that does not unpack to its {chunk:,} bytes", "the file is damaged or foreign")


def _fits(packed: bytes, chunk: int) -> bool:
    room = chunk + 4 * 8  # a checksum may have been packed along
    try:
        return len(zlib.decompressobj().decompress(packed, room + 1)) <= room
    except zlib.error:
        return False
