"""Wrong labels on purpose, as the paper trains with them (section 4.1, noisy label robustness)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset

# Keeps these random numbers apart from those of the batches, whatever the seed.
_STREAM = 4


def noisy_labels(labels: np.ndarray, num_classes: int, level: float, seed: int) -> np.ndarray:
    """Labels of which each is kept with probability 1 - `level`, else one of the other classes.

    That is the paper's transition matrix: 1 - `level` on the diagonal, and `level` spread evenly
    over the rest of each row.

    Args:
        labels: int32 (N,), each from 0 to `num_classes` - 1.
        num_classes: how many classes there are, at least two unless `level` is 0.
        level: 0 to 1.
        seed: the same labels, level and seed give the same result; of two levels the higher one
            changes what the lower one does, and more.

    Returns:
        int32 (N,).

    Raises:
        DataError: the level is out of range, or there is no other class.
    """
    if not 0 <= level <= 1:
        raise DataError(f"a level of label noise is from 0 to 1, not {level}")
    if level and num_classes < 2:
        raise DataError("label noise needs at least two classes")
    rng = np.random.default_rng((seed, _STREAM))
    wrong = rng.random(len(labels)) < level
    shift = rng.integers(1, max(num_classes, 2), len(labels))
    return np.where(wrong, (labels + shift) % num_classes, labels).astype(np.int32)


def with_label_noise(dataset: Dataset, level: float, seed: int) -> Dataset:
    """The data set with `noisy_labels`; the pictures are shared."""
    if not level:
        return dataset
    return replace(dataset, labels=noisy_labels(dataset.labels, dataset.num_classes, level, seed))
