"""How uint8 pictures become the float32 arrays that a network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset

_CHUNK = 1000
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Normalization:
    """(picture - mean) / std, on the scale of uint8 (0 to 255).

    Attributes:
        mean: float32, (3,), one a channel, or (H, W, 3), a mean picture.
        std: float32, (3,).

    Raises:
        DataError: a shape is another, a number is not finite, or a `std` is not above 0.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for field in ("mean", "std"):
            try:
                value = np.array(getattr(self, field), np.float32)
            except (TypeError, ValueError):
                raise DataError(f"normalisation: {field} must be an array of numbers") from None
            object.__setattr__(self, field, value)
        mean, std = self.mean, self.std
        if std.shape != (3,) or mean.ndim not in (1, 3) or mean.shape[-1] != 3:
            raise DataError(
                "normalisation: mean must be (3,) or (H, W, 3) and std (3,), "
                f"not {mean.shape} and {std.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise DataError("normalisation: mean and std must be finite and std above 0")

    @classmethod
    def imagenet(cls) -> Normalization:
        """That of ImageNet's channels, with the figures that torchvision and GluonCV have."""
        return cls(*(np.multiply(255, each) for each in (_IMAGENET_MEAN, _IMAGENET_STD)))

    @classmethod
    def channel(cls, dataset: Dataset) -> Normalization:
        """One mean and one standard deviation a channel, over all pixels of `dataset`."""
        picture, squares = _moments(dataset.images)
        mean = picture.mean(axis=(0, 1))
        return cls(mean, _deviation(squares - mean**2))

    @classmethod
    def per_pixel(cls, dataset: Dataset) -> Normalization:
        """The mean picture of `dataset`, and what deviates from it, one a channel."""
        picture, squares = _moments(dataset.images)
        return cls(picture, _deviation(squares - (picture**2).mean(axis=(0, 1))))

    @property
    def fill(self) -> np.ndarray:
        """The uint8 colour, (3,), that becomes zero or nearly so: borders and cutout have it."""
        return np.rint(self.mean.reshape(-1, 3).mean(axis=0)).astype(np.uint8)

    @property
    def scale(self) -> np.ndarray:
        """What a picture is multiplied by: float32, (3,)."""
        return 1 / self.std

    @property
    def shift(self) -> np.ndarray:
        """What is added behind that: float32, of the shape of `mean`."""
        return -self.mean * self.scale

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuses pictures of another height and width than a mean picture's.

        Raises:
            DataError: they differ.
        """
        if self.mean.ndim == 3 and self.mean.shape[:2] != tuple(size):
            raise DataError(
                f"pictures are normalised by a mean picture of {self.mean.shape[:2]}: take that "
                f"size, not {tuple(size)}"
            )

    def __call__(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Normalises uint8 (B, H, W, 3) pictures to float32 (B, 3, H, W), contiguous.

        Args:
            images: the pictures.
            out: float32 (B, 3, H, W) to write to and give back; None: a new array.

        Raises:
            DataError: the pictures have another type, or another size than the mean picture.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DataError(
                f"pictures must be uint8 (B, H, W, 3), not {images.dtype} {images.shape}"
            )
        if self.mean.ndim == 3 and images.shape[1:] != self.mean.shape:
            raise DataError(
                f"the mean picture is {self.mean.shape} and the pictures are {images.shape[1:]}: "
                "use the size trained on, or a mean per channel"
            )
        shift = self.shift
        planes = images.transpose(0, 3, 1, 2)
        if out is None:
            planes = np.ascontiguousarray(planes).astype(np.float32)
        else:
            np.copyto(out, planes)
            planes = out
        planes *= self.scale.reshape(3, 1, 1)
        planes += shift.transpose(2, 0, 1) if shift.ndim == 3 else shift.reshape(3, 1, 1)
        return planes

    def to_json(self) -> dict[str, list]:
        """The two arrays as nested lists, which json writes and reads back to the bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, fields: dict[str, list]) -> Normalization:
        """Undoes `to_json`.

        Raises:
            DataError: `fields` are others than `to_json` gives.
        """
        if not isinstance(fields, dict) or set(fields) != {"mean", "std"}:
            raise DataError("normalisation: the fields must be 'mean' and 'std'")
        return cls(**fields)


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean picture (H, W, 3) and the mean square a channel (3,), from exact integer sums."""
    total = np.zeros(images.shape[1:], np.int64)
    squares = np.zeros(images.shape[3], np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        total += chunk.sum(axis=0, dtype=np.uint32)
        wide = chunk.astype(np.uint16)
        wide *= wide
        squares += wide.sum(axis=0, dtype=np.uint32).sum(axis=(0, 1), dtype=np.int64)
    count, height, width, _ = images.shape
    return total / count, squares / (count * height * width)


def _deviation(variance: np.ndarray) -> np.ndarray:
    if not (variance > 1e-9).all():
        raise DataError(
            "the pictures of a channel are all alike, so they have no deviation to divide by: "
            "give other pictures"
        )
    return np.sqrt(variance)
