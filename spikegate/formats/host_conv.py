"""One convolution of the host's embedding: whole numbers in float32, exact by a proven bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.synapses.synapse import conv_current, out_grid


def host_bound(weight: np.ndarray, bias: np.ndarray, pixels: int) -> int:
    """Largest |partial sum| that any image with values 0..pixels can cause."""
    edge = np.abs(bias.astype(np.int64)).reshape(len(bias), -1).max(1)
    return int((np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1) * pixels + edge).max())


@dataclass(frozen=True, eq=False)
class HostConv:
    r"""One convolution of pixels, ``y = floor((W * x + b) 2^-shift)``, and how it is laid into the map that is sent.

    With `parts` m, y goes out as ``floor((y + j) / m)`` for j = 0 .. m - 1, one after the other along the channels: they add up to
    y again (Hermite's identity). Then come `silent` channels of zeros, (before, after). With `fold` f the channels are laid over
    f x f positions each: channel ``(dy f + dx) n + c`` of position (Y, X) becomes channel c of position (Y f + dy, X f + dx), which
    `spikegate.ops.route` undoes on chip.

    Attributes
    ----------
    weight : int [out, in, kh, kw]; bias : int [out], or [out, height, width] (an offset of the pixels meets the padding's zeros)
    parts : a power of 2
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    stride: int
    padding: int
    parts: int = 1
    silent: tuple[int, int] = (0, 0)
    fold: int = 1

    @property
    def rows(self) -> int:
        """Channels before they are folded."""
        return len(self.weight) * self.parts + sum(self.silent)

    @property
    def channels(self) -> int:
        """Channels that are sent."""
        return self.rows // self.fold**2

    def encode(self, images: np.ndarray) -> np.ndarray:
        """What it sends for images uint8 [N, in, height, width], whole numbers [N, positions, channels]; the ONNX file does the same."""
        size, n = (images.shape[2], images.shape[3]), len(images)
        pixels = images.reshape(n, images.shape[1], -1).transpose(0, 2, 1)
        sums = conv_current(pixels, self.weight, size, self.stride, self.padding, 1)
        y = np.floor((sums + self.bias.reshape(len(self.weight), -1).T) * 2.0**-self.shift)
        y = np.concatenate([np.floor((y + j) / self.parts) for j in range(self.parts)], -1)
        y = np.pad(y, ((0, 0), (0, 0), self.silent))
        h, w = out_grid(size, self.weight.shape[2:], self.stride, self.padding)
        y = y.reshape(n, h, w, self.fold, self.fold, -1).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(n, h * w * self.fold**2, -1)
