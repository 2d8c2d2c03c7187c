"""How encoded pictures of any size become a network's input, in training and in validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gluon_ran.data.colour import lighting_shift, recolour
from gluon_ran.data.dataset import DataError
from gluon_ran.data.normalization import Normalization
from gluon_ran.data.pictures import (
    check_choice,
    checked_size,
    crop_to_width,
    decode,
    resized_crop,
)

_TRIES = 10
# A picture may be decoded to twice what it is resized to, so that resizing still averages.
_SPARE = 2


class Choices(NamedTuple):
    """What chance decides about one picture of an epoch.

    Attributes:
        tries: from 0 to 1, (10, 2): area and aspect ratio of the crops that are tried.
        place: from 0 to 1, (2,): where the crop lies, across and down.
        mirrored: whether left and right are exchanged.
        factors: of brightness, contrast and saturation, (3,).
        order: in which these come, a permutation of 0, 1 and 2.
        lighting: what is added to red, green and blue, (3,).
    """

    tries: list
    place: list
    mirrored: bool
    factors: list
    order: list
    lighting: list


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop, flip, colour jitter and PCA lighting; the defaults are ImageNet's usual.

    The crop is that of Szegedy et al., "Going Deeper with Convolutions", 2014; lighting that of
    Krizhevsky, Sutskever and Hinton, 2012. Brightness, contrast and saturation come in random
    order; what they bring beyond black and white is kept. Resizing is bilinear and averages where
    it shrinks.

    Attributes:
        size: height and width to give, in pixels, or one side of a square.
        area: least and greatest share of the picture's area that the crop has.
        aspect: least and greatest width / height of the crop; its logarithm is uniform.
        flip: 'random' (left and right exchanged in half of the pictures) or 'none'.
        brightness: its factor is uniform from 1 - brightness to 1 + brightness.
        contrast: as `brightness`.
        saturation: as `brightness`.
        lighting: standard deviation of the amount of each principal component.

    Raises:
        DataError: a setting has no meaning.
    """

    size: int | tuple[int, int] = 224
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: str = "random"
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    lighting: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked_size(self.size))
        check_choice("flip", self.flip, ("none", "random"))
        for field, most in (("area", 1), ("aspect", math.inf)):
            low, high = getattr(self, field)
            if not 0 < low <= high <= most:
                raise DataError(f"{field} is {low} to {high}: give two rising numbers above 0"
                                + (" up to 1" if most == 1 else ""))  # fmt: skip
        for field in ("brightness", "contrast", "saturation", "lighting"):
            if not 0 <= getattr(self, field) <= 1:
                raise DataError(f"{field} must be 0 to 1, not {getattr(self, field)!r}")

    def choose(self, rng: np.random.Generator, count: int) -> list[Choices]:
        """Draws what chance decides about so many pictures."""
        uniform = rng.random((count, 2 * _TRIES + 9))
        tries, rest = uniform[:, : 2 * _TRIES].reshape(count, _TRIES, 2), uniform[:, 2 * _TRIES :]
        jitter = np.array([self.brightness, self.contrast, self.saturation])
        columns = (
            tries,
            rest[:, :2],
            rest[:, 2] < (0.5 if self.flip == "random" else 0),
            1 + jitter * (2 * rest[:, 3:6] - 1),
            rest[:, 6:].argsort(axis=1),
            lighting_shift(self.lighting * rng.standard_normal((count, 3))),
        )
        return list(map(Choices, *(column.tolist() for column in columns)))

    def __call__(
        self,
        encoded: bytes,
        where: object,
        choices: Choices,
        normalization: Normalization,
        out: np.ndarray,
    ) -> None:
        """Decodes a picture, crops and changes it.

        Args:
            encoded: the picture's file.
            where: the file, for messages.
            choices: of `choose`.
            normalization: with a mean a channel.
            out: float32, (3, *size), contiguous, to write to.

        Raises:
            DataError: the picture can't be decoded.
        """

        def least_side(size: tuple[int, int]) -> float:
            box = self.box(size, choices)
            return _SPARE * min(size) * max(
                self.size[0] / (box[3] - box[1]), self.size[1] / (box[2] - box[0])
            )  # fmt: skip

        picture = decode(encoded, where, at_least=least_side)
        box = self.box(picture.size, choices)
        pixels = crop_to_width(picture, box, self.size[1], choices.mirrored)
        recolour(pixels, *choices[3:], normalization, out)

    def box(self, size: tuple[int, int], choices: Choices) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the crop in a picture of `size`, width and height.

        It is the first of the ten tried that fits in, or else the largest in the middle whose
        aspect ratio is allowed.
        """
        width, height = size
        (small, large), (narrow, wide) = self.area, self.aspect
        for area, aspect in choices.tries:
            ratio = math.exp(math.log(narrow) + aspect * math.log(wide / narrow))
            pixels = (small + area * (large - small)) * width * height
            across, down = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < across <= width and 0 < down <= height:
                left = int(choices.place[0] * (width - across + 1))
                top = int(choices.place[1] * (height - down + 1))
                return left, top, left + across, top + down
        across = min(width, max(1, round(height * wide)))
        down = min(height, max(1, round(width / narrow)))
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down


@dataclass(frozen=True)
class ValidationTransform:
    """The middle of a picture whose shorter side is first brought to a length.

    Attributes:
        size: height and width to give, in pixels, or one side of a square.
        shorter_side: the length, in pixels, at least `size`; None: so much that a square of `size`
            is 87.5 % of it, as 224 of 256 and 320 of 366.

    Raises:
        DataError: a setting has no meaning.
    """

    size: int | tuple[int, int] = 224
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        size = checked_size(self.size)
        object.__setattr__(self, "size", size)
        if self.shorter_side is None:
            object.__setattr__(self, "shorter_side", round(max(size) / 0.875))
        elif self.shorter_side < max(size):
            raise DataError(
                f"a shorter side of {self.shorter_side} pixels has no crop of {size[0]}x{size[1]}: "
                "give a greater one, or a smaller size"
            )

    def choose(self, rng: np.random.Generator, count: int) -> list[None]:
        """Nothing is left to chance: None for each picture."""
        return [None] * count

    def __call__(
        self,
        encoded: bytes,
        where: object,
        choices: None,
        normalization: Normalization,
        out: np.ndarray,
    ) -> None:
        """Decodes a picture, resizes and crops it; see `TrainTransform`."""
        picture = decode(encoded, where, at_least=_SPARE * self.shorter_side)
        pixels = resized_crop(picture, self.box(picture.size), self.size)
        normalization(pixels[None], out[None])

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in a picture of `size`, of what its middle will be."""
        short = min(size)
        resized = [side * self.shorter_side // short for side in size]
        across, down = size[0] / resized[0], size[1] / resized[1]
        left, top = (resized[0] - self.size[1]) // 2, (resized[1] - self.size[0]) // 2
        return (
            left * across,
            top * down,
            min((left + self.size[1]) * across, size[0]),
            min((top + self.size[0]) * down, size[1]),
        )
