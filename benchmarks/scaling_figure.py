"""The figure of scaling.py: time against multiply-accumulates, with the straight lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling_lines import SWEEP_TITLES, coordinates, series

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

# Okabe and Ito's orange and blue.
COLOURS = {"float32": "#E69F00", "bfloat16": "#0072B2"}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws a result of scaling.py: a column of panels a sweep, a row a job.

    Args:
        result: has "points" and "lines".
        path: the PNG; an older one is replaced.
    """
    found = series(result["points"])
    sweeps = [sweep for sweep in SWEEP_TITLES if any(key[0] == sweep for key in found)]
    jobs = list(dict.fromkeys(key[1] for key in found))
    figure = new_figure(3.4 * len(sweeps), 2.9 * len(jobs))
    panels = figure.subplots(
        len(jobs), len(sweeps), squeeze=False, gridspec_kw={"hspace": 0.55, "wspace": 0.3}
    )
    fits = {(entry["sweep"], entry["job"], entry["precision"]): entry for entry in result["lines"]}
    for row, job in enumerate(jobs):
        for column, sweep in enumerate(sweeps):
            ax, (title, unit) = panels[row][column], SWEEP_TITLES[sweep]
            for precision, colour in COLOURS.items():
                key = (sweep, job, precision)
                if key in found:
                    _draw_series(ax, found[key], fits.get(key), precision, colour)
            set_title(ax, title, 6)
            _finish(ax, unit, job)
    save_png(figure, path)


def _draw_series(
    ax: Any, points: list[dict[str, Any]], fit: dict[str, Any] | None, precision: str, colour: str
) -> None:
    places = [coordinates(point) for point in points]
    label = precision if fit is None else f"{precision}, R² {fit['r2']:.4f}"
    ax.plot(*zip(*places), "o", color=colour, markersize=4, label=label)
    _write_numbers(ax, [point["at"] for point in points], places)
    if fit is not None:
        ends = [0.0, max(x for x, _ in places)]
        heights = [fit["intercept_ms"] + fit["ms_per_gmac"] * x for x in ends]
        ax.plot(ends, heights, color=colour, linewidth=1)


def _write_numbers(ax: Any, numbers: list[int], places: list[tuple[float, float]]) -> None:
    """Beside the points what the sweep changes, but for those that crowd at the origin."""
    widest = max(x for x, _ in places)
    for number, place in zip(numbers, places):
        if place[0] > 0.1 * widest:
            ax.annotate(
                number, place, (4, -7), textcoords="offset points",
                fontsize=SMALL_PT - 2, color=MUTED,
            )  # fmt: skip


def _finish(ax: Any, unit: str, job: str) -> None:
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"10⁹ multiply-accumulates a {unit}", fontsize=LABEL_PT, color=INK)
    ax.set_ylabel(f"{job}, ms a {unit}", fontsize=LABEL_PT, color=INK)
    ax.tick_params(labelsize=SMALL_PT, colors=MUTED)
    ax.grid(color=FAINT, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=SMALL_PT, loc="upper left")
