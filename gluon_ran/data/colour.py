"""Colour jitter, lighting and normalisation of a picture as one affine map of its colours."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from gluon_ran.data.normalization import Normalization
from gluon_ran.data.resize import resize_rows

# Luma of ITU-R BT.601, as Pillow, OpenCV and MXNet weigh red, green and blue.
_GREY = np.array([0.299, 0.587, 0.114])

# Principal components of ImageNet's colours, on the scale of uint8: a column each, times the root
# of its variance (Krizhevsky, Sutskever and Hinton, 2012; the numbers are those that MXNet has).
_LIGHT = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * [55.46, 4.794, 1.148]

# Pixels of a product, nine multiplications each: for more than 2**18 of these OpenBLAS calls other
# threads, and the pictures have a thread each already.
_PIXELS = 2**14

_thread = threading.local()

BRIGHTNESS, CONTRAST, SATURATION = range(3)


def lighting_shift(amounts: np.ndarray) -> np.ndarray:
    """What PCA lighting adds to each colour: (N, 3), from how much of each component, (N, 3)."""
    return amounts @ _LIGHT.T


def jitter_map(
    factors: Sequence[float], order: Sequence[int], mean_grey: float
) -> tuple[np.ndarray, float]:
    """The colour map that brightness, contrast and saturation are together.

    Brightness b multiplies all by b, contrast c keeps the mean grey and multiplies what differs
    from it by c, saturation s does so for each pixel and its own grey.

    Args:
        factors: of brightness, contrast and saturation, (3,); 1 changes nothing.
        order: in which they are applied: a permutation of 0, 1 and 2.
        mean_grey: of the picture before.

    Returns:
        matrix (3, 3) and shift: a colour becomes matrix @ colour + shift.
    """
    # The map is x -> own * x + grey * grey(x) + shift all along.
    own, grey, shift = 1.0, 0.0, 0.0
    for which in order:
        factor = factors[which]
        if which == SATURATION:
            grey = factor * grey + (1 - factor) * (own + grey)
            own *= factor
            continue
        mean = (own + grey) * mean_grey + shift
        own, grey, shift = factor * own, factor * grey, factor * shift
        if which == CONTRAST:
            shift += (1 - factor) * mean
    return own * np.eye(3) + grey * _GREY, shift


def recolour(
    pixels: np.ndarray,
    factors: Sequence[float],
    order: Sequence[int],
    lighting: Sequence[float],
    normalization: Normalization,
    out: np.ndarray,
) -> None:
    """Brings a picture to a height, changes its colours and normalises them.

    Args:
        pixels: uint8, (N, W, 3).
        factors: of brightness, contrast and saturation, (3,).
        order: of these, see `jitter_map`.
        lighting: what is added to each colour behind them, (3,).
        normalization: with a mean a channel.
        out: float32, (3, H, W), contiguous, to write to.
    """
    rows = _scratch(pixels.size).reshape(len(pixels), -1)
    np.copyto(rows, pixels.reshape(rows.shape))
    # Whole numbers below 2**24, so exact however they are added.
    columns = rows.sum(axis=0).reshape(-1, 3)
    mean_grey = columns.sum(axis=0, dtype=np.float64) @ _GREY * 3 / pixels.size
    matrix, shift = jitter_map(factors, order, mean_grey)
    scale = normalization.scale
    matrix = (scale[:, None] * matrix).astype(np.float32)
    shift = scale * (shift + np.array(lighting)) + normalization.shift
    shift = shift.astype(np.float32)[:, None]
    planes, colours = out.reshape(3, -1), resize_rows(rows, out.shape[1]).reshape(-1, 3)
    for start in range(0, len(colours), _PIXELS):
        part = planes[:, start : start + _PIXELS]
        np.matmul(matrix, colours[start : start + _PIXELS].T, out=part)
        part += shift


def _scratch(size: int) -> np.ndarray:
    """Float32 (size,) that each thread has one of, since new memory costs time."""
    if len(getattr(_thread, "scratch", ())) < size:
        _thread.scratch = np.empty(size, np.float32)
    return _thread.scratch[:size]
