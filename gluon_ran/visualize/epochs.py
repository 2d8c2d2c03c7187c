"""Training curves of several networks: loss and test error over the epochs of their runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isfinite
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
from gluon_ran.visualize._figure import INK, MUTED, save_png, set_title

_WIDE = 5  # a ratio of the highest to the lowest value
_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))


class Curve(NamedTuple):
    """What is drawn of a network over its epochs.

    Attributes:
        label: in the legend.
        runs: each run's metrics, a row an epoch.
    """

    label: str
    runs: tuple[Sequence[Mapping[str, Any]], ...]


def plot_epochs(
    curves: Sequence[Curve],
    path: str | os.PathLike[str],
    title: str | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draws the training loss and the test error of networks over their epochs.

    A thick line is the mean over a network's runs, thin ones are the runs. Epochs on shrunk
    pictures are grey, with the edge in pixels, where they are the same ones in all runs. Values
    that span more than a factor of five have a logarithmic axis.

    Args:
        curves: in the order of the legend.
        path: the PNG, as wide as a journal's column; an older one is replaced.
        title: what to write above.
        limits: lowest and highest "train_loss" and "val_top1", from `epoch_limits`, for figures
            that are to be compared; those of these curves if None.

    Raises:
        ValueError: there is no epoch.
        OSError: the PNG can't be written.
    """
    rows = [row for curve in curves for run in curve.runs for row in run]
    if not rows:
        raise ValueError("no epoch is finished, so there is no curve to draw")
    figure, axes = column_figure([1.5, 1.9])
    for ax, (key, label) in zip(
        axes, (("train_loss", "training loss"), ("val_top1", "test error (%)"))
    ):
        for index, curve in enumerate(curves):
            _draw_curve(ax, curve, key, index)
        finish_axes(ax, "y")
        ax.set_ylabel(label, fontsize=SMALL_PT + 1, color=INK)
        low, high = (limits or epoch_limits(curves)).get(key, (0.0, 1.0))
        _scale(ax, low, high)
        _draw_sizes(ax, curves)
    _finish_epochs(axes, max(row["epoch"] for row in rows) + 1)
    if title:
        set_title(axes[0], title, pad=6)
    figure.align_ylabels()
    legend_below(axes[1])
    save_png(figure, path, PRINT_DPI)


def epoch_limits(curves: Sequence[Curve]) -> dict[str, tuple[float, float]]:
    """What `plot_epochs` needs to draw parts of these curves at one scale."""
    limits = {}
    for key in ("train_loss", "val_top1"):
        values = [y for curve in curves for run in curve.runs for _, y in _series(run, key)]
        if values:
            limits[key] = (min(values), max(values))
    return limits


def _scale(ax: Any, low: float, high: float) -> None:
    """Limits a little beyond; a logarithm where long runs would end in one line at the bottom."""
    if 0 < _WIDE * low < high:
        ax.set_yscale("log")
        ticks = [f * 10.0**n for n in range(-4, 4) for f in (1, 2, 5)]
        ax.set_yticks([t for t in ticks if low / 1.2 <= t <= high * 1.2])
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_ylim(low / 1.1, high * 1.1)
    else:
        margin = 0.06 * (high - low) or 0.5
        ax.set_ylim(low - margin, high + margin)


def _series(run: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Epochs from 1 and what was measured in them; of an accuracy the error, in per cent."""
    found = [(row["epoch"] + 1, row.get(key)) for row in run]
    known = [(x, y) for x, y in found if y is not None and isfinite(y)]
    return [(x, 100 * (1 - y)) for x, y in known] if key == "val_top1" else known


def _draw_curve(ax: Any, curve: Curve, key: str, index: int) -> None:
    colour = PALETTE[index % len(PALETTE)]
    style = _STYLES[index // len(PALETTE) % len(_STYLES)]
    runs = [dict(_series(run, key)) for run in curve.runs]
    if len(runs) > 1:
        for run in filter(None, runs):
            ax.plot(*zip(*run.items()), linewidth=0.6, color=colour, alpha=0.5)
    shared = sorted(set.intersection(*map(set, runs))) if runs else []
    means = [mean(run[epoch] for run in runs) for epoch in shared]
    marker = "o" if len(shared) <= 12 else None
    ax.plot(
        shared, means, color=colour, linestyle=style, linewidth=1.3, marker=marker, markersize=2.5,
        label=curve.label,
    )  # fmt: skip


def _draw_sizes(ax: Any, curves: Sequence[Curve]) -> None:
    every = {tuple(row.get("size") for row in run) for curve in curves for run in curve.runs}
    if len(every) != 1:
        return
    (sizes,) = every
    for size in filter(None, dict.fromkeys(sizes)):
        epochs = [epoch for epoch, each in enumerate(sizes, 1) if each == size]
        edges = epochs[0] - 0.5, epochs[-1] + 0.5
        ax.axvspan(*edges, color=INK, alpha=0.05, linewidth=0, zorder=0.4)
        ax.axvline(edges[1], color="white", linewidth=1, zorder=0.5)
        ax.text(
            sum(edges) / 2, 0.03, f"{size} px", transform=ax.get_xaxis_transform(),
            ha="center", va="bottom", fontsize=SMALL_PT, color=MUTED,
        )  # fmt: skip


def _finish_epochs(axes: Sequence[Any], last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for ax in axes:
        ax.set_xlim(0.5, last + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes[0].set_xticklabels([])
    axes[-1].set_xlabel("epoch", fontsize=SMALL_PT + 1, color=INK)
