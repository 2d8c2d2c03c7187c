"""Scikit-learn's bundled handwritten digits: a small real data set that needs no network."""

from __future__ import annotations

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset

_SIDE = 8
_SCALE = 4
_FULL = 16  # the darkest ink in the source


def load_digits() -> tuple[Dataset, Dataset]:
    """Loads 1,437 digits to train and 360 to test, as 32x32 RGB pictures of white ink on black.

    The split is fixed: ordered by class, every fifth picture is for the test, so that each class
    has its share in both parts. The source is the test part of the UCI set "Optical Recognition
    of Handwritten Digits" (8x8 counts from 0 to 16), enlarged bilinearly.

    Raises:
        DataError: scikit-learn is missing or its digits have changed.
    """
    try:
        from sklearn.datasets import load_digits as load_source
    except ImportError as error:
        raise DataError(
            "the data set 'digits' comes with scikit-learn, which can't be imported "
            f"({error}): pip install scikit-learn, or choose another data set"
        ) from error
    source = load_source()
    counts, labels = source.images, source.target.astype(np.int32)
    if counts.shape != (1797, _SIDE, _SIDE) or counts.min() < 0 or counts.max() > _FULL:
        raise DataError(
            f"scikit-learn gives digits of another shape or range ({counts.shape}): use a "
            "version that bundles the 1,797 8x8 digits"
        )
    pictures = _enlarge(counts.astype(np.int64))
    names = tuple(str(digit) for digit in range(10))
    for_test = np.zeros(len(labels), bool)
    for_test[np.argsort(labels, kind="stable")[::5]] = True
    return (
        Dataset(pictures[~for_test], labels[~for_test], names),
        Dataset(pictures[for_test], labels[for_test], names),
    )


def _enlarge(counts: np.ndarray) -> np.ndarray:
    """Brings integer (N, 8, 8) counts to uint8 (N, 32, 32, 3), in integers so to the bit."""
    twice = 2 * _SCALE
    weights = np.zeros((_SIDE * _SCALE, _SIDE), np.int64)
    for row in range(_SIDE * _SCALE):
        # Centres of pixels, in units of 1 / twice of a source pixel.
        below, part = divmod(2 * row + 1 - _SCALE, twice)
        weights[row, max(below, 0)] += twice - part
        weights[row, min(below + 1, _SIDE - 1)] += part
    enlarged = weights @ counts @ weights.T
    full = _FULL * twice * twice
    grey = ((enlarged * 255 + full // 2) // full).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)
