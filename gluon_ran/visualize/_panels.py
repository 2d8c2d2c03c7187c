"""Panels of pictures and of what a network makes of them, in colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10
from typing import Any

import numpy as np

from gluon_ran.visualize._figure import INK, MUTED, SMALL_PT

GAP, BAR = 0.08, 0.14  # inches
COLORS = "viridis"
_WIDTH = 1.35  # inches
_SHARE = 0.6  # of the map's colour in what is shown over a picture


def as_maps(maps: Iterable[Any]) -> list[np.ndarray]:
    """Maps of MXNet or NumPy as float32."""
    arrays = (each.asnumpy() if hasattr(each, "asnumpy") else each for each in maps)
    return [np.asarray(array, np.float32) for array in arrays]


def check_channels(maps: Iterable[np.ndarray], channels: Sequence[int]) -> None:
    """Refuses channels that not all of the (N, C, h, w) maps have.

    Raises:
        ValueError: names them, and the widths.
    """
    widths = sorted({each.shape[1] for each in maps})
    outside = [str(channel) for channel in channels if not 0 <= channel < widths[0]]
    if outside:
        raise ValueError(
            f"not all modules have the channels {', '.join(outside)}: they are "
            f"{', '.join(map(str, widths))} channels wide; give channels from 0 to {widths[0] - 1}"
        )


def check_pictures(pictures: np.ndarray, shape: str) -> None:
    """Refuses what is not uint8 pictures of a shape, "N, H, W, 3" or "H, W, 3".

    Raises:
        ValueError: says what they are.
    """
    fits = pictures.ndim == shape.count(",") + 1 and pictures.shape[-1] == 3
    if not fits or pictures.dtype != np.uint8:
        raise ValueError(f"pictures are uint8 ({shape}), not {pictures.dtype} {pictures.shape}")


def panel_size(picture: np.ndarray) -> tuple[float, float]:
    """Width and height of the panels for pictures (..., H, W, 3), in inches."""
    height, width = picture.shape[-3:-1]
    return _WIDTH, _WIDTH * min(max(height / width, 0.5), 2.0)


def add_panel(figure: Any, left: float, top: float, size: tuple[float, float], image: Any) -> Any:
    """Shows an image in axes that begin so many inches from the figure's upper left corner."""
    (width, height), (whole_width, whole_height) = size, figure.get_size_inches()
    ax = figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height,
         width / whole_width, height / whole_height)
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(MUTED)
    ax.imshow(image, interpolation="antialiased")
    return ax


def write_above(ax: Any, text: str, points: float = 3.0, size: float = SMALL_PT) -> None:
    """Writes so many points above a panel."""
    ax.annotate(
        text, (0.5, 1), xycoords="axes fraction", xytext=(0, points), textcoords="offset points",
        ha="center", va="bottom", fontsize=size, color=INK,
    )  # fmt: skip


def span(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest of the values."""
    return float(values.min()), float(values.max())


def add_bar(figure: Any, left: float, top: float, width: float, over: bool) -> Any:
    """Draws the colours from the least to the greatest, so many inches from the upper left corner.

    Args:
        figure: from `new_figure`.
        left: inches.
        top: inches.
        width: inches.
        over: those of a map over a picture, whose grey rises from the bar's foot to its head.
    """
    share = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(32, 0)
    grey = np.linspace(255, 0, 32).astype(np.uint8)[:, None, None].repeat(256, 1).repeat(3, 2)
    image = blend(grey, share, 0, 1) if over else heat(grey, share, 0, 1)
    ax = add_panel(figure, left, top, (width, BAR), image)
    ax.set_aspect("auto")
    for text, x, align in (("least", 0, "left"), ("greatest", 1, "right")):
        ax.annotate(
            text, (x, 0), xycoords="axes fraction", xytext=(0, -3), textcoords="offset points",
            ha=align, va="top", fontsize=SMALL_PT, color=MUTED,
        )  # fmt: skip
    return ax


def span_text(low: float, high: float) -> str:
    """A span, with two decimals, or as many as tell its ends apart, and no wider than a panel."""
    greatest = max(abs(low), abs(high))
    if greatest >= 1e4 or 0 < greatest < 1e-3:
        return f"{low:.3g} to {high:.3g}"
    decimals = 2
    if isfinite(high - low) and high > low:
        decimals = min(max(1 - floor(log10(high - low)), 2), 6)
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def colored(values: np.ndarray, size: tuple[int, int], low: float, high: float) -> np.ndarray:
    """An (h, w) map, stretched from `low` to `high`, in colours: (H, W, 3), 0 to 255.

    Args:
        values: float32.
        size: H and W, in pixels.
        low: what has the darkest colour.
        high: what has the brightest; where there is nothing between them, all has the middle one.
    """
    import matplotlib
    from PIL import Image

    if isfinite(high - low) and high > low:
        share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    else:
        share = np.full_like(values, 0.5)
    large = np.asarray(Image.fromarray(share).resize(size[::-1], Image.BILINEAR))
    return matplotlib.colormaps[COLORS](large)[..., :3] * 255


def heat(picture: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A map in colours, see `colored`, as large as the picture: uint8 (H, W, 3)."""
    return np.rint(colored(values, picture.shape[:2], low, high)).astype(np.uint8)


def blend(picture: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A map in colours, see `colored`, over the picture in grey: uint8 (H, W, 3)."""
    from PIL import Image

    color = colored(values, picture.shape[:2], low, high)
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None]
    return np.rint(_SHARE * color + (1 - _SHARE) * grey).astype(np.uint8)
