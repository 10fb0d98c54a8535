"""The non-spiking input embedding as ONNX on the host: integer-exact in float32, proven by its bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikegate.engine.arguments import as_array
from spikegate.files import write_bytes
from spikegate.formats.host_conv import HostConv as HostConv
from spikegate.formats.host_conv import host_bound as host_bound
from spikegate.formats.host_file import AGAIN, Embedding, taken_apart
from spikegate.graph.ir import DeployError
from spikegate.reading import limits
from spikegate.synapses.synapse import FLOAT_EXACT

VALUES = 1 << 24  # numbers that the images of one call take


def write_host(
    path: Path,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    shift: int,
    low: int,
    high: int,
    stride: int,
    padding: int,
    image_shape: tuple[int, int, int],
    pixels: int,
    more: Sequence[HostConv] = (),
) -> int:
    r"""Write ``clip(floor((W * x + b) 2^-shift), low, high)`` for uint8 images as ONNX; returns the proven bound.

    Parameters
    ----------
    weight, bias, shift, stride, padding : see `HostConv`
    image_shape : (channels, height, width); pixels : largest value of an image
    more : further convolutions, whose channels come after; folded, they have as many positions

    Raises
    ------
    DeployError
        If a partial sum could reach 2^24, where float32 stops to be exact.
    """
    import onnx

    made = Embedding([HostConv(weight, bias, shift, stride, padding), *more], low, high, image_shape, pixels)
    if made.bound >= FLOAT_EXACT:
        raise DeployError(
            "embedding", f"its sums can reach {made.bound}, float32 is exact below {FLOAT_EXACT}", "lower the stem's weights or its fan-in"
        )
    model = made.model()
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())
    return made.bound


class Host:
    """Runs an exported embedding in onnxruntime (one thread, CPU)."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        size = limits.file_size(Path(path), AGAIN)
        limits.check_bytes(str(path), size, size)
        found = taken_apart(Path(path).read_bytes(), str(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(found.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.pixels, self.image_shape = found.pixels, tuple(found.image_shape)
        self.most = max(1, VALUES // found.values)

    def encode(self, images: np.ndarray, chunk: int = 256) -> np.ndarray:
        """Embed uint8 images [N, channels, height, width]; returns int32 [N, positions, channels].

        Raises
        ------
        DeployError
            For anything but uint8 images of the trained shape and value range.
        """
        images = as_array("images", images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise DeployError(
                "images",
                f"are {images.dtype} {list(images.shape)}, the embedding takes uint8 [N, {', '.join(map(str, self.image_shape))}]",
                "use the data set that the net was trained on",
            )
        if images.size and int(images.max()) > self.pixels:
            raise DeployError("images", f"hold values up to {int(images.max())}, trained on 0..{self.pixels}", "rescale the images")
        step = min(chunk, self.most)
        parts: list[np.ndarray] = [self.session.run(None, {"image": images[i : i + step]})[0] for i in range(0, len(images), step)]
        sent: np.ndarray = np.concatenate(parts)
        return sent
