"""Resizes arrays linearly, by products with a matrix of weights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

from gluon_ran.data.dataset import DataError


def shrink(images: np.ndarray, edge: int) -> np.ndarray:
    """Square pictures at a smaller size, for the early epochs of a training run.

    Each pixel is a weighted mean of those it covers.

    Linear interpolation with a kernel as wide as the shrinking asks for, so that nothing aliases.

    Args:
        images: float32 (N, C, H, H).
        edge: height and width to give, in pixels, at most H.

    Returns:
        float32 (N, C, edge, edge); `images` itself where it has that size.

    Raises:
        DataError: the pictures are not square, or smaller than `edge`.
    """
    height, width = images.shape[2:]
    if height != width or edge > height:
        raise DataError(
            f"pictures of {height}x{width} can't shrink to {edge}x{edge}: progressive sizes are "
            "for square pictures that are at least as large"
        )
    if edge == height:
        return images
    weights = _weights(height, edge)
    return np.matmul(np.matmul(weights, images), weights.T)


def resize_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Brings an array to another number of rows, weighting them as Pillow's bilinear filter does.

    Args:
        rows: float32 (N, M).
        count: how many rows to give.

    Returns:
        float32 (count, M); `rows` itself where it has as many.
    """
    return rows if len(rows) == count else _sparse_weights(len(rows), count) @ rows


# Crops of a training set have as many heights as its pictures have rows.
@lru_cache(maxsize=2048)
def _sparse_weights(source: int, target: int) -> csr_matrix:
    return csr_matrix(_weights.__wrapped__(source, target))


@lru_cache(maxsize=8)
def _weights(source: int, target: int) -> np.ndarray:
    """(target, source) float32: rows of a triangle that sum to 1.

    Half of its base is the distance between two rows, or between two of those to give if that is
    greater.
    """
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centres) / max(scale, 1)
    weights = np.maximum(0, 1 - distances)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
