"""Lines of several networks against a number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

from gluon_ran.visualize._column import (
    PALETTE,
    PRINT_DPI,
    SMALL_PT,
    column_figure,
    finish_axes,
    legend_below,
)
from gluon_ran.visualize._figure import INK, save_png

_MARKERS = "os^DvPX"


class Line(NamedTuple):
    """What is drawn of a network against a number.

    Attributes:
        label: in the legend.
        points: pairs of the number and the values of the runs there.
        published: pairs of the number and the published value there.
    """

    label: str
    points: tuple[tuple[float, tuple[float, ...]], ...] = ()
    published: tuple[tuple[float, float], ...] = ()


def plot_lines(
    lines: Sequence[Line], path: str | os.PathLike[str], labels: tuple[str, str]
) -> None:
    """Draws a line a network through the means of its runs, and each run as a point.

    Published values are hollow and joined by a thin broken line. A network has the same colour and
    marker in every figure with the same `lines` in the same order, those without points included.

    Args:
        lines: in the order of the legend.
        path: the PNG, as wide as a journal's column; an older one is replaced.
        labels: of both axes.

    Raises:
        ValueError: there is no point to draw.
        OSError: the PNG can't be written.
    """
    places = sorted({x for line in lines for x, _ in (*line.points, *line.published)})
    if not places:
        raise ValueError("there is no point to draw")
    figure, (ax,) = column_figure([2.3])
    for index, line in enumerate(lines):
        _draw_line(ax, line, PALETTE[index % len(PALETTE)], _MARKERS[index % len(_MARKERS)])
    finish_axes(ax, "y")
    ax.set_xticks(places, [f"{x:g}" for x in places])
    ax.margins(x=0.06, y=0.08)
    ax.set_xlabel(labels[0], fontsize=SMALL_PT + 1, color=INK)
    ax.set_ylabel(labels[1], fontsize=SMALL_PT + 1, color=INK)
    legend_below(ax)
    save_png(figure, path, PRINT_DPI)


def _draw_line(ax: Any, line: Line, colour: str, marker: str) -> None:
    style = {"color": colour, "marker": marker, "markersize": 5 if marker in "^Dv" else 4.2}
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.5}
    if line.points:
        means = [(x, mean(values)) for x, values in sorted(line.points)]
        each = [(x, value) for x, values in line.points for value in values]
        # The marker is for the legend alone: the points are the runs.
        ax.plot(*zip(*means), linewidth=1.2, markevery=[], label=line.label, **style, **edge)
        ax.plot(*zip(*each), linestyle="none", clip_on=False, **style, **edge)
    if line.published:
        ax.plot(
            *zip(*sorted(line.published)), linestyle=(0, (3, 2)), linewidth=0.8,
            markerfacecolor="white", label=f"{line.label}, published", **style,
        )  # fmt: skip
