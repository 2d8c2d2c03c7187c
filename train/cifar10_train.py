#!/usr/bin/env python3
"""Train a Residual Attention Network on CIFAR-10, CIFAR-100 or handwritten digits.

Ctrl-C ends a run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from flags import add_recipe_flags, given, recipe_from, recipe_table

import gluon_ran
from gluon_ran import training
from gluon_ran.data import (
    DATASETS,
    Augmentation,
    Batches,
    Dataset,
    Normalization,
    load_dataset,
)
from gluon_ran.models.spec import DEPTHS, SPECS, Spec, change
from gluon_ran.training import Recipe, RunDirectory
from gluon_ran.training.monitor import LOG

EVALUATION_BATCH = 250
INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=recipe_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser.add_argument_group("what to train, and on what"))
    add_recipe_flags(parser.add_argument_group("recipe (defaults: those of the recipe 'gluon')"))
    _add_run(parser.add_argument_group("run and machine"))
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset", choices=DATASETS,
        help="digits comes with scikit-learn and needs no download (default: cifar10)",
    )  # fmt: skip
    group.add_argument(
        "--data-dir", metavar="DIR",
        help="folder of the official archive, of its files, or of NAME_train.rec and NAME_test.rec "
        "(default: a download, kept under MXNet's data folder)",
    )  # fmt: skip
    group.add_argument(
        "--num-layers", type=int, choices=DEPTHS,
        help="depth of the wide network cifar_attentionN (default: 56)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="NAME", choices=list(SPECS),
        help="any network of the zoo, as cifar_attention56_thin (default: that of --num-layers)",
    )  # fmt: skip
    group.add_argument(
        "--zero-init", action="store_true", default=None,
        help="start each residual unit as the identity (default: off)",
    )  # fmt: skip


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--save-dir", metavar="DIR", type=Path,
        help="run directory (default: runs/DATASET-MODEL, with the recipe's name and mixup)",
    )  # fmt: skip
    group.add_argument(
        "--resume", metavar="RUN", nargs="?", const="", default=None,
        help="with RUN: go on with that run, by its own settings; without: go on with the run of "
        "the other flags, and refuse to start anew",
    )  # fmt: skip
    group.add_argument(
        "--log-dir", metavar="DIR", type=Path,
        help="where the TensorBoard events and train.log go (default: RUN/events and RUN)",
    )  # fmt: skip
    group.add_argument(
        "--save-period", type=_count, default=10, metavar="EPOCHS",
        help="keep the weights of every so many epochs, besides last and best; 0: none "
        "(default: 10)",
    )  # fmt: skip
    group.add_argument(
        "-j", "--workers", type=_count, default=4, metavar="N",
        help="batches made ahead in the background; 0 makes them in turn (default: 4)",
    )  # fmt: skip
    group.add_argument(
        "--num-gpus", type=int, metavar="N",
        help="GPUs to use, 0 for the CPU (default: 1 where MXNet sees one, else 0)",
    )  # fmt: skip
    group.add_argument(
        "--kvstore", choices=("local", "device", "nccl"), default="device",
        help="what sums the gradients of several GPUs (default: device)",
    )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def augmentation_of(recipe: Recipe) -> Augmentation:
    """How a recipe varies the training pictures.

    Raises:
        DataError: a value that the augmentation does not take.
    """
    return Augmentation(
        crop_padding=recipe.crop_padding,
        crop_mode=recipe.crop_mode,
        flip=recipe.flip,
        cutout=recipe.cutout,
        rotation=recipe.rotation,
    )


def train_batches(
    dataset: Dataset, recipe: Recipe, normalization: Normalization, devices: int, epoch: int
) -> Batches:
    """The batches of a training epoch, `recipe.batch_size` pictures a device."""
    return Batches(
        dataset,
        recipe.batch_size * devices,
        normalization,
        seed=recipe.seed,
        epoch=epoch,
        shuffle=True,
        augmentation=augmentation_of(recipe),
    )


def make_run(args: argparse.Namespace, devices: int) -> tuple[RunDirectory, Dataset, Dataset]:
    """The run directory that the flags ask for, new or old, and its data.

    Raises:
        RunError: the directory holds another run, or none to go on with.
        ValueError, DataError: a flag or the data makes no sense.
    """
    if args.resume:
        return _old_run(args, devices)
    dataset, recipe = args.dataset or "cifar10", recipe_from(args)
    train, test = load_dataset(dataset, args.data_dir)
    spec = _spec(args, train.num_classes)
    path = args.save_dir or _default_path(dataset, spec, recipe)
    data = _data(dataset, args.data_dir, train, test, recipe, devices)
    if args.resume is not None:
        _need_checkpoint(RunDirectory(path, spec, recipe, data))
    return RunDirectory.start(path, spec, recipe, data), train, test


def _old_run(args: argparse.Namespace, devices: int) -> tuple[RunDirectory, Dataset, Dataset]:
    run = RunDirectory.open(args.resume)
    _need_checkpoint(run)
    model = args.model or (args.num_layers and f"cifar_attention{args.num_layers}")
    asked = {**given(args, Recipe), "model": model, "dataset": args.dataset}
    there = {**asdict(run.recipe), "model": run.spec.name, "dataset": run.data["dataset"]}
    other = [k for k, v in asked.items() if v is not None and v != there[k]]
    other += [k for k in ("save_dir", "recipe", "zero_init") if getattr(args, k) is not None]
    if other:
        raise training.RunError(
            f"--resume {args.resume} goes on with that run's own settings: leave out "
            + ", ".join(f"--{name.replace('_', '-')}" for name in other)
        )
    data_dir = args.data_dir or run.data["data_dir"]
    train, test = load_dataset(run.data["dataset"], data_dir)
    data = _data(run.data["dataset"], data_dir, train, test, run.recipe, devices)
    RunDirectory(run.path, run.spec, run.recipe, data).refuse_difference(run)
    return run, train, test


def _need_checkpoint(run: RunDirectory) -> None:
    if not run.has_checkpoint():
        raise training.RunError(
            f"--resume: {run.path} has no checkpoint to go on from; leave --resume out to start"
        )


def _spec(args: argparse.Namespace, classes: int) -> Spec:
    if args.model and args.num_layers:
        raise ValueError("give --model or --num-layers, not both")
    name = args.model or f"cifar_attention{args.num_layers or 56}"
    return change(SPECS[name], classes=classes, zero_init=bool(args.zero_init))


def _data(
    name: str, folder: str | None, train: Dataset, test: Dataset, recipe: Recipe, devices: int
) -> dict:
    """What data.json holds: what must be the same for a run to go on, and where the data lies."""
    labels = hashlib.sha256(train.labels.tobytes() + test.labels.tobytes()).hexdigest()
    return {
        "dataset": name,
        "data_dir": folder and str(Path(folder).resolve()),
        "class_names": list(train.class_names),
        "labels_sha256": labels,
        "devices": devices,
        "normalization": getattr(Normalization, recipe.normalization)(train).to_json(),
    }


def _default_path(dataset: str, spec: Spec, recipe: Recipe) -> Path:
    mixed = "-mixup" if recipe.mixup else ""
    return Path("runs") / f"{dataset}-{spec.name}-{recipe.name}{mixed}"


def train(args: argparse.Namespace) -> int:
    """Trains as the flags say; the exit code."""
    contexts = training.make_contexts(args.num_gpus)
    training.check_kvstore(args.kvstore)
    if not args.resume:
        training.check_dtype(recipe_from(args).dtype, contexts)
        augmentation_of(recipe_from(args))
    run, train_set, test_set = make_run(args, len(contexts))
    _log_to_file((args.log_dir or run.path) / "train.log")
    recipe, normalization = run.recipe, run.normalization
    where = ", ".join(map(str, contexts))
    LOG.info("%s on %s, %s, %s", run.spec.name, run.data["dataset"], recipe.dtype, where)
    LOG.info("%d training and %d test pictures; run directory %s",
             len(train_set), len(test_set), run.path)  # fmt: skip
    history = training.fit(
        gluon_ran.ResidualAttentionNet(run.spec),
        recipe,
        partial(train_batches, train_set, recipe, normalization, len(contexts)),
        Batches(test_set, EVALUATION_BATCH, normalization),
        classes=run.spec.classes,
        run=run,
        contexts=contexts,
        kvstore=args.kvstore,
        workers=args.workers,
        save_period=args.save_period,
        log_dir=args.log_dir,
    )
    return _report(run, history)


def _report(run: RunDirectory, history: training.History) -> int:
    if history.best_top1 is not None:
        last = run.metrics()[-1]
        LOG.info("test accuracy %.2f %% after epoch %d; best %.2f %% after epoch %d",
                 100 * last["val_top1"], last["epoch"] + 1,
                 100 * history.best_top1, history.best_epoch + 1)  # fmt: skip
    if history.completed:
        LOG.info("done; everything is in %s", run.path)
        return 0
    LOG.info("the same command goes on from there")
    return INTERRUPTED


def _log_to_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.setLevel(logging.DEBUG)
    LOG.addHandler(handler)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    LOG.setLevel(logging.DEBUG)
    LOG.addHandler(console)
    LOG.propagate = False
    before = list(LOG.handlers)
    try:
        return train(args)
    except KeyboardInterrupt:
        LOG.info("interrupted; what was saved before is whole")
        return INTERRUPTED
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        LOG.debug("where the error came from", exc_info=True)
        LOG.error("error: %s", error)
        return 1
    finally:
        for handler in set(LOG.handlers) - set(before) | {console}:
            LOG.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    sys.exit(main())
