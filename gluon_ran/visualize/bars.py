"""Bars with a point for each run, and published values beside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

from gluon_ran.visualize._column import COLUMN, PALETTE, PRINT_DPI, SMALL_PT, finish_axes
from gluon_ran.visualize._figure import INK, MUTED, new_figure, save_png

_ROW, _SECOND = 0.40, 0.17  # inches: a label with its bar, and a second bar
_THICK = 0.13


class Bar(NamedTuple):
    """What is drawn of a network.

    Attributes:
        label: above the bar.
        values: one a run.
        published: what they stand beside, if there is something.
        mark: behind the published number.
    """

    label: str
    values: tuple[float, ...] = ()
    published: float | None = None
    mark: str = ""


def plot_bars(bars: Sequence[Bar], path: str | os.PathLike[str], label: str) -> None:
    """Draws the mean of each network's runs as a bar from 0, their range, and each as a point.

    A published value is a hollow bar beneath, with a broken edge where it has a mark.

    Args:
        bars: from top to bottom.
        path: the PNG, as wide as a journal's column; an older one is replaced.
        label: of the axis.

    Raises:
        ValueError: there is no value to draw.
        OSError: the PNG can't be written.
    """
    largest = max([x for b in bars for x in (*b.values, b.published or 0.0)], default=0.0)
    if not largest > 0:
        raise ValueError("there is no value above 0, so there is no bar to draw")
    tops = [0.0]
    for bar in bars:
        tops.append(tops[-1] + _ROW + (_SECOND if bar.values and bar.published else 0.0))
    figure = new_figure(COLUMN, tops[-1])
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_xlim(0.0, 1.2 * largest)  # room for the numbers
    ax.set_ylim(tops[-1] + 0.04, 0.0)
    for top, bar in zip(tops, bars):
        ax.text(0.0, top + 0.17, bar.label, fontsize=SMALL_PT + 0.5, color=INK, parse_math=False)
        _draw(ax, bar, top + 0.29, 0.02 * largest)
    ax.set_yticks([])
    finish_axes(ax, "x")
    ax.set_xlabel(label, fontsize=SMALL_PT + 1, color=INK)
    save_png(figure, path, PRINT_DPI)


def _draw(ax: Any, bar: Bar, y: float, gap: float) -> None:
    if bar.values:
        middle, low, high = mean(bar.values), min(bar.values), max(bar.values)
        ax.barh(y, middle, _THICK, color=PALETTE[0], alpha=0.45, linewidth=0)
        ax.plot([low, high], [y, y], color=INK, linewidth=0.9)
        ax.plot(
            bar.values, [y] * len(bar.values), "o", markersize=3.6, color=PALETTE[0],
            markeredgecolor="white", markeredgewidth=0.5, clip_on=False,
        )  # fmt: skip
        _number(ax, high + gap, y, f"{middle:.2f}")
        y += _SECOND
    if bar.published is not None:
        ax.barh(
            y, bar.published, _THICK - 0.02, facecolor="none", edgecolor=MUTED, linewidth=0.9,
            linestyle=(0, (3, 2)) if bar.mark else "-",
        )  # fmt: skip
        _number(ax, bar.published + gap, y, f"{bar.published:.2f}{bar.mark}")


def _number(ax: Any, x: float, y: float, text: str) -> None:
    ax.text(x, y, text, va="center", fontsize=SMALL_PT, color=INK, parse_math=False)
