"""`export`: a trained network as a file that programs without gluon_ran serve."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran._files import write_text
from gluon_ran.commands.common import (
    Outcome,
    Pictures,
    add_model,
    find_model,
    picture_size,
    pictures_for,
    sides,
)
from gluon_ran.data import DataError
from gluon_ran.data.folder import pictures_below
from gluon_ran.data.pictures import SUFFIXES
from gluon_ran.deploy import export_onnx, optimize
from gluon_ran.deploy.precisions import CALIBRATION_PICTURES
from gluon_ran.models import Card
from gluon_ran.training import Trained

# Pictures of random numbers on which the scores are compared.
_COMPARED = 8


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "export", help="a network as ONNX or as an MXNet symbol",
        description="Write a trained network to a file that programs without gluon_ran serve, "
        "proved by equal scores: ONNX for any number of pictures, or a graph that MXNet computes "
        "faster than the network on a CPU.",
    )  # fmt: skip
    add_model(parser)
    parser.add_argument(
        "--out", type=_file, required=True, metavar="FILE",
        help="the ONNX file, or PATH of PATH-symbol.json and PATH-0000.params, and of "
        "PATH-serving.json: what pictures it takes and what its scores are of",
    )  # fmt: skip
    parser.add_argument("--format", choices=("onnx", "symbol"), default="onnx",
                        help="default: onnx")  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "int8"), default="float32",
        help="of a symbol (default: float32); int8 needs --calibrate",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", nargs="+", type=Path, metavar="PATH",
        help="pictures as the network will see them, or folders of some, on which a symbol's "
        "scores are compared and from which int8 takes its ranges; of more than "
        f"{CALIBRATION_PICTURES} as many, evenly",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=picture_size, metavar="N",
        help="side of the pictures in pixels, or HxW (default: that of the model's)",
    )  # fmt: skip
    return parser


def _file(text: str) -> Path:
    if text.endswith(os.sep) or Path(text).name in ("", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: give a name in it")
    return Path(text)


def run(args: argparse.Namespace) -> Outcome:
    """Exports a network.

    Raises:
        ValueError: the network can't be found, or does not take pictures of that size; or those to
            calibrate by can't be read.
        ExportError, OptimizeError: it can't be written so, or its scores differ.
        RunError, CheckpointError: a run directory is damaged.
        OSError: a file can't be written.
    """
    if args.format == "onnx" and args.precision != "float32":
        args.parser.error("--precision is for --format symbol: ONNX files are float32")
    if args.format == "onnx" and args.calibrate:
        args.parser.error("--calibrate is for --format symbol")
    if args.precision == "int8" and not args.calibrate:
        args.parser.error("--precision int8 needs --calibrate: pictures to take its ranges from")
    if args.format == "onnx" and args.out.suffix.lower() != ".onnx":
        args.parser.error(
            f"--out {args.out}: an ONNX file ends in .onnx; a symbol needs --format symbol"
        )
    if args.format == "symbol" and args.out.suffix.lower() in (".onnx", ".json", ".params"):
        args.parser.error(
            f"--out {args.out}: a symbol is PATH-symbol.json, PATH-0000.params and "
            "PATH-serving.json, so give PATH without an ending, or --format onnx"
        )
    trained = find_model(args)
    card = trained.card
    pictures = pictures_for(card, args) if args.calibrate else None
    size = args.size or card.size or card.spec.input_size
    serving = _what_serves(card, size)
    calibration = None if pictures is None else [_calibration(args.calibrate, pictures)]
    written = _write(trained, args, size, serving, calibration)
    value = {
        "model": card.spec.name,
        "weights": str(trained.weights),
        "written": list(map(str, written)),
        **serving,
    }
    lines = f"{card.spec.name} for {sides(size)} pictures\nwritten: {', '.join(value['written'])}"
    return Outcome(value, lines)


def _calibration(paths: Sequence[Path], pictures: Pictures) -> np.ndarray:
    """Some of the pictures that there are, evenly, normalised.

    Raises:
        DataError: there are none, or one can't be read or decoded.
    """
    files: list[Path] = []
    for path in paths:
        there = [path]
        if path.is_dir():
            there = pictures_below(path)
        if not there:
            raise DataError(f"{path} has no pictures in it ({', '.join(SUFFIXES)}): give others")
        files += there
    count = min(len(files), CALIBRATION_PICTURES)
    some = np.linspace(0, len(files) - 1, count).round().astype(int)
    return pictures.normalization(np.stack([pictures.read(str(files[i])) for i in some]))


def _write(
    trained: Trained, args: argparse.Namespace, size: tuple[int, int], serving: dict[str, Any],
    calibration: list[np.ndarray] | None,
) -> tuple[Path, ...]:  # fmt: skip
    net = trained.network()
    if args.format == "onnx":
        return (export_onnx(net, args.out, size, card=trained.card),)
    if calibration is None:
        shape = (_COMPARED, trained.card.spec.in_channels, *size)
        calibration = [np.random.default_rng(0).normal(size=shape).astype(np.float32)]
    graph = optimize(net, args.precision, calibration)
    beside = Path(f"{args.out}-serving.json")
    if beside.exists():
        beside.unlink()  # a failure leaves none rather than that of another network
    files = graph.export(args.out)
    write_text(beside, f"{json.dumps(serving, indent=2)}\n")
    return (*files, beside)


def _what_serves(card: Card, size: tuple[int, int]) -> dict[str, Any]:
    """What a program must know to serve the network; ONNX files have it inside.

    Raises:
        DataError: a mean picture has another size.
    """
    normalization = card.normalization
    if normalization is not None:
        normalization.check_size(size)
    return {
        "size": list(size),
        "fit": card.fit,
        "normalization": None if normalization is None else normalization.to_json(),
        "class_names": list(card.class_names),
    }
