"""Makes batches of normalised pictures smaller, for the early epochs of a training run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gluon_ran.data.dataset import DataError


def shrink(images: np.ndarray, edge: int) -> np.ndarray:
    """Square pictures at a smaller size, each pixel a weighted mean of those it covers.

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


@lru_cache(maxsize=8)
def _weights(source: int, target: int) -> np.ndarray:
    """(target, source) float32: rows of a triangle of half-width source / target, summing to 1."""
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centres) / scale
    weights = np.maximum(0, 1 - distances)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
