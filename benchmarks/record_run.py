"""Keeps what a training run reached: a run directory's numbers as one JSON file of results/.

The accuracies are those of the test set behind each epoch; "final" is the last epoch's, "best" is
named as such. The time is that from the first to the last moment of each start in train.log, with
the reading of the pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from provenance import RESULTS, provenance, write_json

from gluon_ran.models import SPECS, Spec, summary
from gluon_ran.training import RunDirectory, RunError, Trained, find_trained

FIRST_LOSSES = 50
# What train/logs.py writes first; and NETWORK on DATASET, PRECISION, DEVICES, which was the first
# line before there was that.
_STARTED = re.compile(r"^\S+ \S+ started: gluon_ran ")
_TRAINS = re.compile(r" on \S+, (float32|bfloat16|float16), ")


def finished_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """What each epoch of a finished run gave.

    Raises:
        RunError: it has not finished.
    """
    rows = run.metrics()
    if len(rows) < run.recipe.epochs:
        raise RunError(f"{run.path} has {len(rows)} of {run.recipe.epochs} epochs: finish it first")
    return rows


def last_weights(run: RunDirectory) -> Trained:
    """The weights behind a finished run's last epoch.

    Raises:
        RunError: it has not finished, or they are not there.
    """
    finished_rows(run)
    trained = find_trained(run.path, "last")
    if trained.weights.stem != f"epoch-{run.recipe.epochs:04d}":
        raise RunError(f"{run.path} lacks its last epoch's weights: {trained.weights} is another's")
    return trained


def record(run: RunDirectory) -> dict[str, Any]:
    """What a finished run is and reached.

    Raises:
        RunError: it has not finished.
    """
    rows = finished_rows(run)
    own_size = [row for row in rows if row.get("size") is None and row["val_top1"] is not None]
    if not own_size:
        raise RunError(f"{run.path} has no accuracy: it was trained without a validation")
    best = max(own_size, key=lambda row: row["val_top1"])
    return {
        "model": run.spec.name,
        "parameters": summary(run.spec, verbose=False).parameters,
        "dataset": run.data["dataset"],
        "recipe": asdict(run.recipe),
        "spec": json.loads(run.spec.to_json()),
        "start": {name: run.data.get(name) for name in ("weights", "freeze", "hold_out")},
        "final_top1": rows[-1]["val_top1"],
        "final_top5": rows[-1]["val_top5"],
        "best_top1": best["val_top1"],
        "best_epoch": best["epoch"] + 1,
        "seconds": wall_seconds(run.path / "train.log"),
        "first_losses": rows[0]["losses"][:FIRST_LOSSES],
        "epochs": [{k: v for k, v in row.items() if k != "losses"} for row in rows],
    }


def is_plain(result: dict[str, Any]) -> bool:
    """Whether a run trained the zoo's own network from scratch on all data.

    How many classes it tells apart, and `zero_init`, may be other.

    Args:
        result: of `record`, or a card's, with its Spec.
    """
    if result["recipe"].get("label_noise") or any(
        result["start"].get(name) is not None for name in ("weights", "freeze", "hold_out")
    ):
        return False
    if result["model"] not in SPECS:
        return True
    ours = SPECS[result["model"]]
    spec = Spec.from_json(json.dumps(result["spec"]))
    return replace(spec, source=ours.source, zero_init=False, classes=ours.classes) == ours


def wall_seconds(log: Path) -> float:
    """Seconds from the first to the last moment of each start in a log, summed."""
    return sum(sittings(log))


def sittings(log: Path) -> list[float]:
    """Seconds from the first to the last moment of each start in a log.

    Raises:
        RunError: there is no such log.
    """
    if not log.is_file():
        raise RunError(f"there is no {log} that tells how long the run took")
    starts: list[list[datetime]] = []
    told = False
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            when = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")
        except ValueError:  # a further line of a message
            continue
        started, trains = _STARTED.search(line), _TRAINS.search(line)
        if not starts or started or (trains and not told):
            starts.append([])
        told = bool(started) or (told and not trains)
        starts[-1].append(when)
    # What came before there was a file has its own time, and stands behind the first line.
    return [(max(times) - min(times)).total_seconds() for times in starts]


def same_losses(run: RunDirectory, other: RunDirectory) -> bool:
    """Whether two runs' first losses are the same to the bit.

    Raises:
        RunError: one has no epoch yet.
    """
    rows = [each.metrics() for each in (run, other)]
    if not all(rows):
        raise RunError(f"{other.path} has no epoch to compare: finish its first")
    return rows[0][0]["losses"][:FIRST_LOSSES] == rows[1][0]["losses"][:FIRST_LOSSES]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--trained-by", required=True, help="the command that trained it")
    parser.add_argument("--commit", help="of the checkout that trained it (default: this one's)")
    parser.add_argument("--data", default="", help="what is particular about the data")
    parser.add_argument("--again", type=Path, metavar="RUN", help="a second run with the same seed")
    parser.add_argument("--out", type=Path, help="default: results/DATASET_MODEL_RECIPE.json")
    args = parser.parse_args(argv)
    try:
        run = RunDirectory.open(args.run)
        result = {"trained_by": args.trained_by, "data": args.data, **record(run)}
        if args.again is not None:
            result["same_seed_same_first_losses"] = same_losses(run, RunDirectory.open(args.again))
    except (RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.out is None and not is_plain(result):
        print("error: a run of a changed network, from weights, with held-out pictures or label "
              "noise needs an --out of its own", file=sys.stderr)  # fmt: skip
        return 1
    name = f"{run.data['dataset']}_{run.spec.name}_{run.recipe.name}.json"
    path = args.out or RESULTS / name
    about = provenance(argv)
    write_json(path, {**result, **about, "commit": args.commit or about["commit"]})
    print(json.dumps({k: result[k] for k in ("final_top1", "best_top1", "seconds")}))
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
