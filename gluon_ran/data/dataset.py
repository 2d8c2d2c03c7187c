"""A whole split of labelled pictures in memory, and the error that every reader raises."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

# A ratio of the most to the least frequent class above which a run warns.
IMBALANCE = 10
_LISTED = 10


class DataError(ValueError):
    """Data that can't be used: says what is wrong, where it lies and what to do about it."""


class DiskError(OSError):
    """Data that could not be read this time, from a disk or network that fails."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A split of a data set, whole in memory.

    Attributes:
        images: uint8 pictures, (N, H, W, 3), RGB.
        labels: int32 classes, (N,), each from 0 to `num_classes` - 1.
        class_names: one name a class, in the order of the labels.

    Raises:
        DataError: an array has another type or shape, a label is out of range, or nothing is there.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DataError(
                f"pictures must be uint8 (N, H, W, 3), not {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            raise DataError("the data set holds no pictures: give at least one")
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise DataError(
                f"labels must be int32 ({len(images)},), one a picture, "
                f"not {labels.dtype} {labels.shape}"
            )
        check_labels(labels, self.num_classes, "the labels given")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has a picture."""
        return len(self.class_names)

    def subset(self, indices: np.ndarray | slice) -> Dataset:
        """The pictures at `indices` (anything that indexes an array), in that order."""
        return Dataset(self.images[indices], self.labels[indices], self.class_names)


def check_labels(labels: np.ndarray, num_classes: int, where: object) -> None:
    """Raises DataError where a label is outside 0 to `num_classes` - 1.

    Args:
        labels: integers, (N,).
        num_classes: how many classes the data set has.
        where: the file that the labels come from, for the message.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} of picture {wrong[0]} is outside 0 to "
            f"{num_classes - 1}; the file is damaged or belongs to another data set"
        )


def class_counts(dataset: Dataset) -> np.ndarray:
    """How many pictures each class has: integers, (num_classes,)."""
    return np.bincount(dataset.labels, minlength=dataset.num_classes)


def labels_checksum(*parts: Dataset) -> str:
    """SHA-256 of the labels of a data set's parts, in hexadecimal, which tells it from others."""
    return hashlib.sha256(b"".join(part.labels.tobytes() for part in parts)).hexdigest()


def describe_classes(dataset: Dataset) -> str:
    """How many pictures each class has, in one line.

    All are listed where there are up to 10 classes; else the least, the median and the most.
    """
    counts, names = class_counts(dataset), dataset.class_names
    total = f"{len(dataset)} pictures of {len(names)} classes"
    if counts.min() == counts.max():
        return f"{total}, {counts[0]} of each"
    if len(names) <= _LISTED:
        return f"{total}: " + ", ".join(f"{name} {n}" for name, n in zip(names, counts))
    least, most = counts.argmin(), counts.argmax()
    return (
        f"{total}: least {counts[least]} ({names[least]}), median {np.median(counts):g}, "
        f"most {counts[most]} ({names[most]})"
    )


def describe_imbalance(dataset: Dataset) -> str | None:
    """A warning where the most frequent class has over 10 times the pictures of the least."""
    counts, names = class_counts(dataset), dataset.class_names
    least, most = counts.argmin(), counts.argmax()
    if counts[most] <= IMBALANCE * counts[least]:
        return None
    return (
        f"the classes are out of balance, {counts[most]} pictures of {names[most]} against "
        f"{counts[least]} of {names[least]}: the accuracy says little about the rare ones, so "
        "look at each class's, or add pictures of those"
    )
