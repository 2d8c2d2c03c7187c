"""Compares training runs of one network in different precisions: losses and accuracies by epoch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provenance import RESULTS, provenance, write_json
from record_run import finished_rows

from gluon_ran.training import RunDirectory, RunError

# What runs that are compared may differ in.
_FREE = ("dtype",)
_OF_DATA = ("dataset", "weights", "freeze", "hold_out")


def curve(run: RunDirectory) -> dict[str, Any]:
    """A finished run's precision, and what each of its epochs gave.

    Raises:
        RunError: it has not finished.
    """
    rows = finished_rows(run)
    keys = ("train_loss", "train_top1", "val_loss", "val_top1", "images_per_second")
    return {
        "dtype": run.recipe.dtype,
        "epochs": [{key: row[key] for key in keys} for row in rows],
        "losses": [round(loss, 5) for row in rows for loss in row["losses"]],
    }


def compared(runs: Sequence[RunDirectory]) -> dict[str, Any]:
    """The curves of runs, and how far apart their last accuracies are.

    Raises:
        RunError: they differ in more than their precision, or one has not finished.
    """
    settings = [
        {**asdict(run.spec), **asdict(run.recipe), **{key: run.data.get(key) for key in _OF_DATA}}
        for run in runs
    ]
    first = settings[0]
    for run, each in zip(runs, settings):
        other = [key for key in first if key not in _FREE and first[key] != each.get(key)]
        if other:
            raise RunError(f"{run.path} differs from {runs[0].path} in {', '.join(other)}")
    curves = [curve(run) for run in runs]
    last = [each["epochs"][-1]["val_top1"] for each in curves]
    return {
        "network": runs[0].spec.name,
        "dataset": runs[0].data["dataset"],
        "recipe": {key: value for key, value in asdict(runs[0].recipe).items() if key not in _FREE},
        "difference_of_final_top1": max(last) - min(last),
        "runs": curves,
    }


def table(result: dict[str, Any]) -> str:
    """A result in Markdown, a row an epoch."""
    runs = result["runs"]
    heads = [f"{run['dtype']}: {what}" for run in runs for what in ("loss", "accuracy")]
    lines = ["| epoch | " + " | ".join(heads) + " |", "|---:|" + "---:|" * len(heads)]
    for number, epochs in enumerate(zip(*(run["epochs"] for run in runs)), 1):
        cells = [f"{e['train_loss']:.4f} | {_percent(e['val_top1'])}" for e in epochs]
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    """An accuracy, nothing of an epoch without a test."""
    return "" if share is None else f"{100 * share:.2f} %"


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument(
        "--trained-by", required=True, help="the command that trained them, DTYPE for each one's"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "loss_curves.json")
    args = parser.parse_args(argv)
    try:
        result = compared([RunDirectory.open(path) for path in args.runs])
    except RunError as error:
        sys.exit(f"error: {error}")
    print(table(result))
    write_json(args.out, {**result, "trained_by": args.trained_by, **provenance(argv)})
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
