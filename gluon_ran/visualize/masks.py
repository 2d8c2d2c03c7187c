"""Soft masks over the pictures that they are of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np

from gluon_ran.visualize._figure import (
    INK,
    LABEL_PT,
    SMALL_PT,
    as_array,
    new_figure,
    save_png,
    set_title,
)
from gluon_ran.visualize._panels import (
    BAR,
    GAP,
    add_bar,
    add_panel,
    as_maps,
    blend,
    check_channels,
    check_pictures,
    panel_size,
    span,
    span_text,
    write_above,
)

_PER_BAND = 6  # columns beside each other, besides the pictures, where a module has no more
_LINE = 0.16  # inches


def mean_masks(masks: Sequence[Any]) -> list[np.ndarray]:
    """The mean of each module's masks over their channels.

    Args:
        masks: an (N, C, h, w) array for each module, as `net.masks` gives them.

    Returns:
        A float32 (N, h, w) array for each module.
    """
    return [array.mean(axis=1) for array in as_maps(masks)]


def plot_masks(
    pictures: np.ndarray,
    masks: Sequence[Any],
    path: str | os.PathLike[str],
    names: Sequence[str] = (),
    title: str | None = None,
    channels: Sequence[int] = (),
) -> None:
    """Draws pictures and, in a column a module, the mean of its soft mask over the channels.

    The mask lies in colour over the picture in grey. A column's colours span what its masks span,
    which is written above it: masks of one module often differ little. The bar at the foot has the
    colours, over dark parts of a picture below and over bright ones above. Beyond six columns
    the next modules go on below, beside the same pictures.

    Args:
        pictures: uint8 (N, H, W, 3).
        masks: an (N, C, h, w) array for each module, as `net.masks` gives them.
        path: the PNG; an older one is replaced.
        names: what to write beside each picture, N or none.
        title: what to write above it all.
        channels: of each module, counted from 0, that get columns of their own behind the mean.

    Raises:
        ValueError: there is no module, masks, names and pictures are not as many, or not all
            modules have these channels.
        OSError: the PNG can't be written.
    """
    save_png(_draw(pictures, masks, names, title, channels), path)


def masks_image(
    pictures: np.ndarray, masks: Sequence[Any], channels: Sequence[int] = ()
) -> np.ndarray:
    """The figure of `plot_masks` as an array, for a screen: uint8 (height, width, 3)."""
    return as_array(_draw(pictures, masks, (), None, channels))


def _draw(
    pictures: np.ndarray,
    masks: Sequence[Any],
    names: Sequence[str],
    title: str | None,
    channels: Sequence[int],
) -> Any:
    arrays = as_maps(masks)
    _check(pictures, arrays, names)
    check_channels(arrays, channels)
    columns, of_each = list(_columns(arrays, channels)), 1 + len(channels)
    bands = ceil(len(arrays) / max(1, _PER_BAND // of_each))
    per_band = ceil(len(arrays) / bands) * of_each
    (width, height), head = panel_size(pictures), _LINE * (3 if len(channels) else 2) + GAP
    band_height = head + len(pictures) * (height + GAP)
    foot = bands * band_height
    figure = new_figure((per_band + 1) * (width + GAP), foot + BAR + _LINE)
    for band in range(bands):
        shown = columns[band * per_band : (band + 1) * per_band]
        _draw_band(figure, band * band_height + head, pictures, shown, names)
    add_bar(figure, width + GAP, foot, width, over=True)
    if title:
        set_title(figure.axes[0], title, pad=6 + 72 * (head - GAP))
    return figure


def _check(pictures: np.ndarray, masks: Sequence[np.ndarray], names: Sequence[str]) -> None:
    check_pictures(pictures, "N, H, W, 3")
    if not masks:
        raise ValueError("the network has no attention module, so there is no mask to draw")
    counts = {len(pictures), *map(len, masks), len(names) or len(pictures)}
    if len(counts) != 1 or not len(pictures):
        raise ValueError(f"pictures, masks and names must be as many, not {sorted(counts)}")


def _columns(
    masks: Sequence[np.ndarray], channels: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """What is written above each column, and its (N, h, w) maps."""
    for number, mask in enumerate(masks, 1):
        yield f"module {number}" + "\nmean" * bool(len(channels)), mask.mean(axis=1)
        for channel in channels:
            yield f"module {number}\nchannel {channel}", mask[:, channel]


def _draw_band(
    figure: Any,
    top: float,
    pictures: np.ndarray,
    columns: Sequence[tuple[str, np.ndarray]],
    names: Sequence[str],
) -> None:
    """Draws the pictures and some columns beside them, `top` inches below the figure's edge."""
    size = width, height = panel_size(pictures)
    for row, picture in enumerate(pictures):
        ax = add_panel(figure, 0, top + row * (height + GAP), size, picture)
        if len(names):
            ax.set_ylabel(str(names[row]), fontsize=SMALL_PT, color=INK, parse_math=False)
        if row == 0:
            write_above(ax, "picture", size=LABEL_PT)
    for column, (head, values) in enumerate(columns, 1):
        low, high = span(values)
        for row, picture in enumerate(pictures):
            place = column * (width + GAP), top + row * (height + GAP)
            ax = add_panel(figure, *place, size, blend(picture, values[row], low, high))
            if row == 0:
                write_above(ax, f"{head}\n{span_text(low, high)}")
