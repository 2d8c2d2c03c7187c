"""Packs the weights of a finished run for the package, in half precision, with a card.

    python benchmarks/package_weights.py RUN NAME --trained-by COMMAND --commit COMMIT \
        --chosen-by "5,000 pictures held out" --data "CIFAR-10 (JPEG copy)"

writes gluon_ran/weights/NAME.params and NAME.json, which `get_model(NAME, pretrained=True)` loads.
They are the last epoch's weights, never the best one's, which was chosen by its accuracy on the
test set. The card has how they were trained, and what the written file was then measured to reach
on the whole test set: alone, with scores averaged over each picture and its mirror image, and in
each form that it is served in. Run it on the machine that trained: the card names that too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from deployed_accuracy import BATCH_SIZE, FORMS, served_form
from provenance import commit, machine
from record_run import finished_rows, last_weights, sittings

from gluon_ran._files import sha256_of
from gluon_ran.data import Batches, Dataset, load_dataset
from gluon_ran.data.dataset import labels_checksum
from gluon_ran.deploy import ExportError, OptimizeError
from gluon_ran.deploy.precisions import CALIBRATION_PICTURES
from gluon_ran.models import Card, WeightsError, get_model, save_with_card, summary
from gluon_ran.models.pretrained import PACKAGED
from gluon_ran.training import RunDirectory, RunError, Trained, evaluate

import mxnet as mx
from mxnet.gluon import Block, HybridBlock

# Pictures of the test set that tests/test_weights.py scores; of larger networks fewer, from 100 up,
# for so many multiply-accumulates in all.
FIRST, FIRST_MACS = 500, 62e9


def check_data(run: RunDirectory, train: Dataset, test: Dataset) -> None:
    """Refuses pictures that are not all of those that a run was trained and scored on.

    Raises:
        RunError: they are others, or the run was trained without a part of the training set.
    """
    if run.data.get("hold_out") is not None:
        raise RunError(f"{run.path} was trained with --hold-out: train on all pictures")
    labels = labels_checksum(train, test)
    if run.data.get("labels_sha256", labels) != labels:
        raise RunError(
            f"{len(train):,} training and {len(test):,} test pictures are not those that {run.path}"
            " was trained and scored on: give their --data-dir"
        )


def training_record(run: RunDirectory, train: Dataset) -> dict[str, Any]:
    """How a run's weights came to be, and the accuracy that its log has for them.

    Its seconds are those of the training steps, without validation; `wall_seconds` has all, of each
    of its `sittings`, where a script trained it.

    Raises:
        RunError: it lacks its times.
    """
    rows = finished_rows(run)
    slow = [row["epoch"] + 1 for row in rows if not row["images_per_second"]]
    if slow:
        raise RunError(f"{run.path}: metrics.jsonl has no images_per_second of epoch {slow[0]}")
    log = run.path / "train.log"
    times = sittings(log) if log.exists() else None
    seconds = sum(len(train) / row["images_per_second"] for row in rows)
    recipe = asdict(run.recipe)
    del recipe["source"]  # that of the recipe as it is named; the run's fields may be others
    return {
        "dataset": run.data["dataset"],
        "recipe": recipe,
        # The recipe's batch is that of a device of a worker.
        "workers": run.data.get("workers", 1),
        "devices": run.data.get("devices", 1),
        "start": {name: run.data.get(name) for name in ("weights", "freeze")},
        "seconds": round(seconds, 1),
        "wall_seconds": None if times is None else sum(times),
        "sittings": None if times is None else len(times),
        "logged_top1": rows[-1]["val_top1"],
        "machine": {name: text for name, text in machine().items() if name != "load_average"},
        "versions": {"mxnet": mx.__version__, "numpy": np.__version__},
        "packed": {
            "commit": commit(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    }


def measure(net: HybridBlock, card: Card, train: Dataset, test: Dataset) -> dict[str, Any]:
    """Top-1 on the test set: in float32, flip-averaged too, and in each form that is served.

    A form that can't be had on this machine, or is too far from the network, is refused.
    """

    def top1(network: Block, pictures: Dataset = test, flip: bool = False) -> float:
        return evaluate(network, Batches(pictures, BATCH_SIZE, card.normalization), flip=flip).top1

    net.hybridize(static_alloc=True)
    macs = summary(card.spec, verbose=False).macs
    first = test.subset(slice(min(FIRST, max(100, int(FIRST_MACS / macs)))))
    found = {
        "pictures": len(test),
        "first_pictures": len(first),
        "first_right": round(top1(net, first) * len(first)),
        "top1": top1(net),
        "top1_flip": top1(net, flip=True),
        "served": {},
        "refused": {},
    }
    calibration = card.normalization(train.images[:CALIBRATION_PICTURES])
    for form in FORMS:
        try:
            found["served"][form] = top1(served_form(form, net, card, calibration))
        except (OptimizeError, ExportError) as error:
            found["refused"][form] = str(error)
    return found


def package(trained: Trained, name: str, train: Dataset, test: Dataset, out: Path, force: bool,
            about: dict[str, Any]) -> Path:  # fmt: skip
    """Writes the weights of a run to `out`, with what they are measured to reach; their card.

    Args:
        trained: the weights.
        name: what `get_model` is to know them by.
        train: the first pictures calibrate int8.
        test: what is scored.
        out: the folder.
        force: replace files that are there.
        about: what else the card is to say of their training.

    Raises:
        WeightsError: weights of that name are there, or it is the name of another network.
    """
    for there in (out / f"{name}.params", out / f"{name}.json"):
        if there.exists() and not force:
            raise WeightsError(f"{there} exists already: give --force to replace it")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"{name}.params"
        save_with_card(trained.network(), trained.card, written, half=True)
        net = get_model(name, pretrained=True, root=folder)
        checksum = sha256_of(written)
    card = trained.card
    record = {**about, **training_record(trained.run, train)}
    record["measured"] = measure(net, card, train, test)
    card = Card(card.spec, card.normalization, card.class_names, card.size, card.fit, record)
    out.mkdir(parents=True, exist_ok=True)
    beside = save_with_card(net, card, out / f"{name}.params", force, half=True)
    assert sha256_of(out / f"{name}.params") == checksum, "halves changed when written again"
    return beside


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory of CIFAR or digits")
    parser.add_argument("name", help="what get_model is to know them by")
    parser.add_argument("--trained-by", required=True, help="the command that trained it")
    parser.add_argument("--commit", required=True, help="of the checkout that trained it")
    parser.add_argument(
        "--chosen-by", required=True,
        help="what the settings were chosen by: held-out pictures, judgement, what was known of "
        "the test",
    )  # fmt: skip
    parser.add_argument("--data", required=True, help="what the data are called beside a number")
    parser.add_argument("--data-dir", help="folder of the data (default: the run's)")
    parser.add_argument("--out", type=Path, default=PACKAGED, help="default: gluon_ran/weights")
    parser.add_argument("--force", action="store_true", help="replace weights that are there")
    args = parser.parse_args(argv)
    try:
        trained = last_weights(RunDirectory.open(args.run))
        told = trained.run.data
        train, test = load_dataset(told["dataset"], args.data_dir or told["data_dir"])
        check_data(trained.run, train, test)
        about = {
            "data": args.data,
            "command": args.trained_by,
            "commit": args.commit,
            "chosen_by": args.chosen_by,
        }
        beside = package(trained, args.name, train, test, args.out, args.force, about)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(json.loads(beside.read_text(encoding="utf-8"))["training"]["measured"]))
    print(f"written: {beside.with_suffix('.params')}, {beside}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
