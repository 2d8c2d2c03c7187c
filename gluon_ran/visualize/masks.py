"""Soft masks over the pictures that they are of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gluon_ran.visualize._figure import (
    INK,
    LABEL_PT,
    MUTED,
    SMALL_PT,
    new_figure,
    save_png,
    set_title,
)

_CELL, _GAP = 1.35, 0.08  # inches
_SHARE = 0.6  # of the mask's colour in what is shown
_COLORS = "viridis"


def mean_masks(masks: Sequence[Any]) -> list[np.ndarray]:
    """The mean of each module's masks over their channels.

    Args:
        masks: an (N, C, h, w) array for each module, as `net.masks` gives them.

    Returns:
        A float32 (N, h, w) array for each module.
    """
    arrays = (mask.asnumpy() if hasattr(mask, "asnumpy") else mask for mask in masks)
    return [np.asarray(array, np.float32).mean(axis=1) for array in arrays]


def plot_masks(
    pictures: np.ndarray,
    masks: Sequence[Any],
    path: str | os.PathLike[str],
    names: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Draws pictures and, in a column a module, the mean of its soft mask over the channels.

    The mask lies in colour over the picture in grey. A column's colours span what its masks span,
    which is written above it: masks of one module often differ little.

    Args:
        pictures: uint8 (N, H, W, 3).
        masks: an (N, C, h, w) array for each module, as `net.masks` gives them.
        path: the PNG; an older one is replaced.
        names: what to write beside each picture, N or none.
        title: what to write above it all.

    Raises:
        ValueError: there is no module, or masks, names and pictures are not as many.
        OSError: the PNG can't be written.
    """
    means = mean_masks(masks)
    _check(pictures, means, names)
    rows, columns = len(pictures), len(means) + 1
    width, height = columns * _CELL, rows * _CELL
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1, wspace=_GAP, hspace=_GAP)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_color(MUTED)
    for row, picture in enumerate(pictures):
        axes[row, 0].imshow(picture, interpolation="nearest")
        if len(names):
            axes[row, 0].set_ylabel(str(names[row]), fontsize=SMALL_PT, color=INK, parse_math=False)
    _head(axes[0, 0], "picture")
    for column, mean in enumerate(means, 1):
        low, high = float(mean.min()), float(mean.max())
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(_blend(picture, mean[row], low, high), interpolation="nearest")
        _head(axes[0, column], f"module {column}\n{low:.2f} to {high:.2f}")
    if title:
        set_title(axes[0, 0], title, pad=34)
    save_png(figure, path)


def _check(pictures: np.ndarray, means: Sequence[np.ndarray], names: Sequence[str]) -> None:
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise ValueError(f"pictures are uint8 (N, H, W, 3), not {pictures.dtype} {pictures.shape}")
    if not means:
        raise ValueError("the network has no attention module, so there is no mask to draw")
    counts = {len(pictures), *map(len, means), len(names) or len(pictures)}
    if len(counts) != 1 or not len(pictures):
        raise ValueError(f"pictures, masks and names must be as many, not {sorted(counts)}")


def _head(ax: Any, text: str) -> None:
    # A title of its own would take the place of the figure's.
    ax.text(
        0.5, 1.04, text, transform=ax.transAxes, ha="center", va="bottom",
        fontsize=LABEL_PT if "\n" not in text else SMALL_PT, color=INK,
    )  # fmt: skip


def _blend(picture: np.ndarray, mask: np.ndarray, low: float, high: float) -> np.ndarray:
    """The mask, stretched from `low` to `high`, in colour over the picture in grey, uint8."""
    import matplotlib
    from PIL import Image

    size = picture.shape[1::-1]
    large = np.asarray(Image.fromarray(mask).resize(size, Image.BILINEAR))
    share = (large - low) / (high - low) if high > low else np.zeros_like(large)
    color = matplotlib.colormaps[_COLORS](np.clip(share, 0, 1))[..., :3] * 255
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None]
    return np.rint(_SHARE * color + (1 - _SHARE) * grey).astype(np.uint8)
