#!/usr/bin/env python3
"""Train a Residual Attention Network on CIFAR-10, CIFAR-100 or handwritten digits.

Ctrl-C ends a run; the same command goes on behind its last saved epoch.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import gluon_ran
from gluon_ran import training
from gluon_ran.data import (
    DATASETS,
    Augmentation,
    Batches,
    DataError,
    Dataset,
    Normalization,
    load_dataset,
)
from gluon_ran.models.spec import DEPTHS, SPECS, Spec, change
from gluon_ran.training import RECIPES, Recipe, RunDirectory
from gluon_ran.training import recipe as recipes
from gluon_ran.training.monitor import LOG

DEFAULT_RECIPE = RECIPES["gluon"]
EVALUATION_BATCH = 250
INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_recipe_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser.add_argument_group("what to train, and on what"))
    _add_recipe(parser.add_argument_group("recipe (defaults: those of the recipe 'gluon')"))
    _add_run(parser.add_argument_group("run and machine"))
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset", choices=DATASETS, default="cifar10",
        help="digits comes with scikit-learn and needs no download (default: cifar10)",
    )  # fmt: skip
    group.add_argument(
        "--data-dir", metavar="DIR",
        help="folder of the official archive, of its files, or of NAME_train.rec and NAME_test.rec "
        "(default: a download, kept under MXNet's data folder)",
    )  # fmt: skip
    group.add_argument(
        "--num-layers", type=int, choices=DEPTHS, default=56,
        help="depth of the wide network cifar_attentionN (default: 56)",
    )  # fmt: skip
    group.add_argument(
        "--model", metavar="NAME", choices=list(SPECS),
        help="any network of the zoo, instead of --num-layers, as cifar_attention56_thin",
    )  # fmt: skip


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--recipe", choices=list(RECIPES),
        help="where the defaults of this group come from (default: digits on digits, else gluon; "
        "the table below has them)",
    )  # fmt: skip
    for flags, name, kind, text in (
        (["--epochs"], "epochs", int, "passes over the training set"),
        (["-b", "--batch-size"], "batch_size", int, "pictures a device and step"),
        (["--optimizer"], "optimizer", recipes.OPTIMIZERS, "nag is Nesterov momentum"),
        (["--lr", "--learning-rate"], "lr", float, "learning rate at its highest"),
        (["--momentum"], "momentum", float, "momentum"),
        (["--wd", "--weight-decay"], "wd", float, "weight decay"),
        (["--lr-mode"], "lr_mode", recipes.LR_MODES, "schedule; cosine goes to zero"),
        (["--lr-steps"], "lr_steps", _epoch_list, "epochs at which the step schedule decays"),
        (["--lr-decay"], "lr_decay", float, "factor of the step schedule"),
        (["--warmup-epochs"], "warmup_epochs", int, "epochs of linear warm-up"),
        (["--mix-up"], "mixup", _zero_or_one, "1 trains with mixup, 0 without"),
        (["--alpha"], "alpha", float, "mixup draws from Beta(alpha, alpha)"),
        (["--epsilon"], "epsilon", float, "label smoothing"),
        (["--crop-padding"], "crop_padding", int, "pixels of padding before the random crop"),
        (["--crop-mode"], "crop_mode", ("reflect", "zero"), "what the padding holds"),
        (["--flip"], "flip", ("none", "random", "alternating"), "horizontal flips"),
        (["--cutout"], "cutout", int, "edge of a blanked square in pixels"),
        (["--rotation"], "rotation", float, "greatest rotation in degrees"),
        (["--normalization"], "normalization", recipes.NORMALIZATIONS, "kind of mean"),
        (["--seed"], "seed", int, "all randomness comes from it"),
        (["--dtype"], "dtype", recipes.DTYPES, "bfloat16 is for CPUs, float16 for GPUs"),
    ):
        choices = kind if isinstance(kind, tuple) else None
        default = _shown(getattr(DEFAULT_RECIPE, name))
        group.add_argument(
            *flags, dest=name, choices=choices, type=str if choices else kind,
            metavar=None if choices else name.upper(), help=f"{text} (default: {default})",
        )  # fmt: skip
    group.add_argument(
        "--no-wd", dest="no_wd", action="store_true", default=None,
        help="no weight decay on biases and normalisation (default: off)",
    )  # fmt: skip
    group.add_argument(
        "--float16", dest="dtype", action="store_const", const="float16",
        help="the same as --dtype float16",
    )  # fmt: skip
    group.add_argument(
        "--zero-init", action="store_true",
        help="start each residual unit as the identity (default: off)",
    )  # fmt: skip


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--save-dir", metavar="DIR", type=Path,
        help="run directory (default: runs/DATASET-MODEL, with the recipe's name and mixup)",
    )  # fmt: skip
    group.add_argument(
        "--resume", metavar="RUN", nargs="?", const="", default=None,
        help="with RUN: go on with that run, by its own settings; without: refuse to start anew",
    )  # fmt: skip
    group.add_argument(
        "--log-dir", metavar="DIR", type=Path,
        help="where the TensorBoard events and train.log go (default: RUN/events and RUN)",
    )  # fmt: skip
    group.add_argument(
        "--save-period", type=int, default=10, metavar="EPOCHS",
        help="keep the weights of every so many epochs, besides last and best; 0: none "
        "(default: 10)",
    )  # fmt: skip
    group.add_argument(
        "-j", "--workers", type=int, default=4, metavar="N",
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


def _epoch_list(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _zero_or_one(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _recipe_table() -> str:
    hidden = ("name", "source")
    lines = ["recipes, by what they set other than 'gluon':"]
    for recipe in RECIPES.values():
        changes = [
            f"{field.name} {_shown(getattr(recipe, field.name))}"
            for field in fields(Recipe)
            if field.name not in hidden
            and getattr(recipe, field.name) != getattr(DEFAULT_RECIPE, field.name)
        ]
        lines.append(f"  {recipe.name}: {recipe.source}")
        if changes:
            lines.append(f"      {', '.join(changes)}")
    return "\n".join(lines)


def recipe_from(args: argparse.Namespace) -> Recipe:
    """The recipe that the flags name, with the fields that they set."""
    name = args.recipe or ("digits" if args.dataset == "digits" else DEFAULT_RECIPE.name)
    given = {
        field.name: getattr(args, field.name)
        for field in fields(Recipe)
        if getattr(args, field.name, None) is not None
    }
    return training.get_recipe(name, **given)


def train_batches(
    dataset: Dataset, recipe: Recipe, normalization: Normalization, devices: int, epoch: int
) -> Batches:
    """The batches of a training epoch, `recipe.batch_size` pictures a device."""
    augmentation = Augmentation(
        crop_padding=recipe.crop_padding,
        crop_mode=recipe.crop_mode,
        flip=recipe.flip,
        cutout=recipe.cutout,
        rotation=recipe.rotation,
    )
    return Batches(
        dataset,
        recipe.batch_size * devices,
        normalization,
        seed=recipe.seed,
        epoch=epoch,
        shuffle=True,
        augmentation=augmentation,
    )


def make_run(args: argparse.Namespace) -> tuple[RunDirectory, Dataset, Dataset]:
    """The run directory that the flags ask for, new or old, and its data."""
    if args.resume:
        run = RunDirectory.open(args.resume)
        data_dir = args.data_dir or run.data["data_dir"]
        return run, *load_dataset(run.data["dataset"], data_dir)
    recipe = recipe_from(args)
    train, test = load_dataset(args.dataset, args.data_dir)
    name = args.model or f"cifar_attention{args.num_layers}"
    spec = change(SPECS[name], classes=train.num_classes, zero_init=args.zero_init)
    path = args.save_dir or _default_path(args.dataset, spec, recipe)
    kind = getattr(Normalization, recipe.normalization)
    data = {
        "dataset": args.dataset,
        "data_dir": args.data_dir,
        "class_names": list(train.class_names),
        "normalization": kind(train).to_json(),
    }
    run = RunDirectory.start(path, spec, recipe, data)
    if args.resume is not None and run.last_epoch() is None:
        raise training.RunError(f"--resume: {path} has no checkpoint to go on from")
    return run, train, test


def _default_path(dataset: str, spec: Spec, recipe: Recipe) -> Path:
    mixed = "-mixup" if recipe.mixup else ""
    return Path("runs") / f"{dataset}-{spec.name}-{recipe.name}{mixed}"


def train(args: argparse.Namespace) -> int:
    """Trains as the flags say; the exit code."""
    contexts = training.make_contexts(args.num_gpus)
    training.check_kvstore(args.kvstore)
    run, train_set, test_set = make_run(args)
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
    rows = run.metrics()
    if rows and run.last_epoch() is not None:
        last = rows[run.last_epoch()]
        LOG.info("test accuracy %.2f %% after epoch %d; best %.2f %% after epoch %d",
                 100 * last["val_top1"], last["epoch"] + 1,
                 100 * history.best_top1, history.best_epoch + 1)  # fmt: skip
    if history.completed:
        LOG.info("done; everything is in %s", run.path)
        return 0
    LOG.info("go on with: python train/cifar10_train.py --resume %s", run.path)
    return INTERRUPTED


def _log_to_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    console = logging.StreamHandler()
    LOG.setLevel(logging.INFO)
    LOG.addHandler(console)
    LOG.propagate = False
    before = list(LOG.handlers)
    try:
        return train(args)
    except KeyboardInterrupt:
        print("interrupted before training began", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, DataError, OSError, ArithmeticError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for handler in set(LOG.handlers) - set(before) | {console}:
            LOG.removeHandler(handler)
            handler.close()


if __name__ == "__main__":
    sys.exit(main())
