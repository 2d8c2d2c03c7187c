"""`predict`: the classes that a trained network finds in pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from gluon_ran.commands.common import (
    Outcome,
    Pictures,
    add_model,
    add_picture_flags,
    find_model,
    pictures_for,
)
from gluon_ran.data import DataError
from gluon_ran.models import Card, WeightsError
from gluon_ran.training.evaluation import log_probabilities

import mxnet as mx
from mxnet.gluon import HybridBlock

# Of a network of 224x224 pictures sixteen take some hundred megabytes.
_BATCH = 16


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "predict", help="the classes of pictures",
        description="Print the classes that a trained network finds most probable for each picture "
        "(JPEG, PNG, BMP, WebP, PPM, GIF, TIFF, JPEG 2000, AVIF, ICO or QOI, of any size, as far "
        "as Pillow has them). One that can't be read is named, the others go on, and the exit code "
        "is 1.",
    )  # fmt: skip
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="a picture file")
    add_model(parser)
    parser.add_argument("--top", type=_count, default=5, metavar="K", help="classes (default: 5)")
    add_picture_flags(parser)
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def run(args: argparse.Namespace) -> Outcome:
    """Scores pictures.

    Raises:
        ValueError: the network can't be found, has no classes, or does not take such pictures.
        RunError, CheckpointError: a run directory is damaged.
    """
    trained = find_model(args)
    card = trained.card
    if not card.spec.classes:
        raise WeightsError(f"{args.model} has no classifier: it gives embeddings, not classes")
    pictures = pictures_for(card, args)
    net = trained.network()
    net.hybridize(static_alloc=True)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(args.pictures), _BATCH):
        rows += _predict(net, card, pictures, args.pictures[start : start + _BATCH], args.top)
    value = {
        "model": card.spec.name,
        "weights": str(trained.weights),
        "size": list(pictures.size),
        "fit": pictures.fit,
        "pictures": rows,
    }
    failed = sum("error" in row for row in rows)
    problems = (f"{failed} of {len(rows)} pictures could not be read",) if failed else ()
    return Outcome(value, "\n".join(map(_lines, rows)), problems)


def _predict(
    net: HybridBlock, card: Card, pictures: Pictures, paths: Sequence[str], top: int
) -> list[dict[str, Any]]:
    """A row a picture: its likeliest classes, or why it can't be read."""
    found: dict[int, np.ndarray] = {}
    rows: list[dict[str, Any]] = [{"picture": path} for path in paths]
    for row, path in enumerate(paths):
        try:
            found[row] = pictures.read(path)
        except DataError as error:
            rows[row]["error"] = str(error)
        except MemoryError:
            rows[row]["error"] = f"{path}: it does not fit into memory"
    if found:
        x = pictures.normalization(np.stack(list(found.values())))
        for row, scores in zip(found, np.exp(log_probabilities(net, x, [mx.cpu()]))):
            rows[row]["predictions"] = _likeliest(scores, card, top)
    return rows


def _likeliest(probabilities: np.ndarray, card: Card, top: int) -> list[dict[str, Any]]:
    if not np.isfinite(probabilities).all():
        raise WeightsError("the network's scores are not finite: give weights that are")
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    names = card.class_names or [f"class {number}" for number in range(card.spec.classes)]
    return [
        {"class": names[number], "number": number, "probability": float(probabilities[number])}
        for number in order
    ]


def _lines(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['picture']}\n  not read: {row['error']}"
    shown = (f"  {100 * p['probability']:5.1f} %  {p['class']}" for p in row["predictions"])
    return "\n".join([row["picture"], *shown])
