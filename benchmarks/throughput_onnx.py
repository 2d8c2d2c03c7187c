"""The ONNX Runtime contender of throughput.py: runs the ONNX file of our network."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import throughput_protocol as protocol
from throughput_batches import ONNX, Reference, batch, refuse_differences, relative_difference


class OnnxEngine(protocol.Engine):
    """A session on the CPU, all of ONNX Runtime's optimizations on, as it comes."""

    def build(self) -> None:
        """The session, and a batch."""
        a = self.arguments
        self._reference = Reference(a.reference)
        options = onnxruntime.SessionOptions()
        # It does not read OMP_NUM_THREADS, which all others go by.
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        self._session = onnxruntime.InferenceSession(
            str(a.reference / ONNX), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._images, _ = batch(a.batch_size, self._reference.picture_shape(), 1)

    def start(self) -> np.ndarray:
        """Scores of the batch."""
        return self._scores(self._images)

    def _scores(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]

    def number(self, started: np.ndarray) -> float:
        """The greatest score."""
        return float(abs(started).max())

    def describe(self) -> dict[str, Any]:
        """Versions, threads and shape."""
        return {
            "parameters": self._reference.parameters,
            "shape": self._images.shape,
            "threads": self._session.get_session_options().intra_op_num_threads,
            "versions": protocol.versions("onnxruntime", "numpy"),
        }

    def check(self) -> dict[str, float]:
        """Scores of the reference's pictures."""
        scores = self._scores(self._reference.images)
        found = {"scores": relative_difference(scores, self._reference.scores)}
        refuse_differences(found)
        return found


ENGINE = OnnxEngine
