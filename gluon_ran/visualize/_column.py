"""What figures as wide as a journal's column share: colours, panels, ticks and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gluon_ran.visualize._figure import FAINT, INK, MUTED, new_figure

# The width of a column in inches, and a printer's dots an inch.
COLUMN, PRINT_DPI = 3.5, 300
SMALL_PT = 7
# Okabe and Ito's, but for the yellow, which is too pale for a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHORT = 22  # characters up to which labels stand in two columns


def column_figure(heights: Sequence[float]) -> tuple[Any, list[Any]]:
    """A figure as wide as a journal's column, with panels of these heights in inches."""
    gap, left = 0.14, 0.48
    total = sum(heights) + gap * (len(heights) - 1)
    figure = new_figure(COLUMN, total)
    axes, top = [], total
    for height in heights:
        place = (left / COLUMN, (top - height) / total, 1 - left / COLUMN, height / total)
        axes.append(figure.add_axes(place))
        top -= height + gap
    return figure, axes


def finish_axes(ax: Any, grid: str) -> None:
    """Small ticks, a faint grid across one axis, "x" or "y", and no box."""
    ax.tick_params(labelsize=SMALL_PT, color=MUTED, labelcolor=INK, length=2.5)
    ax.grid(axis=grid, color=FAINT, linewidth=0.5)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)


def legend_below(ax: Any) -> None:
    """Beneath the panel, where it hides nothing."""
    labels = ax.get_legend_handles_labels()[1]
    ax.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -31 / 72 / (ax.bbox.height / ax.figure.dpi)),
        ncol=2 if max(map(len, labels), default=0) <= _SHORT else 1, frameon=False,
        fontsize=SMALL_PT, labelcolor=INK, borderaxespad=0.0, borderpad=0.0, handlelength=2.2,
        labelspacing=0.35, columnspacing=1.5,
    )  # fmt: skip
