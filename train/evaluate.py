#!/usr/bin/env python3
"""Score a trained network: top-1, top-5, each class's accuracy and the confusion matrix.

Writes evaluation.json and confusion.png beside what was evaluated, or into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Tuple, Union

from cli import evaluation_batch
from flags import add_picture_flags, add_spec_flags, picture_settings, spec_changes
from make_run import check_size

import gluon_ran
from gluon_ran import training
from gluon_ran.data import DATASETS, Batches, Dataset, Normalization, load_dataset
from gluon_ran.models import Baseline, Spec, build, find_spec
from gluon_ran.training import Evaluation, RunDirectory
from gluon_ran.training.checkpoint import checked_file, read_manifest, write_text
from gluon_ran.visualize import plot_confusion


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("target", metavar="RUN_OR_WEIGHTS", type=Path, help="run directory, or a .params file")
    add("--checkpoint", choices=("best", "last"), default="best",
        help="which checkpoint of a run directory (default: best)")  # fmt: skip
    add("--model", metavar="NAME",
        choices=[*gluon_ran.list_models(), *gluon_ran.list_baselines()],
        help="the network of a weights file, as cifar_attention92")  # fmt: skip
    add("--dataset", choices=DATASETS, help="default: the run's; cifar10 for a weights file")
    add("--data-dir", metavar="DIR", help="folder of the data (default: the run's, or a download)")
    add("--split", choices=("train", "test"), default="test", help="default: test")
    add("--flip", action="store_true", help="average each picture with its mirror image")
    add("--normalization", choices=("channel", "per_pixel"), default="channel",
        help="what a weights file was trained with, statistics from --dataset's training set "
        "(default: channel; a run directory knows its own)")  # fmt: skip
    add("-b", "--batch-size", type=int,
        help="pictures a batch (default: 250 of 32x32, fewer of larger ones)")  # fmt: skip
    add("--num-gpus", type=int, help="GPUs to use (default: 1 where MXNet sees one, else 0)")
    add("--out", metavar="DIR", type=Path, help="where the results go")
    add_picture_flags(parser.add_argument_group("pictures of your own"), "the run's or model's")
    add_spec_flags(parser.add_argument_group("how the network of a weights file was changed"))
    return parser


def evaluate(args: argparse.Namespace) -> tuple[Evaluation, dict]:
    """Scores what the flags name: the scores, and what they are scores of.

    Raises:
        ValueError: the flags don't fit together, or the data not the network.
        RunError, CheckpointError, DataError: a file is missing or damaged.
    """
    if not args.target.exists():
        raise ValueError(f"there is no {args.target}: give a run directory or a .params file")
    find = _of_run if args.target.is_dir() else _of_weights
    spec, normalization, weights, name, train, test = find(args)
    dataset = train if args.split == "train" else test
    contexts = training.make_contexts(args.num_gpus)
    net = build(spec)
    training.load_weights(net, weights, contexts)
    net.hybridize(static_alloc=True)
    size = evaluation_batch(dataset) if args.batch_size is None else args.batch_size
    batches = Batches(dataset, size, normalization)
    result = training.evaluate(net, batches, contexts, flip=args.flip)
    about = {
        "model": spec.name,
        "weights": str(weights),
        "dataset": name,
        "split": args.split,
        "flip_averaging": args.flip,
        "class_names": list(dataset.class_names),
    }
    return result, about


_Found = Tuple[Union[Spec, Baseline], Normalization, Path, str, Dataset, Dataset]


def _of_run(args: argparse.Namespace) -> _Found:
    if args.model is not None or spec_changes(args):
        named = ["model"] * (args.model is not None) + list(spec_changes(args))
        raise ValueError(
            "a run directory knows its network: leave out " + ", ".join(f"--{n}" for n in named)
        )
    run = RunDirectory.open(args.target)
    name = args.dataset or run.data["dataset"]
    same = name == run.data["dataset"]
    settings = picture_settings(args, name, run.spec, run.data if same else {})
    check_size(run.spec, settings)
    data_dir = args.data_dir or (run.data["data_dir"] if same else None)
    train, test = load_dataset(name, data_dir, **settings)
    _refuse_other_classes(run, train, name)
    return run.spec, run.normalization, _weights(run, args.checkpoint), name, train, test


def _refuse_other_classes(run: RunDirectory, dataset: Dataset, name: str) -> None:
    trained = run.data["class_names"]
    if len(trained) != dataset.num_classes:
        raise ValueError(
            f"{run.path} was trained for {len(trained)} classes and {name} has "
            f"{dataset.num_classes}: evaluate it on its own data set"
        )
    for number, names in enumerate(zip(trained, dataset.class_names)):
        if len(set(names)) == 2:
            raise ValueError(
                f"class {number} is {names[0]} in {run.path} and {names[1]} in {name}: evaluate "
                "it on data with the classes that it was trained on"
            )


def _of_weights(args: argparse.Namespace) -> _Found:
    if args.model is None:
        raise ValueError(f"{args.target} is a file: name its network with --model")
    name, changes = args.dataset or "cifar10", spec_changes(args)
    spec = find_spec(args.model, **changes)
    settings = picture_settings(args, name, spec, {})
    check_size(spec, settings)
    train, test = load_dataset(name, args.data_dir, **settings)
    spec = find_spec(args.model, train.num_classes, **changes)
    return spec, getattr(Normalization, args.normalization)(train), args.target, name, train, test


def _weights(run: RunDirectory, which: str) -> Path:
    manifest = read_manifest(run.checkpoints, which)
    if manifest is None:
        raise ValueError(f"{run.path} has no {which} checkpoint yet: train at least one epoch")
    return checked_file(run.checkpoints, manifest, "weights")


def write_results(result: Evaluation, about: dict, folder: Path) -> None:
    """Writes evaluation.json and confusion.png."""
    folder.mkdir(parents=True, exist_ok=True)
    per_class = {
        name: None if value != value else value
        for name, value in zip(about["class_names"], result.per_class.tolist())
    }
    values = {
        **about,
        "count": result.count,
        "top1": result.top1,
        "top5": result.top5,
        "loss": result.loss,
        "per_class": per_class,
        "confusion": result.confusion.tolist(),
    }
    write_text(folder / "evaluation.json", json.dumps(values, indent=1) + "\n")
    title = f"{about['model']} on {about['dataset']} ({about['split']})"
    plot_confusion(result.confusion, about["class_names"], folder / "confusion.png", title)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    try:
        result, about = evaluate(args)
        folder = args.out or (args.target if args.target.is_dir() else args.target.parent)
        write_results(result, about, folder)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{about['model']} on {result.count} pictures of {about['dataset']} ({about['split']}):")
    print(f"  top-1 {100 * result.top1:.2f} %, top-5 {100 * result.top5:.2f} %", end="")
    print(f", loss {result.loss:.4f}")
    for name, value in zip(about["class_names"], result.per_class):
        print(f"  {name:<12} {100 * value:6.2f} %")
    print(f"written: {folder / 'evaluation.json'}, {folder / 'confusion.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
