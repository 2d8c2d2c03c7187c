"""The flags that several scripts share: those of a Recipe, of a Spec, and of one's own pictures."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from gluon_ran import training
from gluon_ran.commands.common import picture_size
from gluon_ran.data import OWN
from gluon_ran.data.loading import BROKEN
from gluon_ran.data.pictures import FITS
from gluon_ran.models import Baseline, Spec, list_baselines, list_models
from gluon_ran.models.spec import ATTENTIONS, LEARNINGS, MASKS, UNITS
from gluon_ran.models.zoo import did_you_mean
from gluon_ran.training import RECIPES, Recipe
from gluon_ran.training import recipe as recipes
from gluon_ran.training.monitor import LOG

# Pictures of RecordIO files that are never in memory all at once.
STREAM = "stream"
DEFAULT_RECIPE = RECIPES["gluon"]
_USUAL_RECIPES = {"digits": "digits", STREAM: "imagenet-paper"}
SPEC_FLAGS = ("unit", "attention", "learning", "mask", "dropout")
PICTURE_FLAGS = ("size", "fit", "broken")
STREAM_FLAGS = ("size", "test_size", "broken")
_NOT_STREAMED = (
    "fit", "crop_padding", "crop_mode", "cutout", "rotation", "label_noise", "hold_out",
)  # fmt: skip
_STREAMED_ONLY = ("test_size", "least_area", "aspect", "jitter", "lighting")


def network_name(text: str) -> str:
    """A name of the zoo.

    Raises:
        ArgumentTypeError: there is no such network; names close ones.
    """
    names = [*list_models(), *list_baselines()]
    if text not in names:
        raise argparse.ArgumentTypeError(
            f"no network is called {text!r}{did_you_mean(text, names)} (gluon-ran list has all)"
        )
    return text


def add_spec_flags(group: argparse._ArgumentGroup) -> None:
    """Adds a flag for each field of a Spec that a person compares."""
    for name, choices, text in (
        ("unit", UNITS, "residual unit"),
        ("attention", ATTENTIONS, "what the soft mask is normalised over"),
        ("learning", LEARNINGS, "a module gives (1 + mask) trunk, or naively mask trunk"),
        ("mask", MASKS, "whether the mask branch goes down and up again, or stays"),
    ):
        group.add_argument(
            f"--{name}", choices=choices, help=f"{text} (default: that of the model)"
        )
    group.add_argument(
        "--dropout", type=float, metavar="P",
        help="share of the embedding dropped before the classifier (default: that of the model)",
    )  # fmt: skip


def add_picture_flags(group: argparse._ArgumentGroup, size: str) -> None:
    """Adds the flags of pictures of one's own; `size` says what --size is by default."""
    group.add_argument(
        "--size", type=picture_size, metavar="N",
        help=f"side that pictures of your own are brought to, or HxW (default: {size})",
    )  # fmt: skip
    group.add_argument(
        "--fit", choices=FITS,
        help="how they come to it: crop cuts what is too long, squash changes the shape, pad adds "
        "grey borders (default: crop)",
    )  # fmt: skip
    group.add_argument(
        "--broken", choices=BROKEN,
        help="skip leaves out pictures that can't be decoded and names them (default: refuse)",
    )  # fmt: skip


def add_test_size(group: argparse._ArgumentGroup) -> None:
    """Adds --test-size, which training alone needs: evaluation has one size."""
    group.add_argument(
        "--test-size", type=picture_size, metavar="N",
        help="side of the pictures of a stream's test, or HxW: their middle, 87.5 %% of the "
        "shorter side (default: --size)",
    )  # fmt: skip


def add_hold_out(group: argparse._ArgumentGroup) -> None:
    """Adds --hold-out, to choose a recipe without the test."""
    group.add_argument(
        "--hold-out", type=int, metavar="N",
        help="train without N pictures of the training set, the same ones each time, and score on "
        "them instead of on the test, which takes no part: to choose a recipe by; not of a stream "
        "(default: train on all)",
    )  # fmt: skip


def add_recipe_flags(group: argparse._ArgumentGroup, usual: Recipe) -> None:
    """Adds --recipe and a flag for each field of a Recipe, whose defaults are those of `usual`."""
    group.add_argument(
        "--recipe", choices=list(RECIPES),
        help="where the defaults of this group come from (default: digits on digits, "
        "imagenet-paper on a stream, else gluon; the table below has them)",
    )  # fmt: skip
    for flags, name, kind, text in (
        (["--epochs"], "epochs", int, "passes over the training set"),
        (["-b", "--batch-size"], "batch_size", int, "pictures a device and step"),
        (["--optimizer"], "optimizer", recipes.OPTIMIZERS,
         "nag is Nesterov momentum; muon makes each weight's step orthogonal, by other rates and "
         "decays, as those of the recipe muon"),
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
        (["--progressive-sizes"], "progressive_sizes", _edges_and_epochs,
         "EDGE:EPOCHS,... first epochs on pictures shrunk to EDGE pixels, or none"),
        (["--crop-padding"], "crop_padding", int,
         "pixels of padding before the random crop; not of a stream"),
        (["--crop-mode"], "crop_mode", ("reflect", "zero"), "what the padding holds"),
        (["--flip"], "flip", ("none", "random", "alternating"), "horizontal flips"),
        (["--cutout"], "cutout", int, "edge of a blanked square in pixels; not of a stream"),
        (["--rotation"], "rotation", float, "greatest rotation in degrees; not of a stream"),
        (["--least-area"], "least_area", float,
         "of a stream: least share of the picture that a random resized crop has"),
        (["--aspect"], "aspect", float,
         "of a stream: greatest ratio of the longer side of a crop to the shorter"),
        (["--jitter"], "jitter", float,
         "of a stream: share by which brightness, contrast and saturation change at most"),
        (["--lighting"], "lighting", float,
         "of a stream: deviation of PCA lighting"),
        (["--label-noise"], "label_noise", float,
         "share of the training labels that are wrong, as in the paper; not of a stream"),
        (["--normalization"], "normalization", recipes.NORMALIZATIONS,
         "kind of mean; weights is that of --weights, and the default where they tell it; imagenet "
         "is the usual one, and that of a stream"),
        (["--seed"], "seed", int, "all randomness comes from it"),
        (["--dtype"], "dtype", recipes.DTYPES, "bfloat16 is for CPUs, float16 for GPUs"),
    ):  # fmt: skip
        choices = kind if isinstance(kind, tuple) else None
        default = _shown(getattr(usual, name))
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


def _edges_and_epochs(text: str) -> tuple[tuple[int, int], ...]:
    if text == "none":
        return ()
    pairs = [part.split(":") for part in text.split(",") if part.strip()]
    try:
        return tuple((int(edge), int(epochs)) for edge, epochs in pairs)
    except ValueError:
        message = f"{text!r} is neither EDGE:EPOCHS,... as in 16:3,24:4 nor none"
        raise argparse.ArgumentTypeError(message) from None


def _zero_or_one(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown_pair(each) for each in value) or "none"
    return str(int(value)) if isinstance(value, bool) else str(value)


def _shown_pair(value: object) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
    name = args.recipe or usual_recipe(args.dataset or args.usual_dataset).name
    return training.get_recipe(name, **given(args, Recipe))


def warn_of_rates(args: argparse.Namespace, recipe: Recipe) -> None:
    """Warns where rate or decay are left as the recipe has them for a very different optimizer."""
    usual = RECIPES[recipe.name].optimizer
    left = [flag for flag in ("lr", "wd") if getattr(args, flag) is None]
    if left and (usual == "muon") != (recipe.optimizer == "muon"):
        LOG.warning(
            "%s of the recipe %s suit the optimizer %s, not %s: give %s too",
            " and ".join(left), recipe.name, usual, recipe.optimizer,
            " and ".join(f"--{flag}" for flag in left),
        )  # fmt: skip


def refuse_unread_flags(args: argparse.Namespace, recipe: Recipe) -> None:
    """Refuses flags that nothing reads by the recipe or beside --weights.

    Raises:
        ValueError: names them, and what would read them.
    """
    for names, instead, read in (
        (("lr_steps", "lr_decay"), "--lr-mode step", recipe.lr_mode == "step"),
        (("alpha",), "--mix-up 1", recipe.mixup),
        (("crop_mode",), "--crop-padding above 0", recipe.crop_padding > 0),
    ):
        found = [f"--{n.replace('_', '-')}" for n in names if getattr(args, n) is not None]
        if found and not read:
            raise ValueError(f"{', '.join(found)}: for {instead}; leave it out, or give that too")
    if args.weights is not None and args.zero_init:
        raise ValueError("--zero-init is how units start, and --weights are their start: give one")


def usual_recipe(dataset: str | None) -> Recipe:
    """The recipe of a data set where no flag names one."""
    return RECIPES[_USUAL_RECIPES.get(dataset, DEFAULT_RECIPE.name)]


def refuse_unfit_flags(args: argparse.Namespace, dataset: str) -> None:
    """Refuses flags that say nothing about pictures of the data set's kind.

    Raises:
        ValueError: names them.
    """
    streamed = dataset == STREAM
    names = _NOT_STREAMED if streamed else _STREAMED_ONLY
    found = [f"--{n.replace('_', '-')}" for n in names if getattr(args, n, None) is not None]
    if found:
        why = "for data sets in memory, not for a stream" if streamed else "for a stream alone"
        raise ValueError(f"{', '.join(found)}: {why}; leave it out with --dataset {dataset}")


def given(args: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The flags that were given and are fields of a dataclass."""
    names = (field.name for field in fields(cls))
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


def spec_changes(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a Spec that the flags set."""
    names = (*SPEC_FLAGS, "zero_init")
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


def picture_settings(
    args: argparse.Namespace, dataset: str, spec: Spec | Baseline, old: dict[str, Any]
) -> dict[str, Any]:
    """What `sources.open_source` takes: by flag, else of the run `old`, else by default."""
    names = STREAM_FLAGS if dataset == STREAM else PICTURE_FLAGS
    settings = {name: getattr(args, name, None) or old.get(name) for name in names}
    if dataset in OWN or dataset == STREAM:
        defaults = {"size": spec.input_size, "fit": FITS[0], "broken": BROKEN[0]}
        defaults["test_size"] = settings["size"] or spec.input_size
        settings = {name: settings[name] or defaults[name] for name in names}
    # JSON has lists only.
    return {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
