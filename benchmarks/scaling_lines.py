"""The straight lines of scaling.py's points, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# What a sweep changes, and what a point's time and multiply-accumulates are counted by. At another
# batch size a picture costs the same multiply-accumulates, so there both are a batch's.
SWEEP_TITLES = {
    "depth": ("depth of cifar_attentionN", "picture"),
    "batch": ("batch of cifar_attention56_thin", "batch"),
    "size": ("picture's edge, cifar_attention56", "picture"),
    "imagenet_size": ("picture's edge, attention56", "picture"),
}


def coordinates(point: dict[str, Any]) -> tuple[float, float]:
    """10^9 multiply-accumulates and milliseconds of a point, see `SWEEP_TITLES`."""
    pictures = point["batch_size"]
    macs, seconds = point["macs"] * pictures, point["seconds_per_batch"]["median"]
    share = 1 if SWEEP_TITLES[point["sweep"]][1] == "batch" else pictures
    return macs / share / 1e9, 1e3 * seconds / share


def series(points: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Points by sweep, job and precision."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for point in points:
        key = (point["sweep"], point["job"], point["precision"])
        found.setdefault(key, []).append(point)
    return found


def lines(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The line of each series of at least three points."""
    return [
        {"sweep": sweep, "job": job, "precision": precision, **line(*zip(*map(coordinates, group)))}
        for (sweep, job, precision), group in series(points).items()
        if len(group) >= 3
    ]


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least squares y = intercept + slope x.

    Args:
        x: 10^9 multiply-accumulates.
        y: milliseconds.

    Returns:
        "ms_per_gmac", "intercept_ms", and "r2", the share of y's variance that the line explains.
    """
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (intercept + slope * np.asarray(x))
    r2 = 1 - rest.var() / np.var(y)
    return {"ms_per_gmac": float(slope), "intercept_ms": float(intercept), "r2": float(r2)}


def table(result: dict[str, Any]) -> str:
    """A result of scaling.py in Markdown: a row a point, then a row a line."""
    points, text = result["points"], []
    for sweep, (title, unit) in SWEEP_TITLES.items():
        columns = {
            k[1:]: {p["at"]: p for p in g} for k, g in series(points).items() if k[0] == sweep
        }
        if columns:
            text += [_points_table(title, columns), _lines_table(unit, sweep, result["lines"])]
    text += [f"Not in it: {_name(s)} ({s['reason']})." for s in result["skipped"]]
    return "\n\n".join(filter(None, text))


def _points_table(title: str, columns: dict[tuple[str, str], dict[int, dict[str, Any]]]) -> str:
    heads = [title, "GMAC a picture", *(f"{job}, {precision}, img/s" for job, precision in columns)]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for at in sorted({at for column in columns.values() for at in column}):
        found = [column.get(at) for column in columns.values()]
        macs = next(p["macs"] for p in found if p)
        rates = [f"{p['images_per_second']['median']:.1f}" if p else "-" for p in found]
        rows.append(f"| {at} | {macs / 1e9:.3f} | " + " | ".join(rates) + " |")
    return "\n".join(rows)


def _lines_table(unit: str, sweep: str, found: Sequence[dict[str, Any]]) -> str:
    mine = [entry for entry in found if entry["sweep"] == sweep]
    if not mine:
        return ""
    rows = [f"| line | ms a GMAC | ms a {unit} beside | R2 |", "|---|---:|---:|---:|"]
    for entry in mine:
        # The sum turns a rounded -0.0 into 0.0.
        beside = round(entry["intercept_ms"], 2) + 0.0
        numbers = f"{entry['ms_per_gmac']:.2f} | {beside:.2f} | {entry['r2']:.4f}"
        rows.append(f"| {entry['job']}, {entry['precision']} | {numbers} |")
    return "\n".join(rows)


def _name(entry: dict[str, Any]) -> str:
    at = f" at {entry['at']}" if "at" in entry else ""
    return f"{entry['sweep']}{at}, {entry['job']}, {entry['precision']}"
