"""Halting maps: which tokens of an image each block still processes, at each timestep, drawn over the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import Canvas, ident, num, picture, runs_of

MAIN = 150.0  # units; the picture above
GAP = 2.0


@dataclass(frozen=True)
class Card:
    """One image. `main` holds a layer for each (timestep, block), of which a slider shows one; `sheet` holds all of them side by side."""

    main: str
    sheet: str
    caption: str
    remark: str
    right: bool


@dataclass(frozen=True)
class Maps:
    """The cards of a run, and what its slider runs through."""

    name: str
    label: str
    cards: list[Card]
    frames: list[str]
    start: int
    merges: bool


def maps(view: RunView) -> Maps | None:
    """The maps of a run's example images; None where nothing halts, no image is at hand, or tokens are no places of the image."""
    record, manifest = view.main.record, view.net.manifest
    images = view.examples.images
    height, width = manifest["grid"]
    if not record.gates or not len(images) or record.alive.shape[3] != height * width:
        return None
    index = view.examples.index
    alive = record.processed[index]
    steps, blocks = alive.shape[1:3]
    frames = [f"timestep {t + 1}, block {b + 1}" for t in range(steps) for b in range(blocks)]
    names = {k: str(v) for k, v in enumerate(manifest["labels"])}
    cards = []
    bright = drawable(images)
    for k, (i, image) in enumerate(zip(index, bright)):
        masks = alive[k].reshape(steps, blocks, height, width)
        predicted = names.get(int(record.prediction[i]), str(record.prediction[i]))
        truth = "" if record.labels is None else names.get(int(record.labels[i]), str(record.labels[i]))
        exits = int(record.exit_step[i])
        share = f"{digits(100 * float(masks.mean()))} %"
        what = f"Image {i + 1}, {'a ' + truth if truth else 'class not known'}, taken for {predicted}"
        name = f"{ident(view.label)}-{i + 1}"
        right = not truth or truth == predicted
        cards.append(Card(
            _main(image, masks, exits, f"map-{name}", f"{what}. The slider lays halted tokens over it."),
            _sheet(image, masks, exits, f"sheet-{name}", f"{what}. {_told(masks, exits)}"),
            predicted if right else f"{predicted} (is {truth})", f"{share} of cells, {exits} of {steps} timesteps", right,
        ))
    return Maps(ident(view.label), view.label, cards, frames, _first_halted(alive), "token_merge" in record.kinds)


def drawable(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, C, H, W] with the brightest pixel at 255; of recordings [N, T, 2, H, W] their events: off red, on green."""
    if images.ndim == 5:
        events = images.sum(1, dtype=np.int64)
        images = np.stack([events[:, 0], events[:, 1], np.zeros_like(events[:, 0])], 1)
    return (images * (255 / max(1, int(images.max())))).astype(np.uint8)  # digits, for instance, have 17 grey levels


def _first_halted(alive: np.ndarray) -> int:
    """Frame, from 1, in which some image [K, T, blocks, tokens] has lost a token; the last one if none ever does."""
    some = ~alive.all((0, 3)).ravel()
    return int(some.argmax()) + 1 if some.any() else some.size


def dead_path(alive: np.ndarray, x: float, y: float, size: float) -> str:
    """Rectangles over the tokens [H, W] that are not alive; the picture's longer side is `size`."""
    one = size / max(alive.shape)
    return "".join(
        f"M{num(x + a * one)} {num(y + r * one)}h{num(n * one)}v{num(one)}h{num(-n * one)}z"
        for r, row in enumerate(alive) for a, n in runs_of(~row)
    )


def _main(image: np.ndarray, masks: np.ndarray, exits: int, name: str, alt: str) -> str:
    steps, blocks, height, width = masks.shape
    w, h = MAIN * width / max(height, width), MAIN * height / max(height, width)
    c = Canvas(h, w)
    c.image(0, 0, w, h, picture(image))
    for t in range(steps):
        for b in range(blocks):
            mask = masks[t, b] if t < exits else np.zeros_like(masks[t, b])
            c.raw(f'<g class="frame" data-frame="{t * blocks + b + 1}"><path class="halted" d="{dead_path(mask, 0, 0, MAIN)}"/></g>')
    for k in range(1, width):
        c.line(w * k / width, 0, w * k / width, h, "cut", opacity=0.5)
    for k in range(1, height):
        c.line(0, h * k / height, w, h * k / height, "cut", opacity=0.5)
    return c.svg(name, alt)


def _sheet(image: np.ndarray, masks: np.ndarray, exits: int, name: str, alt: str) -> str:
    """Rows are timesteps, columns blocks; a timestep after the exit stays empty."""
    steps, blocks, height, width = masks.shape
    left, top = 14.0, 10.0
    size = max(12.0, (MAIN - left) / blocks - GAP)
    w, h = size * width / max(height, width), size * height / max(height, width)
    c = Canvas(top + steps * (h + GAP), left + blocks * (w + GAP))
    key = f"{name}-image"
    c.raw(f'<defs><image id="{key}" width="{num(w)}" height="{num(h)}" href="{picture(image)}" preserveAspectRatio="none"/></defs>')
    for b in range(blocks):
        c.text(left + b * (w + GAP) + w / 2, 7.5, f"block {b + 1}" if w > 40 else str(b + 1), "s", anchor="middle", size=8)
    for t in range(steps):
        y = top + t * (h + GAP)
        c.text(0, y + h / 2 + 3, f"t{t + 1}", "s", size=8)
        for b in range(blocks):
            x = left + b * (w + GAP)
            if t >= exits:
                c.rect(x, y, w, h, "box")
                continue
            c.raw(f'<use href="#{key}" x="{num(x)}" y="{num(y)}"/>')
            c.path(dead_path(masks[t, b], x, y, size), "halted")
    return c.svg(name, alt)


def _told(masks: np.ndarray, exits: int) -> str:
    """The maps in words."""
    tokens = masks.shape[2] * masks.shape[3]
    parts = [f"timestep {t + 1}: {' and '.join(str(int(masks[t, b].sum())) for b in range(masks.shape[1]))}" for t in range(exits)]
    return f"Of {tokens} tokens the blocks process, {'; '.join(parts)}."
