"""The figures of paper.py's report: errors, curves and confusion matrices, each a PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from paper_collect import MARKS, Entry, Table, who_published
from paper_experiments import Row

from gluon_ran.data.cifar import CIFAR
from gluon_ran.visualize import (
    Bar,
    Curve,
    Line,
    epoch_limits,
    plot_bars,
    plot_confusion,
    plot_epochs,
    plot_lines,
)

_ERROR = "test error (%)"


class Figure(NamedTuple):
    """A figure that lies on the disk.

    Attributes:
        path: the PNG.
        alt: what it shows, in words.
        caption: what stands beneath it.
    """

    path: Path
    alt: str
    caption: str


class _Axis(NamedTuple):
    """How the errors of an experiment are drawn against a number: its name, and a row's place."""

    label: str
    place: Callable[[Row], tuple[str, float]]


def _depth(row: Row) -> tuple[str, float]:
    depth = int(re.search(r"\d+", row.model.partition("_")[2]).group())
    if "resnet" in row.model:
        return "ResNet", depth
    return f"Attention, {row.spec.get('learning', 'residual')} learning", depth


def _noise(row: Row) -> tuple[str, float]:
    return row.label.partition(",")[0], 100 * row.recipe.get("label_noise", 0.0)


_AXES = {
    "learning": _Axis("depth (layers)", _depth),
    "label-noise": _Axis("wrong training labels (%)", _noise),
    "depth-cifar10": _Axis("depth (layers)", _depth),
    "depth-cifar100": _Axis("depth (layers)", _depth),
}


def _axis(table: Table) -> _Axis | None:
    """What errors are drawn against, if there is something and rows differ in it."""
    axis = _AXES.get(table.experiment.name)
    places = {axis.place(each.row)[1] for each in table.entries} if axis else ()
    return axis if len(places) > 1 else None


def drawn_as_bars(table: Table) -> bool:
    """Whether a table's errors are bars, which are flat, and not lines against a number."""
    return _axis(table) is None


# Curves that would crowd one figure, by what stands ahead of a comma in their labels.
_CROWD = 9


def draw_errors(table: Table, folder: Path) -> list[Figure]:
    """Draws a table's errors, the paper's apart where they are not comparable; none of one row."""
    drawn = [_errors(table, folder, True)] if len(table.entries) > 1 else []
    published = [each for each in table.entries if each.row.published]
    if len(published) > 1 and not table.budget.comparable:
        drawn.append(_errors(table, folder, False))
    return drawn


def _errors(table: Table, folder: Path, ours: bool) -> Figure:
    part, caption = ("errors", _ours_caption) if ours else ("paper", _paper_caption)
    path = folder / f"{table.budget.name}-{table.experiment.name}-{part}.png"
    axis = _axis(table)
    theirs, label = table.budget.comparable or not ours, _ERROR if ours else f"published {_ERROR}"
    if axis is None:
        plot_bars(_bars(table.entries, ours, theirs), path, label)
    else:
        plot_lines(_lines(table.entries, axis, ours, theirs), path, (axis.label, label))
    return Figure(path, _alt(table, ours), caption(table))


def _ours_caption(table: Table) -> str:
    counts = sorted({len(each.results) for each in table.entries})
    text = f"Ours, budget “{table.budget.name}”: one run each."
    if counts != [1]:
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        drawn = "a bar is their mean" if drawn_as_bars(table) else "lines join their means"
        text = f"Ours, budget “{table.budget.name}”: a point a run, {many} of a network; {drawn}."
    if table.budget.comparable and any(each.row.published for each in table.entries):
        text += f" Hollow: the {who_published(table)}’s."
    return text


def _paper_caption(table: Table) -> str:
    return (
        f"For scale only: the {who_published(table)}’s, trained in full. The axis is not that of "
        "our errors."
    )


def _bars(entries: Sequence[Entry], ours: bool, theirs: bool) -> list[Bar]:
    bars = []
    for each in entries:
        paper = each.row.published if theirs else None
        if ours or paper:
            number, mark = (paper.error, MARKS[paper.origin]) if paper else (None, "")
            bars.append(Bar(each.label, each.errors if ours else (), number, mark))
    return bars


def _lines(entries: Sequence[Entry], axis: _Axis, ours: bool, theirs: bool) -> list[Line]:
    """A line a network, those without points too: for the same colours in both figures."""
    found: dict[str, tuple[list, list]] = {}
    for each in entries:
        label, place = axis.place(each.row)
        label += each.label[len(each.row.label) :]  # another precision
        points, published = found.setdefault(label, ([], []))
        if ours:
            points.append((place, each.errors))
        if theirs and each.row.published:
            published.append((place, each.row.published.error))
    return [Line(label, tuple(p), tuple(q)) for label, (p, q) in found.items()]


def _alt(table: Table, ours: bool) -> str:
    values = [error for each in table.entries for error in each.errors]
    if not ours:
        values = [each.row.published.error for each in table.entries if each.row.published]
    axis = _axis(table)
    return (
        f"{table.experiment.title}: {'our' if ours else 'the published'} test errors"
        f"{f' against {axis.label}' if axis else ''}, from {min(values):.2f} to {max(values):.2f} "
        "per cent; the numbers are in the table"
    )


def draw_curves(table: Table, folder: Path) -> list[Figure]:
    """Draws loss and error by epoch; where networks are many, in several figures at one scale.

    Runs of one epoch have no curve.
    """
    if all(len(result["epochs"]) == 1 for each in table.entries for result in each.results):
        return []
    groups: dict[str, list[tuple[Curve, Entry]]] = {}
    for each in table.entries:
        head, _, rest = each.label.partition(", ")
        group, label = (head, rest) if len(table.entries) >= _CROWD else ("", each.label)
        curve = Curve(label or head, tuple(result["epochs"] for result in each.results))
        groups.setdefault(group, []).append((curve, each))
    every = [curve for members in groups.values() for curve, _ in members]
    drawn = []
    for group, members in groups.items():
        stem = f"{table.budget.name}-{table.experiment.name}-curves"
        path = folder / f"{stem}{'-' if group else ''}{_file_name(group)}.png"
        curves = [curve for curve, _ in members]
        plot_epochs(curves, path, group or None, epoch_limits(every))
        caption = _curves_caption([each for _, each in members])
        names = ", ".join(curve.label for curve in curves)
        about = f"{group}: {names}" if group else names
        drawn.append(Figure(path, f"Training loss and test error by epoch of {about}", caption))
    return drawn


def _curves_caption(entries: Sequence[Entry]) -> str:
    results = [result for each in entries for result in each.results]
    text = "Training loss, and error on the whole test set behind each epoch"
    if any(len(each.results) > 1 for each in entries):
        text += "; thick: mean over the runs, thin: each run"
    if any(row.get("size") for result in results for row in result["epochs"]):
        text += ". Grey: epochs trained and tested on pictures shrunk to so many pixels"
    return text + "."


def draw_confusion(name: str, results: Sequence[dict[str, Any]], folder: Path) -> Figure:
    """Draws the confusion matrix of one training's seeds together."""
    counts = np.sum([result["confusion"] for result in results], axis=0)
    dataset, budget = results[0]["dataset"], results[0]["budget"]
    known = CIFAR[dataset].class_names if dataset in CIFAR else ()
    names = known if len(known) == len(counts) else list(map(str, range(len(counts))))
    path = folder / f"{budget}-confusion-{_file_name(name)}.png"
    plot_confusion(counts, names, path, f"{name}, {budget}")
    runs = "one run" if len(results) == 1 else f"{len(results)} runs together"
    return Figure(path, f"Confusion matrix of {name}, {runs}", f"{runs[0].upper()}{runs[1:]}.")


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-")
