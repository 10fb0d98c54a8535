"""SVG text by hand: shapes, labels, axes, pixel images. Colours are classes of templates/figure.css, so that dark mode and print work."""

from __future__ import annotations

import base64
import math
import re
import struct
import zlib
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np

WIDTH = 360.0  # user units of a figure: on a phone one unit is about one pixel, so labels are legible there
SIZE = 10.5  # of labels
EM = 0.56  # mean width of a letter, of its size; system fonts differ, so nothing is placed tighter than this
STYLE = Path(__file__).parent / "templates" / "figure.css"


def num(value: float) -> str:
    """A coordinate: two places at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def wide(text: str, size: float = SIZE) -> float:
    """Estimated width of a text."""
    return EM * size * len(text)


def fit(text: str, width: float, size: float = SIZE) -> str:
    """The text, cut so that it fits a width."""
    most = max(1, int(width / (EM * size)))
    return text if len(text) <= most else text[: max(1, most - 1)] + "\u2026"


def ident(text: str) -> str:
    """A name as it may stand in an id or a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


class Canvas:
    """Collects shapes; `svg` gives the text. `x`, `y` grow to the right and down."""

    def __init__(self, height: float, width: float = WIDTH) -> None:
        self.width, self.height = width, height
        self.parts: list[str] = []

    def rect(self, x: float, y: float, w: float, h: float, cls: str, *, tip: str = "", opacity: float | None = None) -> None:
        """A rectangle; `tip` is shown on hover."""
        more = "" if opacity is None else f' fill-opacity="{num(opacity)}"'
        body = f'<rect class="{cls}" x="{num(x)}" y="{num(y)}" width="{num(max(0, w))}" height="{num(max(0, h))}"{more}'
        self.parts.append(f"{body}><title>{escape(tip)}</title></rect>" if tip else f"{body}/>")

    def line(self, x0: float, y0: float, x1: float, y1: float, cls: str, *, width: float | None = None, tip: str = "",
             opacity: float | None = None) -> None:
        more = "" if width is None else f' stroke-width="{num(width)}"'
        more += "" if opacity is None else f' stroke-opacity="{num(opacity)}"'
        body = f'<line class="{cls}" x1="{num(x0)}" y1="{num(y0)}" x2="{num(x1)}" y2="{num(y1)}"{more}'
        self.parts.append(f"{body}><title>{escape(tip)}</title></line>" if tip else f"{body}/>")

    def path(self, d: str, cls: str, *, tip: str = "") -> None:
        if d:
            self.parts.append(f'<path class="{cls}" d="{d}">' + (f"<title>{escape(tip)}</title>" if tip else "") + "</path>")

    def text(self, x: float, y: float, text: str, cls: str = "t", *, anchor: str = "start", size: float = SIZE,
             within: float | None = None) -> None:
        """A label on the baseline y; cut to `within` units, the whole then shown on hover."""
        shown = text if within is None else fit(text, within, size)
        tip = "" if shown == text else f"<title>{escape(text)}</title>"
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text class="{cls}" x="{num(x)}" y="{num(y)}" font-size="{num(size)}"{end}>{escape(shown)}{tip}</text>')

    def image(self, x: float, y: float, w: float, h: float, address: str) -> None:
        place = f'x="{num(x)}" y="{num(y)}" width="{num(w)}" height="{num(h)}"'
        self.parts.append(f'<image {place} href="{address}" preserveAspectRatio="none"/>')

    def raw(self, text: str) -> None:
        self.parts.append(text)

    def legend(self, items: Iterable[tuple[str, str]], y: float = 9.0) -> float:
        """Squares of a class beside their names, wrapped; returns the height used."""
        x, top = 0.0, y
        for cls, name in items:
            width = 12 + wide(name, 9.5) + 9
            if x and x + width > self.width:
                x, y = 0.0, y + 14
            self.rect(x, y - 8, 9, 9, cls)
            self.text(x + 12, y, name, size=9.5)
            x += width
        return y - top + 14

    def svg(self, name: str, alt: str) -> str:
        """The picture with its alt text."""
        head = f'<svg viewBox="0 0 {num(self.width)} {num(self.height)}" role="img" aria-label="{escape(alt)}" data-name="{escape(name)}">'
        return head + "".join(self.parts) + "</svg>"


def standalone(svg: str) -> str:
    """A figure as a file of its own, with its colours."""
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE.read_text()}</style>{rest}\n'


def ticks(top: float, most: int = 5) -> list[float]:
    """Round values from 0 up to `top`."""
    if top <= 0:
        return [0.0]
    rough = top / most
    base = 10 ** math.floor(math.log10(rough))
    step = next(m * base for m in (1, 2, 2.5, 5, 10) if m * base >= rough * (1 - 1e-9))
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


def axis(c: Canvas, x: float, width: float, top: float, y0: float, y1: float, label: str) -> None:
    """Grid lines from y0 to y1 at round values between 0 and `top`, numbers and a label below."""
    values = ticks(top, 4)
    for v in values:
        at = x + width * v / top if top else x
        c.line(at, y0, at, y1, "grid")
        c.text(at, y1 + 11, f"{v:g}", "s", anchor="middle" if v else "start", size=9.5)
    c.text(x + width, y1 + 24, label, "s", anchor="end", size=9.5, within=c.width)


def png(pixels: np.ndarray) -> str:
    """Pixels uint8 [H, W, 3] as a PNG data address."""
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def picture(image: np.ndarray, side: int = 96) -> str:
    """An image, uint8 [C, H, W], as a PNG data address of about `side` pixels; other than 1 or 3 channels are averaged.

    Enlarged here, pixel by pixel, because browsers smooth an image that is used more than once.
    """
    grey = image if image.shape[0] in (1, 3) else image.mean(0, keepdims=True).astype(np.uint8)
    pixels = np.broadcast_to(grey, (3, *image.shape[1:])).transpose(1, 2, 0)
    factor = max(1, side // max(image.shape[1:]))
    return png(np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1)))


def runs_of(row: np.ndarray) -> list[tuple[int, int]]:
    """(first, length) of each run of True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2])]
