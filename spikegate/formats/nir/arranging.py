"""How a layer lies on the chip: as a map of positions and channels, or flat; its terms in the form that its synapses then have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikegate.formats.nir.linear import Each, LinearMap, Matrix, Shape, Window, as_map, matrix, per_channel, size_of
from spikegate.formats.nir.plan import Source, Term
from spikegate.formats.nir.units import Units


def arranged(u: Units, shape: Shape, maps: dict[str, bool], mine: bool = True) -> tuple[Units, bool]:
    """The layer with terms that fit its form, and whether it lies as a map.

    `maps` says it of the sources. `mine` False asks for a flat one, as an answer is.
    """
    laid = split(u, maps)
    name = u.name
    if mine and len(shape) > 1 and _as_map(laid, shape, {**maps, name: True}):
        return laid, True
    here = {**maps, name: False}
    laid = split(u, here)
    terms = [t if _straight(t, here, shape) and mine else replace(t, map=matrix(name, t.map)) for t in laid.terms]
    return united(replace(laid, terms=terms)), False


def split(u: Units, maps: dict[str, bool]) -> Units:
    """A term whose sources lie differently becomes two."""
    terms, biases = [], []
    for t, b in zip(u.terms, u.biases):
        parts: dict[bool, list[Source]] = {}
        for s in t.sources:
            parts.setdefault(maps.get(s.name, len(t.map.in_shape) > 1), []).append(s)
        for i, sources in enumerate(parts.values()):
            terms.append(replace(t, sources=tuple(sources)))
            biases.append(b if i == 0 else np.zeros_like(b))
    return replace(u, terms=terms, biases=biases)


def united(u: Units) -> Units:
    """Matrices that read the same sources become one."""
    terms: list[Term] = []
    biases: list[np.ndarray] = []
    for t, b in zip(u.terms, u.biases):
        twin = next((i for i, f in enumerate(terms) if f.sources == t.sources and isinstance(f.map, Matrix)), None)
        if twin is None or not isinstance(t.map, Matrix):
            terms.append(t)
            biases.append(b)
            continue
        other = terms[twin].map
        assert isinstance(other, Matrix)
        terms[twin] = replace(terms[twin], map=Matrix(other.in_shape, other.out_shape, other.weight + t.map.weight))
        biases[twin] = biases[twin] + b
    return replace(u, terms=terms, biases=biases)


def _as_map(u: Units, shape: Shape, maps: dict[str, bool]) -> bool:
    each = [*u.biases, u.bias, *(d for d in (u.i_decay, u.v_decay) if d.size > 1)]
    if any(per_channel(v, shape) is None for v in each):
        return False
    return all(_fits_map(t, u, shape) and all(maps[s.name] and _by_channel(s, t.map.in_shape) for s in t.sources) for t in u.terms)


def _fits_map(t: Term, u: Units, shape: Shape) -> bool:
    if isinstance(t.map, Window):
        alone = len(u.terms) == 1 and not (u.slow and any(b.any() for b in u.biases))
        return alone or squared(t.map).stride[0] == squared(t.map).stride[1]
    same = isinstance(t.map, Each) and as_map(t.map.in_shape)[0] == as_map(shape)[0] and len(t.map.in_shape) > 1
    return same and per_channel(t.map.factor, shape) is not None  # type: ignore[union-attr]


def _by_channel(s: Source, shape: Shape) -> bool:
    return isinstance(s.delay, int) or per_channel(np.array(s.delay), shape) is not None


def _straight(t: Term, maps: dict[str, bool], shape: Shape) -> bool:
    """Whether a one-to-one term of a flat layer stays one."""
    return isinstance(t.map, Each) and not any(maps[s.name] for s in t.sources) and np.size(t.map.factor) == 1


def squared(m: Window) -> Window:
    """A window over a row alone has the same stride both ways."""
    if m.grid[0] == 1 and m.weight.shape[2] == 1 and m.padding[0] == 0:
        return replace(m, stride=(m.stride[1], m.stride[1]))
    return m


def solid(m: LinearMap, is_map: bool) -> LinearMap:
    """A one-to-one map as synapses: a 1 x 1 window for each channel, or a matrix."""
    if not isinstance(m, Each):
        return squared(m) if isinstance(m, Window) else m
    if not is_map:
        return matrix("", m)
    channels = as_map(m.out_shape)[0]
    factor = per_channel(m.factor, m.out_shape)
    assert factor is not None
    return Window(m.in_shape, m.out_shape, factor.reshape(channels, 1, 1, 1), (1, 1), (0, 0), channels)


def ones(m: LinearMap) -> bool:
    """Whether signals pass as they are."""
    return isinstance(m, Each) and bool(np.all(np.asarray(m.factor) == 1.0))


def emitted_shape(shape: Shape, is_map: bool, wide: bool) -> tuple[int, ...]:
    """(positions, channels) of a map; (1, features) or (features,) of a flat layer."""
    if is_map:
        channels, height, width = as_map(shape)
        return height * width, channels
    return (1, size_of(shape)) if wide else (size_of(shape),)
