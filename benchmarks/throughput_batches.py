"""What all contenders of throughput.py get: one batch, one network's weights, one way to learn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

LEARNING = {"learning_rate": 0.01, "momentum": 0.9, "wd": 1e-4}
# Rounding errors grow from step to step, so the losses get the wider bound.
TOLERANCES = {"scores": 1e-4, "losses": 1e-3}
_STATISTICS = ("running_mean", "running_var")
ARRAYS, PARAMETERS, ONNX = "reference.npz", "network.params", "network.onnx"


def batch(count: int, picture: Sequence[int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise, the same in every process.

    Args:
        count: N.
        picture: (C, H, W).
        classes: how many there are.

    Returns:
        Float32 (N, C, H, W) images and int64 (N,) class numbers.
    """
    images = np.random.RandomState(0).standard_normal((count, *picture)).astype(np.float32)
    return images, np.arange(count, dtype=np.int64) % classes


def relative_difference(values: np.ndarray, expected: np.ndarray) -> float:
    """The greatest difference over the greatest expected value."""
    return float(abs(values - expected).max() / abs(expected).max())


def refuse_differences(found: Mapping[str, float]) -> None:
    """Takes nothing for the reference's equal that is not.

    Args:
        found: relative differences by name; of names that `TOLERANCES` lacks any will do.

    Raises:
        RuntimeError: says what differs by how much.
    """
    for name, bound in TOLERANCES.items():
        if not found.get(name, 0.0) <= bound:  # nor is what is no number
            raise RuntimeError(
                f"its {name} differ from those of our network in float32 by {found[name]:.2g} of "
                f"the greatest, more than {bound:g}: this is not the same computation"
            )


class Reference:
    """What throughput_reference.py wrote of a network: it computes with nothing but our float32.

    Attributes:
        folder: where the files are; `PARAMETERS` and `ONNX` are among them.
        images: float32 (N, C, H, W).
        targets: int64 (N,) class numbers.
        scores: (N, classes) of the images in inference.
        losses: mean losses of training steps on the images.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with np.load(folder / ARRAYS) as arrays:
            self._arrays = dict(arrays)
        self.images, self.targets = self._arrays["images"], self._arrays["targets"]
        self.scores, self.losses = self._arrays["scores"], self._arrays["losses"]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The Spec's fields."""
        return json.loads(str(self._arrays["spec"]))

    @property
    def classes(self) -> int:
        """Outputs of the classifier."""
        return self.scores.shape[1]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The network's arrays by structural name."""
        prefix = "weight:"
        return {k[len(prefix) :]: v for k, v in self._arrays.items() if k.startswith(prefix)}

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        trained = (a for name, a in self.weights.items() if not name.endswith(_STATISTICS))
        return sum(array.size for array in trained)

    def picture_shape(self, size: Sequence[int] | None = None) -> tuple[int, int, int]:
        """(C, H, W), of the reference's own size if none is given."""
        _, channels, *own = self.images.shape
        return (channels, *(size or own))
