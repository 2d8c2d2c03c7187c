"""The figure of soak.py: memory and open files of both runs over time, with the faults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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

# Okabe and Ito's blue and orange.
_COLOURS = {"quiet": "#0072B2", "hurt": "#E69F00"}
_LABELS = {"quiet": "never touched", "hurt": "hurt and started again"}


def by_process(samples: Sequence[Sequence[float]]) -> list[list[Sequence[float]]]:
    """The samples of each process of a run, in order of time."""
    processes: dict[float, list[Sequence[float]]] = {}
    for each in samples:
        processes.setdefault(each[1], []).append(each)
    return list(processes.values())


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws a result of soak.py.

    Args:
        result: has "samples" and "faults".
        path: the PNG; an older one is replaced.
    """
    figure = new_figure(7.0, 4.6)
    panels = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.3})
    for ax, column, title in ((panels[0], 2, "Resident memory, MiB"), (panels[1], 3, "Open files")):
        for name, colour in _COLOURS.items():
            _draw_run(ax, result["samples"][name], column, colour, _LABELS[name])
        for fault in result["faults"]:
            ax.axvline(fault["at"] / 60, color=FAINT, linewidth=0.6, zorder=0)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=SMALL_PT, colors=MUTED)
        ax.spines[["top", "right"]].set_visible(False)
        set_title(ax, title, 6)
    panels[0].legend(
        frameon=False, fontsize=SMALL_PT, ncol=2, loc="lower right", bbox_to_anchor=(1, 1)
    )
    panels[1].set_xlabel("minutes; each grey line is a fault", fontsize=LABEL_PT, color=INK)
    save_png(figure, path)


def _draw_run(ax: Any, samples: list[list[float]], column: int, colour: str, label: str) -> None:
    """A line a process, so that a restart is a gap."""
    for number, each in enumerate(by_process(samples)):
        ax.plot(
            [s[0] / 60 for s in each], [s[column] for s in each],
            color=colour, linewidth=1, label=label if number == 0 else None,
        )  # fmt: skip
