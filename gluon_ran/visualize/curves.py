"""Learning curves of a run: loss, accuracy and learning rate over its epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

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

# Orange and blue of Okabe and Ito's palette: apart for every kind of eye, and printed in grey.
_TRAIN, _VALIDATION = "#E69F00", "#0072B2"
_FEW = 40  # up to so many points each one is marked


def plot_curves(
    rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str | None = None
) -> None:
    """Draws a run's loss, top-1 accuracy and learning rate over its epochs, counted from 1.

    A value that is missing or None was not measured, and the line runs on to the next one; one that
    is not finite leaves a gap. The best and the final validation accuracy are marked.

    Args:
        rows: the run's metrics, an epoch each, with "epoch" (from 0) and any of "lr", "train_loss",
            "val_loss", "train_top1", "val_top1" (from 0 to 1). Of an epoch that is there twice, as
            after a resume, the later row counts.
        path: the PNG; an older one is replaced.
        title: what to write above.

    Raises:
        ValueError: there are no rows.
        OSError: the PNG can't be written.
    """
    if not rows:
        raise ValueError("no epoch is finished, so there is no curve to draw")
    by_epoch = {row["epoch"]: row for row in rows}
    rows = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    figure = new_figure(7.2, 6.5)
    loss, accuracy, rate = figure.subplots(
        3, sharex=True, gridspec_kw={"height_ratios": (10, 10, 3), "hspace": 0.22}
    )
    _draw_pair(loss, rows, "loss", 1.0)
    _draw_pair(accuracy, rows, "top1", 100.0)
    _draw_marks(accuracy, rows)
    _draw_rate(rate, rows)
    _finish(loss, "loss")
    _finish(accuracy, "top-1 accuracy (%)")
    _finish(rate, "learning\nrate")
    bottom, top = accuracy.get_ylim()
    accuracy.set_ylim(max(bottom, 0.0), min(top, 101.0))
    _finish_epochs(rate, rows)
    if title:
        set_title(loss, title, pad=22)
    figure.align_ylabels()
    save_png(figure, path)


def _series(
    rows: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    """Epochs from 1, and the values measured in them; what is not finite becomes NaN."""
    measured = [row for row in rows if row.get(key) is not None]
    values = [scale * row[key] if isfinite(row[key]) else nan for row in measured]
    return [row["epoch"] + 1 for row in measured], values


def _draw_line(ax: Any, epochs: list[int], values: list[float], **style: Any) -> None:
    marker = "o" if len(epochs) <= _FEW else None
    ax.plot(epochs, values, marker=marker, markersize=2.5, linewidth=1.3, **style)


def _draw_pair(ax: Any, rows: Sequence[Mapping[str, Any]], what: str, scale: float) -> None:
    for name, part, color in (("training", "train", _TRAIN), ("validation", "val", _VALIDATION)):
        epochs, values = _series(rows, f"{part}_{what}", scale)
        if any(map(isfinite, values)):
            _draw_line(ax, epochs, values, color=color, label=name)
        elif part == "train" or values:
            ax.plot([], [], color=color, label=f"{name} (no finite value)")


def _draw_marks(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, marker, (epoch, percent) in _marks(rows):
        ax.plot(
            [epoch],
            [percent],
            linestyle="none",
            marker=marker,
            markersize=6,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.1,
            label=f"{name} {percent:.2f} % (epoch {epoch})",
            zorder=3,
            clip_on=False,
        )


def _marks(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, tuple[int, float]]]:
    """Name, marker and place of the validation accuracies that matter."""
    epochs, values = _series(rows, "val_top1", 100.0)
    points = [point for point in zip(epochs, values) if isfinite(point[1])]
    if not points:
        return []
    last = points[-1]
    final = "final" if last[0] == rows[-1]["epoch"] + 1 else "last measured"
    # As everywhere, no epoch on shrunken pictures is the best.
    whole = {row["epoch"] + 1 for row in rows if row.get("size") is None}
    best = max((p for p in points if p[0] in whole), key=lambda point: point[1], default=None)
    if best is None:
        return [(final, "s", last)]
    if best == last:
        return [(f"best and {final}", "o", best)]
    return [("best", "o", best), (final, "s", last)]


def _draw_rate(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    epochs, values = _series(rows, "lr")
    _draw_line(ax, epochs, values, color=MUTED)
    known = sorted(filter(isfinite, values))
    # Steps by ten can't be told apart on a linear scale; a cosine looks odd on any other.
    if known and 0.0 < known[0] and known[len(known) // 4] < 0.12 * known[-1]:
        ax.set_yscale("log")
        ax.margins(y=0.2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    elif known:
        # Room above, or the axes cut the line of a rate that stays at its highest in half.
        ax.set_ylim(min(0.0, known[0]), 1.1 * known[-1] or None)


def _finish(ax: Any, label: str) -> None:
    """Labels, a faint grid and no box."""
    ax.set_ylabel(label, fontsize=LABEL_PT, color=INK)
    ax.tick_params(labelsize=SMALL_PT, color=MUTED, labelcolor=INK, which="both")
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    if not any(len(line.get_xdata()) for line in ax.lines):
        ax.set_yticks([])
    if ax.get_legend_handles_labels()[1]:
        # Above the panel, where no curve can run beneath it.
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncol=4,
            frameon=False,
            fontsize=SMALL_PT,
            labelcolor=INK,
            borderaxespad=0.2,
            borderpad=0.0,
            handlelength=1.5,
            columnspacing=1.2,
        )


def _finish_epochs(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = rows[0]["epoch"] + 1, rows[-1]["epoch"] + 1
    # Not further to the left: a tick at the epoch 0 would be one that never was.
    ax.set_xlim(first - 0.5, last + max(0.5, 0.015 * (last - first)))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch", fontsize=LABEL_PT, color=INK)
