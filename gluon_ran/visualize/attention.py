"""What each attention module makes of a picture: before its mask, the mask, and behind it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran._files import atomic_path
from gluon_ran.visualize._figure import (
    INK,
    LABEL_PT,
    MUTED,
    SMALL_PT,
    TITLE_PT,
    new_figure,
    save_png,
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
    heat,
    panel_size,
    span,
    span_text,
    write_above,
)

_NAMES = ("before", "mask", "after")
_ROWS, _COLUMNS = 6, 12  # modules below each other, and panels beside each other, if they can be
_LABEL, _LINE, _BETWEEN = 0.45, 0.18, 0.2  # inches
_BARS = 1.0  # inches, of the title and the bars beside the picture


def attention_arrays(maps: Sequence[Any], channels: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """What each module makes of pictures, as arrays by name.

    Args:
        maps: (before, mask, after) of each module, each (N, C, h, w), as `net.attention` gives.
        channels: of each module, counted from 0, to give besides the means.

    Returns:
        For the module 1 `module1_before`, `module1_mask` and `module1_after`, float32 (N, h, w),
        the means over all channels; with channels also `module1_before_channels` and so on,
        (N, channels, h, w), and `channels` itself.

    Raises:
        ValueError: there is no module, or not all have these channels.
    """
    modules = _checked(maps, channels)
    arrays = {"channels": np.array(channels, np.int64)} if len(channels) else {}
    for number, module in enumerate(modules, 1):
        for name, values in zip(_NAMES, module):
            arrays[f"module{number}_{name}"] = values.mean(axis=1)
            if len(channels):
                arrays[f"module{number}_{name}_channels"] = values[:, list(channels)]
    return arrays


def save_attention_arrays(
    maps: Sequence[Any], path: str | os.PathLike[str], channels: Sequence[int] = ()
) -> None:
    """Writes `attention_arrays` as a compressed .npz file, at once or not at all.

    Raises:
        ValueError: see `attention_arrays`.
        OSError: the file can't be written.
    """
    arrays = attention_arrays(maps, channels)
    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def plot_attention(
    picture: np.ndarray,
    maps: Sequence[Any],
    path: str | os.PathLike[str],
    channels: Sequence[int] = (),
    title: str | None = None,
) -> None:
    """Draws what each module makes of a picture, a row a module (figure 1 of the paper).

    A row has the trunk's feature before the mask, the mask, and the feature behind it, as means
    over the channels, then the mask of each of the channels. Masks lie in colour over the picture
    in grey. The colours of each panel span the range that is written above it; the two features of
    a module share one, so that the mask's effect shows. The rows of deep networks go on beside the
    first ones.

    Args:
        picture: uint8 (H, W, 3), that of the maps, which may be larger than the network saw it.
        maps: (before, mask, after) of each module, each (1, C, h, w), as `net.attention` gives.
        path: the PNG; an older one is replaced.
        channels: of each module, counted from 0.
        title: what to write above it all.

    Raises:
        ValueError: there is no module, not one picture, or not all modules have these channels.
        OSError: the PNG can't be written.
    """
    save_png(_draw(picture, maps, channels, title), path)


def _draw(
    picture: np.ndarray, maps: Sequence[Any], channels: Sequence[int], title: str | None
) -> Any:
    check_pictures(picture, "H, W, 3")
    modules = _checked(maps, channels)
    if len(modules[0][0]) != 1:
        raise ValueError(f"the maps are of {len(modules[0][0])} pictures: give those of one")
    blocks = max(1, min(ceil(len(modules) / _ROWS), _COLUMNS // (len(_NAMES) + len(channels))))
    rows = ceil(len(modules) / blocks)
    width, height = panel_size(picture)
    head, row_height = max(height, _BARS) + _BETWEEN + _LINE, height + _LINE
    block_width = _LABEL + (len(_NAMES) + len(channels)) * (width + GAP)
    figure = new_figure(blocks * (block_width + _BETWEEN) - _BETWEEN, head + rows * row_height)
    _draw_head(figure, picture, title)
    for number, module in enumerate(modules):
        block, row = divmod(number, rows)
        place = block * (block_width + _BETWEEN) + _LABEL, head + row * row_height + _LINE
        _draw_module(figure, place, picture, module, channels, number + 1, first=row == 0)
    return figure


def _checked(maps: Sequence[Any], channels: Sequence[int]) -> list[list[np.ndarray]]:
    modules = [as_maps(module) for module in maps]
    if not modules:
        raise ValueError("the network has no attention module, so there is nothing to show")
    if any(len(each) != 3 or each[0].ndim != 4 or len({a.shape for a in each}) > 1
           for each in modules):  # fmt: skip
        raise ValueError("give before, mask and after of each module, as net.attention gives them")
    check_channels((module[0] for module in modules), channels)
    return modules


def _draw_head(figure: Any, picture: np.ndarray, title: str | None) -> None:
    """Draws the picture, and what the colours mean beside it."""
    size = width, height = panel_size(picture)
    ax = add_panel(figure, _LABEL, 0, size, picture)
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    if title:
        ax.annotate(title, (1, 1), xytext=(12, 0), fontsize=TITLE_PT, color=INK, parse_math=False,
                    **style)  # fmt: skip
    left, top = _LABEL + width + 12 / 72, _BARS - 2 * (BAR + _LINE)
    for over, meaning in (
        (False, "features, a range for each module"),
        (True, "masks, over the picture"),
    ):
        bar = add_bar(figure, left, top, width, over)
        bar.annotate(meaning, (1, 1), xytext=(6, 1), fontsize=SMALL_PT, color=MUTED, **style)
        top += BAR + _LINE


def _draw_module(
    figure: Any,
    place: tuple[float, float],
    picture: np.ndarray,
    module: Sequence[np.ndarray],
    channels: Sequence[int],
    number: int,
    first: bool,
) -> None:
    """Draws a module's row of panels, the first so many inches from the upper left corner."""
    mask = module[1][0]
    panels = [(name, values[0].mean(axis=0)) for name, values in zip(_NAMES, module)]
    panels += [(f"mask, channel {channel}", mask[channel]) for channel in channels]
    features = span(np.stack([panels[0][1], panels[2][1]]))
    size = width, _ = panel_size(picture)
    for column, (name, values) in enumerate(panels):
        over = name.startswith("mask")
        ends = span(values) if over else features
        image = (blend if over else heat)(picture, values, *ends)
        ax = add_panel(figure, place[0] + column * (width + GAP), place[1], size, image)
        write_above(ax, span_text(*ends))
        if first:
            write_above(ax, f"{name} the mask" if not over else name, 14, LABEL_PT)
        if column == 0:
            shape = "x".join(map(str, mask.shape))
            ax.set_ylabel(f"module {number}\n{shape}", fontsize=SMALL_PT, color=INK)
