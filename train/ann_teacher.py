"""A teacher of another kind: any classifier of images in an ONNX file, an ANN say, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikegate.errors import DeployError, first_line

FREE_BATCH = "export it with a free batch dimension, one image input [N, channels, height, width] and logits [N, classes] first"
KINDS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class OnnxNet:
    """Callable: uint8 images [batch, channels, height, width] to the file's first output, float [batch, classes], on the images' device.

    A float input gets pixels from 0 to 1 (divided by the data's largest value); mean and deviation belong into the file. A uint8 input
    gets them as they are.

    Raises
    ------
    DeployError
        What onnxruntime cannot load or run, another shape of images, another number of answers, answers that are no numbers.
    """

    def __init__(self, path: Path, image_shape: tuple[int, ...], classes: int, pixels: int) -> None:
        import onnxruntime

        if not path.is_file():
            raise DeployError("train.teacher", f"{path} is not there", "name an ONNX file, a finished run or zoo:<name>")
        self.path, self.pixels = path, pixels
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime raises classes of its own, which have nothing else in common
            raise DeployError("train.teacher", f"{path} cannot be loaded ({first_line(e)})", "name an ONNX classifier of images") from None
        inputs, shape = self.session.get_inputs(), list(image_shape)
        if len(inputs) != 1 or inputs[0].type not in KINDS or len(inputs[0].shape) != 4:
            its = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            problem = f"{path} takes {its or 'nothing'}, not one float or uint8 image input of four axes"
            raise DeployError("train.teacher", problem, FREE_BATCH)
        self.input = inputs[0]
        if len(shape) != 3 or any(isinstance(a, int) and a != b for a, b in zip(self.input.shape[1:], shape)):
            problem = f"{path} takes images {self.input.shape[1:]}, the data has {shape}"
            raise DeployError("train.teacher", problem, "name one of the same data set")
        for batch in (2, 3):
            answer = self(torch.zeros(batch, *shape, dtype=torch.uint8))
            if list(answer.shape) != [batch, classes]:
                problem = f"{path} answers {batch} images with {list(answer.shape)}, the data has {classes} classes"
                raise DeployError("train.teacher", problem, FREE_BATCH)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        images = x.detach().cpu().numpy()
        if KINDS[self.input.type] is np.float32:
            images = images.astype(np.float32) / np.float32(self.pixels)
        try:
            answer: Any = self.session.run(None, {self.input.name: np.ascontiguousarray(images)})[0]
        except Exception as e:  # as above
            raise DeployError("train.teacher", f"{self.path} cannot be run ({first_line(e)})", FREE_BATCH) from None
        if not (isinstance(answer, np.ndarray) and answer.dtype == np.float32 and np.isfinite(answer).all()):
            raise DeployError("train.teacher", f"the first output of {self.path} is not finite float32 numbers", FREE_BATCH)
        return torch.from_numpy(answer).to(x.device)
