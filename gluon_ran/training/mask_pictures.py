"""The soft masks over a few test pictures, as a run's events show them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.training.epoch import shrunk
from gluon_ran.training.monitor import stretched
from gluon_ran.training.recipe import Recipe
from gluon_ran.training.step import Stepper
from gluon_ran.visualize import masks_image

from mxnet.gluon import HybridBlock

_PICTURES = 4


def check_mask_period(
    period: int, net: HybridBlock, validation: Iterable | None, validation_period: int
) -> None:
    """Refuses to show masks where there are none, or no pictures to show them over.

    Raises:
        ValueError: says which, or that a period is too low, or masks due between validations.
    """
    if validation_period < 1:
        raise ValueError(f"validation_period is {validation_period}: give a number from 1")
    if period % validation_period:
        raise ValueError(
            f"masks can't be shown behind every {period} epochs where every {validation_period} "
            f"are validated: give a multiple of {validation_period}"
        )
    if period < 0:
        raise ValueError(f"mask_period is {period}: give a number from 0")
    if not period:
        return
    if not isinstance(net, ResidualAttentionNet) or not any(net.spec.modules):
        raise ValueError(
            "the network has no attention modules, so it has no masks to show: leave the mask "
            "period at 0"
        )
    if validation is None:
        raise ValueError(
            "masks are shown over test pictures, and there are none: give validation batches, or "
            "leave the mask period at 0"
        )


class MaskPictures:
    """Draws the masks of a network over the same test pictures, behind some of the epochs.

    Args:
        period: draw behind every so many epochs, and the last one; 0 never does.
        recipe: tells the last epoch, and the size of each one's pictures.
    """

    def __init__(self, period: int, recipe: Recipe) -> None:
        self._period, self._recipe = period, recipe
        self._images: dict[int, np.ndarray] = {}

    def take(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keeps the first picture of each of the first four classes that it is given.

        Of an ordered test set the first pictures are all of one class.

        Args:
            images: float32 (N, C, H, W), at their own size.
            labels: integers, (N,).
        """
        if not self._period:
            return
        for image, label in zip(images, labels.tolist()):
            if len(self._images) == _PICTURES:
                return
            if label not in self._images:
                self._images[label] = image.copy()

    def due(self, epoch: int) -> bool:
        """Whether to draw behind an epoch, from 0."""
        last = epoch + 1 == self._recipe.epochs
        return self._period > 0 and (last or (epoch + 1) % self._period == 0)

    def draw(self, epoch: int, stepper: Stepper) -> np.ndarray:
        """The figure behind an epoch, from 0, at that epoch's size: uint8 (height, width, 3)."""
        images = np.stack(list(self._images.values()))
        masks = stepper.masks(shrunk(images, epoch, self._recipe))
        if images.shape[1] != 3:
            images = images.mean(axis=1, keepdims=True).repeat(3, axis=1)
        pictures = np.rint(255 * stretched(images)).astype(np.uint8)
        return masks_image(pictures.transpose(0, 2, 3, 1), masks)
