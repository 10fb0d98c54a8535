"""The gate that every HDF5 file passes before one number of it is read (docs/format.md says what it refuses)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5o, h5s, h5t, h5z

from spikegate.errors import DeployError, first_line
from spikegate.reading import limits
from spikegate.reading.heaps import check_heaps
from spikegate.reading.packed import check_packed
from spikegate.reading.trees import check_trees

FILTERS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_SHUFFLE: "shuffle", h5z.FILTER_FLETCHER32: "fletcher32", h5z.FILTER_LZF: "lzf"}
LAYOUTS = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
PLAIN = (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM)
COPY = "copy the data into the file"
UNREADABLE = (OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, MemoryError, AttributeError, SystemError,
              NotImplementedError, RecursionError)  # fmt: skip  # what h5py raises for a damaged file


@contextmanager
def opened(path: Path, what: str, hint: str) -> Iterator[h5py.File]:
    """An HDF5 file that holds all that it claims to hold and leads nowhere else; `what` names the format, as in "NetX HDF5 file".

    Raises
    ------
    DeployError
        A file that is none, that refers to other files, whose groups form a circle or are reachable twice, that needs a filter of a
        plugin, or that would take more memory than `limits` allow; also for errors of h5py while the caller reads.
    """
    size = limits.file_size(path, f"give a {what}")
    try:
        check_heaps(path)
        check_trees(path)
        with limits.bounded(size):
            f = h5py.File(path, "r")
        with f:
            with limits.bounded(size):
                checked(f, str(path), size)
            yield f
    except DeployError:
        raise
    except UNREADABLE as e:
        raise DeployError(str(path), f"not a readable {what} ({first_line(e)})", hint) from None


def checked(f: h5py.File, where: str, size: int) -> None:
    """Walk every object of the file once, by its address, and refuse what `opened` names."""
    claimed, objects = 0, 0
    seen = {h5o.get_info(f.id).addr}
    waiting: list[tuple[h5py.h5g.GroupID, str, int]] = [(f.id, "", 0)]
    attributes(f.id, f"{where}:/", size)
    while waiting:
        group, name, depth = waiting.pop()
        objects += group.get_num_objs()
        if objects > limits.OBJECTS or depth > limits.DEPTH:
            what = f"has more than {limits.OBJECTS} objects" if objects > limits.OBJECTS else f"has groups {limits.DEPTH} deep"
            raise DeployError(where, what, "the file is damaged or foreign")
        for key in list(group):
            here = f"{where}:{name}/{key.decode('utf-8', 'backslashreplace')}"
            if len(key) > limits.NAME:
                raise DeployError(here, f"has a name of {len(key)} bytes", "the file is damaged or foreign")
            link = group.links.get_info(key)
            if link.type != h5py.h5l.TYPE_HARD:
                raise DeployError(here, "is a link to another place or file", COPY)
            info = h5o.get_info(group, key)
            if info.type == h5o.TYPE_GROUP:
                if info.addr in seen:
                    raise DeployError(here, "is a group that is reachable by two names", COPY)
                seen.add(info.addr)
                child = h5o.open(group, key)
                attributes(child, here, size)
                waiting.append((child, here.removeprefix(f"{where}:"), depth + 1))
            elif info.type == h5o.TYPE_DATASET:
                data = h5o.open(group, key)
                claimed += dataset(data, here)
                limits.check_bytes(here, claimed, size)
                if (points := extent(data, here)[0]) > limits.VALUES:
                    raise DeployError(here, f"has {points:,} values", f"the file is damaged or foreign: {limits.VALUES:,} at most")
                check_packed(data, here)
                attributes(data, here, size)
            else:
                raise DeployError(here, "is neither a group nor a dataset", "the file is damaged or foreign")


def dataset(data: h5d.DatasetID, where: str) -> int:
    """Bytes that reading it takes; a DeployError for values that lie elsewhere, odd types, filters of plugins."""
    made = data.get_create_plist()
    layout = made.get_layout()
    if layout == h5d.VIRTUAL:
        raise DeployError(where, "is a virtual dataset: its values lie in other files", COPY)
    if layout not in LAYOUTS:
        raise DeployError(where, f"has the unknown layout {layout}", COPY)
    if layout == h5d.CONTIGUOUS and made.get_external_count():
        raise DeployError(where, "keeps its values in another file (external storage)", COPY)
    for k in range(made.get_nfilters()):
        code, _, _, title = made.get_filter(k)
        if code not in FILTERS:
            named = title.decode("utf-8", "replace") or "no name"
            raise DeployError(where, f"is packed by filter {code} ({named})", f"store it with {', '.join(FILTERS.values())}, or unpacked")
    points, each = extent(data, where)
    chunk = int(np.prod(made.get_chunk(), dtype=object)) if layout == h5d.CHUNKED else 0
    if data.get_type().get_class() == h5t.STRING and data.get_type().is_variable_str():
        return text_bytes(data, points, where)
    return int(points * (each + 4) + chunk * each)  # as stored, and as int32


def extent(held: h5d.DatasetID | h5py.h5a.AttrID, where: str) -> tuple[int, int]:
    """(number of values, bytes of one) of a dataset or attribute of a plain type."""
    space, kind = held.get_space(), held.get_type()
    if space.get_simple_extent_type() == h5s.NULL:
        raise DeployError(where, "holds nothing", "the file is damaged or foreign")
    if kind.get_class() not in PLAIN:
        raise DeployError(where, "has a type that is neither numbers nor text", "the file is damaged or foreign")
    return int(np.prod(space.get_simple_extent_dims(), dtype=object)), kind.get_size()


def text_bytes(data: h5d.DatasetID, points: int, where: str) -> int:
    """Length of all texts of a dataset, read one by one: many may share one place of the file."""
    if points > limits.TEXTS:
        raise DeployError(where, f"has {points} texts", f"the file is damaged or foreign: {limits.TEXTS} at most")
    view, total = h5py.Dataset(data), 0
    for at in np.ndindex(view.shape):
        total += len(view[at])
        if total > limits.TEXT_BYTES:
            raise DeployError(where, f"has texts of more than {limits.TEXT_BYTES >> 20} MiB", "the file is damaged or foreign")
    return total


def attributes(owner: h5py.h5g.GroupID | h5d.DatasetID, where: str, size: int) -> None:
    """Refuse attributes of odd types and sizes."""
    count = h5py.h5a.get_num_attrs(owner)
    if count > limits.ATTRIBUTES:
        raise DeployError(where, f"has {count} attributes", "the file is damaged or foreign")
    for k in range(count):
        held = h5py.h5a.open(owner, index=k)
        here = f"{where}@{held.name.decode('utf-8', 'backslashreplace')}"
        points, each = extent(held, here)
        text = held.get_type().get_class() == h5t.STRING and held.get_type().is_variable_str()
        if points * (size if text and points > 1 else each) > limits.TEXT_BYTES:
            raise DeployError(here, f"has {points} values", "the file is damaged or foreign")
        if text:  # libhdf5 believes the length that is written beside the text's place: here it has bounded memory
            (h5py.Dataset if isinstance(owner, h5d.DatasetID) else h5py.Group)(owner).attrs[held.name]
