"""The flags that set a Recipe's fields, for every training script."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from gluon_ran import training
from gluon_ran.training import RECIPES, Recipe
from gluon_ran.training import recipe as recipes

DEFAULT_RECIPE = RECIPES["gluon"]


def add_recipe_flags(group: argparse._ArgumentGroup) -> None:
    """Adds --recipe and a flag for each field of a Recipe."""
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


def recipe_table() -> str:
    """The recipes and what each sets, for the end of --help."""
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
    return training.get_recipe(name, **given(args, Recipe))


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The flags that were given and are fields of a dataclass."""
    names = (field.name for field in fields(cls))
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
