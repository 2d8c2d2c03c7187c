"""Confusion matrix: which class is taken for which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gluon_ran.visualize._figure import (
    FAINT,
    INK,
    LABEL_PT,
    MUTED,
    SMALL_PT,
    new_figure,
    save_png,
    set_title,
)

_ANNOTATED = 20  # classes up to which each cell says its count
_NAMED = 200  # classes up to which each has its name beside it
_LONGEST_NAME = 26
_BAR_TICKS = (0, 1, 5, 10, 25, 50, 75, 100)


def plot_confusion(
    matrix: Any,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    title: str | None = None,
) -> None:
    """Draws a confusion matrix as a heat map; each row is shown as shares of its true class.

    Up to 20 classes the cells say their counts, up to 200 the classes are named. The colours follow
    the square root of the share, so that single confusions show. The title says the accuracy.

    Args:
        matrix: (C, C) counts; rows are the true classes, columns the predicted ones.
        class_names: C names.
        path: the PNG; an older one is replaced.
        title: what to write above the accuracy.

    Raises:
        ValueError: the matrix is not square, has negative counts or none at all, or has more or
            fewer rows than there are names.
        OSError: the PNG can't be written.
    """
    counts = _checked(matrix, class_names)
    classes = len(counts)
    side = classes * _cell_inches(classes)
    figure = new_figure(side, side)
    # The axes fill the figure: save_png keeps what lies beyond it, names of any length included.
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.ma.masked_invalid(
        np.divide(100.0 * counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    )
    image = _draw_shares(ax, shares)
    if classes <= _ANNOTATED:
        _draw_counts(ax, counts, shares)
    _draw_names(ax, class_names)
    _draw_bar(figure.add_axes((1.0 + 0.15 / side, 0.0, 0.14 / side, 1.0)), image)
    accuracy = f"overall accuracy {100.0 * np.trace(counts) / counts.sum():.2f} %"
    accuracy += f" (n = {counts.sum():,.0f})"
    set_title(ax, f"{title}\n{accuracy}" if title else accuracy, pad=8)
    save_png(figure, path)


def _checked(matrix: Any, class_names: Sequence[str]) -> np.ndarray:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix is square, and this one has the shape {counts.shape}")
    if len(class_names) != len(counts):
        raise ValueError(f"{len(counts)} classes can't have {len(class_names)} names")
    if (counts < 0).any() or not counts.sum() > 0:
        raise ValueError("a confusion matrix holds counts, and this one has negative ones or none")
    return counts


def _cell_inches(classes: int) -> float:
    if classes <= _ANNOTATED:
        return max(0.45, 3.0 / classes)
    return 0.14 if classes <= _NAMED else 14.0 / classes


def _draw_shares(ax: Any, shares: np.ma.MaskedArray) -> Any:
    import matplotlib
    from matplotlib.colors import PowerNorm

    # Bad is a class without pictures.
    colors = matplotlib.colormaps["Blues"].with_extremes(bad=FAINT)
    norm = PowerNorm(0.5, vmin=0.0, vmax=100.0)
    image = ax.imshow(shares, cmap=colors, norm=norm, interpolation="nearest")
    for spine in ax.spines.values():
        spine.set_color(MUTED)
    if len(shares) <= _ANNOTATED:
        between = np.arange(0.5, len(shares) - 1)
        ax.set_xticks(between, minor=True)
        ax.set_yticks(between, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.0)
        ax.tick_params(which="minor", length=0)
    return image


def _draw_counts(ax: Any, counts: np.ndarray, shares: np.ma.MaskedArray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        color = "white" if share > 40.0 else INK if count else "#999999"
        text = f"{count:.0f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=SMALL_PT, color=color)


def _draw_names(ax: Any, class_names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("predicted class", fontsize=LABEL_PT, color=INK)
    ax.set_ylabel("true class", fontsize=LABEL_PT, color=INK)
    ax.tick_params(labelsize=SMALL_PT, color=MUTED, labelcolor=INK)
    if len(class_names) > _NAMED:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        return
    names = [_shortened(str(name)) for name in class_names]
    style = {"fontsize": SMALL_PT if len(names) <= _ANNOTATED else 6.5, "parse_math": False}
    upright = len(names) > _ANNOTATED or max(map(len, names)) > 4
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0, **style)
    ax.set_yticks(range(len(names)), names, **style)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1].rstrip() + "…"


def _draw_bar(ax: Any, image: Any) -> None:
    bar = ax.figure.colorbar(image, cax=ax, ticks=_BAR_TICKS)
    bar.ax.set_yticklabels([str(tick) for tick in _BAR_TICKS])
    bar.set_label("share of the true class (%)", fontsize=LABEL_PT, color=INK)
    bar.ax.tick_params(labelsize=SMALL_PT, color=MUTED, labelcolor=INK)
    bar.ax.minorticks_off()
    bar.outline.set_edgecolor(MUTED)
