#!/usr/bin/env python3
"""Score a trained network: top-1, top-5, each class's accuracy and the confusion matrix.

Top-5 is told of more than five classes. Pictures of a stream are scored at any --size, as those of
ImageNet at 224 and at 320. Writes evaluation.json and confusion.png into the run directory, beside
a weights file that lies in none, into the current folder for weights by name, or into --out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ends import ERRORS, error_text
from flags import (
    STREAM,
    add_picture_flags,
    add_spec_flags,
    network_name,
    picture_settings,
    refuse_unfit_flags,
    spec_changes,
)
from sources import check_mean_picture, check_size, evaluation_batches

import gluon_ran
from gluon_ran import training
from gluon_ran._files import write_text
from gluon_ran.commands.command_line import show_any_name
from gluon_ran.data import (
    DATASETS,
    OWN,
    SPLITS,
    Dataset,
    Normalization,
    RecordFile,
    find_dataset,
    load_dataset,
    open_record_pair,
)
from gluon_ran.data.cifar import CIFAR
from gluon_ran.models import Baseline, Spec, build, change_spec, check_weights, find_spec
from gluon_ran.training import Evaluation, Trained
from gluon_ran.visualize import plot_confusion

# Classes up to which each is printed, and how many are of more.
_LISTED, _WORST = 100, 10


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("target", metavar="RUN_OR_WEIGHTS", type=Path,
        help="run directory, a .params file, or a name of trained weights")  # fmt: skip
    add("--checkpoint", choices=("best", "last"),
        help="which checkpoint of a run directory (default: best)")  # fmt: skip
    add("--model", metavar="NAME", type=network_name,
        help="the network of a weights file without a card, as cifar_attention92")  # fmt: skip
    add("--dataset", choices=(*DATASETS, STREAM),
        help="default: the run's, else what --data-dir holds")  # fmt: skip
    add("--data-dir", metavar="DIR", help="folder of the data (default: the run's, or a download)")
    add("--split", choices=("train", "test"), default="test", help="default: test")
    add("--flip", action="store_true", help="average each picture with its mirror image")
    add("--normalization", choices=("channel", "per_pixel", "imagenet"),
        help="what a weights file was trained with, statistics from --dataset's training set "
        "(default: channel, imagenet for a stream; a run directory, or a card beside the file, "
        "tells it)")  # fmt: skip
    add("-b", "--batch-size", type=int,
        help="pictures a batch (default: 250 of 32x32, fewer of larger ones)")  # fmt: skip
    add("--num-gpus", type=int, help="GPUs to use (default: 1 where MXNet sees one, else 0)")
    add("--out", metavar="DIR", type=Path, help="where the results go")
    add_picture_flags(parser.add_argument_group("pictures of your own"), "the run's or model's")
    add_spec_flags(parser.add_argument_group("how the network of a weights file was changed"))
    return parser


def evaluate(args: argparse.Namespace) -> tuple[Evaluation, dict, Path]:
    """Scores what the flags name: the scores, what they are scores of, and where they belong.

    Raises:
        ValueError: the flags don't fit together, or the data not the network.
        RunError, CheckpointError, WeightsError, DataError: a file is missing or damaged.
    """
    if args.checkpoint is not None and not args.target.is_dir():
        raise ValueError(f"{args.target} is no run: leave out --checkpoint, or give its run")
    trained = training.find_trained(args.target, args.checkpoint or "best")
    spec = _spec(args, trained)
    check_weights(build(spec), trained.weights, new_head=trained.spec is None)
    name = _dataset(args, trained)
    refuse_unfit_flags(args, name)
    data_dir, settings = _pictures(args, trained, name, spec)
    check_size(spec, settings)
    normalization = trained.normalization or _told_normalization(args, name)
    if normalization is not None:
        check_mean_picture(normalization, settings)
    if trained.spec is not None and name in CIFAR:
        _refuse_other_classes(args, trained, CIFAR[name].class_names, name)
    if name == STREAM:
        dataset = _stream(args, trained, data_dir, settings["broken"])
    else:
        dataset, normalization = _in_memory(args, name, data_dir, settings, normalization)
    if trained.spec is not None:
        _refuse_other_classes(args, trained, dataset.class_names, name)
    spec = change_spec(spec, len(dataset.class_names))
    contexts = training.make_contexts(args.num_gpus)
    net = build(spec)
    gluon_ran.load_weights(net, trained.weights, contexts)
    net.hybridize(static_alloc=True)
    how = (settings["size"], settings["broken"], args.batch_size)
    batches = evaluation_batches(dataset, normalization, *how)
    result = training.evaluate(net, batches, contexts, flip=args.flip)
    if not math.isfinite(result.loss):
        raise ValueError(
            f"{trained.weights}: the loss on the pictures is {result.loss}, so the scores say "
            "nothing: give weights of which all are finite numbers"
        )
    about = {
        "model": spec.name,
        "weights": str(trained.weights),
        "dataset": name,
        "split": args.split,
        "size": settings["size"],
        "flip_averaging": args.flip,
        "class_names": list(dataset.class_names),
    }
    folder = args.target.parent if trained.run is None else trained.run.path
    return result, about, args.out or folder


def _told_normalization(args: argparse.Namespace, name: str) -> Normalization | None:
    """That of a weights file that comes with none, where it needs no statistics."""
    asked = args.normalization or ("imagenet" if name == STREAM else "channel")
    if name == STREAM and asked != "imagenet":
        raise ValueError(f"--normalization {asked} needs all pictures in memory: give imagenet")
    return Normalization.imagenet() if asked == "imagenet" else None


def _stream(
    args: argparse.Namespace, trained: Trained, data_dir: str | None, broken: str
) -> RecordFile:
    if data_dir is None:
        raise ValueError("give --data-dir: the folder of the stream's RecordIO files")
    names = None if trained.card is None else trained.card.class_names or None
    return open_record_pair(data_dir, broken, names)[SPLITS.index(args.split)]


def _in_memory(
    args: argparse.Namespace,
    name: str,
    data_dir: str | None,
    settings: dict[str, Any],
    normalization: Normalization | None,
) -> tuple[Dataset, Normalization]:
    """The split to score, and the normalisation, of the training set where none is told."""
    splits = [
        each for each in SPLITS if each == args.split or (each == "train" and not normalization)
    ]
    data = dict(zip(splits, load_dataset(name, data_dir, **settings, splits=splits)))
    if normalization is None:
        normalization = getattr(Normalization, args.normalization or "channel")(data["train"])
    return data[args.split], normalization


def _dataset(args: argparse.Namespace, trained: Trained) -> str:
    if args.dataset is not None:
        return args.dataset
    if trained.run is not None:
        return trained.run.data["dataset"]
    if args.data_dir is None:
        raise ValueError("nothing tells the data: name them with --dataset or --data-dir")
    return find_dataset(args.data_dir, None if trained.spec is None else trained.spec.classes)


def _spec(args: argparse.Namespace, trained: Trained) -> Spec | Baseline:
    changes = spec_changes(args)
    if trained.spec is None:
        if args.model is None:
            raise ValueError(
                f"nothing tells which network {args.target} is of: name it with --model"
            )
        return find_spec(args.model, **changes)
    told = {name: getattr(trained.spec, name, None) for name in changes}
    told["model"] = trained.spec.name
    given = {"model": args.model, **changes}
    if trained.normalization is not None:
        given["normalization"] = args.normalization
    other = [f"--{name}" for name, v in given.items() if v is not None and v != told.get(name)]
    if other:
        raise ValueError(
            f"{args.target} tells what its network is and how its pictures are normalised: leave "
            f"out {', '.join(other)}"
        )
    if not trained.spec.classes:
        raise ValueError(
            f"{args.target} has no classifier: it gives embeddings, which have no accuracy"
        )
    return trained.spec


def _pictures(
    args: argparse.Namespace, trained: Trained, name: str, spec: Spec | Baseline
) -> tuple[str | None, dict[str, Any]]:
    """The folder of the data, and how its pictures are read: as the run's, unless flags say so."""
    of_run = trained.run.data if trained.run is not None else {}
    same, old = name == of_run.get("dataset"), {}
    if name in (*OWN, STREAM) and trained.card is not None:
        old = {"size": trained.card.size, "fit": trained.card.fit, "broken": of_run.get("broken")}
    if name == STREAM and of_run.get("test_size"):
        old["size"] = of_run["test_size"]
    settings = picture_settings(args, name, spec, old)
    return args.data_dir or (of_run["data_dir"] if same else None), settings


def _refuse_other_classes(
    args: argparse.Namespace, trained: Trained, class_names: Sequence[str], name: str
) -> None:
    if trained.spec.classes != len(class_names):
        raise ValueError(
            f"{args.target} was trained for {trained.spec.classes} classes and {name} has "
            f"{len(class_names)}: evaluate it on its own data set (--dataset, --data-dir)"
        )
    for number, names in enumerate(zip(trained.card.class_names, class_names)):
        if len(set(names)) == 2:
            raise ValueError(
                f"class {number} is {names[0]} in {args.target} and {names[1]} in {name}: evaluate "
                "it on data with the classes that it was trained on"
            )


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
    write_text(folder / "evaluation.json", _as_json(values))
    title = f"{about['model']} on {about['dataset']} ({about['split']})"
    plot_confusion(result.confusion, about["class_names"], folder / "confusion.png", title)


def _as_json(values: dict[str, Any]) -> str:
    """The values as JSON, a row of the confusion matrix a line: it can have a million numbers."""
    rows = ",\n  ".join(map(json.dumps, values["confusion"]))
    text = json.dumps({**values, "confusion": []}, indent=1)
    return text.replace('"confusion": []', f'"confusion": [\n  {rows}\n ]') + "\n"


def print_classes(result: Evaluation, class_names: Sequence[str]) -> None:
    """Prints each class's accuracy, or of many the lowest ones."""
    shown = list(zip(class_names, result.per_class))
    if len(shown) > _LISTED:
        tested = [each for each in shown if each[1] == each[1]]
        shown = sorted(tested, key=lambda each: each[1])[:_WORST]
        print(f"the {len(shown)} lowest of {len(class_names)} classes (evaluation.json has all):")
    for name, value in shown:
        print(f"  {name:<12} {100 * value:6.2f} %")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    show_any_name()
    try:
        result, about, folder = evaluate(args)
        write_results(result, about, folder)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ERRORS as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1
    size = " at {}x{}".format(*about["size"]) if about["size"] else ""
    print(f"{about['model']} on {result.count} pictures of {about['dataset']} ({about['split']})"
          f"{size}:")  # fmt: skip
    averaged = ", averaged with its mirror image" if args.flip else ""
    print(f"  weights {about['weights']}, each picture{averaged or ' as it is'}")
    top5 = f", top-5 {100 * result.top5:.2f} %" if len(result.confusion) > 5 else ""
    print(f"  top-1 {100 * result.top1:.2f} %{top5}", end="")
    print(f", loss {result.loss:.4f}")
    print_classes(result, about["class_names"])
    print(f"written: {folder / 'evaluation.json'}, {folder / 'confusion.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
