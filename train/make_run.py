"""The run directory that the command line asks for, new or old, and its data."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flags import PICTURE_FLAGS, SPEC_FLAGS, given, picture_settings, recipe_from, spec_changes

from gluon_ran import training
from gluon_ran._files import sha256_of
from gluon_ran.data import OWN, Dataset, Normalization, kind_of, load_dataset
from gluon_ran.models import Baseline, Spec, build, change_spec, check_weights, find_spec
from gluon_ran.models.network import check_input_shape
from gluon_ran.training import Recipe, RunDirectory, Trained

_NATIVE = (32, 32)


def make_run(
    args: argparse.Namespace, devices: int, workers: int = 1
) -> tuple[RunDirectory, Dataset, Dataset, Trained | None]:
    """The run directory that the flags ask for, new or old, its data, and what it begins from.

    Raises:
        RunError: the directory holds another run, or none to go on with.
        ValueError, DataError: a flag or the data makes no sense.
    """
    if args.resume:
        return (*_old_run(args, devices, workers), None)
    trained = _trained(args)
    dataset, recipe = _dataset(args), _recipe(args, trained)
    spec = _spec(args, trained)
    settings = picture_settings(args, dataset, spec, _pictures_of(trained, dataset))
    check_size(spec, settings, recipe)
    start = {"weights": _weights_record(args, trained), "freeze": _freeze(args, spec)}
    known = None
    if trained is not None:
        check_weights(build(spec), trained.weights, new_head=True)
    if recipe.normalization == "weights":
        known = trained.normalization
        check_mean_picture(known, settings, "--normalization channel")
    path = args.save_dir or _default_path(args, dataset, spec, recipe, settings, trained)
    train, test = load_dataset(dataset, args.data_dir, **settings)
    spec = change_spec(spec, train.num_classes)
    start["workers"] = workers
    data = _data(dataset, args.data_dir, train, test, recipe, devices, {**settings, **start}, known)
    if args.resume is not None:
        _need_checkpoint(RunDirectory(path, spec, recipe, data))
    return RunDirectory.start(path, spec, recipe, data), train, test, trained


def _old_run(
    args: argparse.Namespace, devices: int, workers: int
) -> tuple[RunDirectory, Dataset, Dataset]:
    run = RunDirectory.open(args.resume)
    _need_checkpoint(run)
    _refuse_other_flags(args, run)
    dataset, data_dir = run.data["dataset"], args.data_dir or run.data["data_dir"]
    settings = picture_settings(args, dataset, run.spec, run.data)
    start = {name: run.data.get(name) for name in ("weights", "freeze")}
    start["workers"] = workers
    train, test = load_dataset(dataset, data_dir, **settings)
    known = run.normalization if run.recipe.normalization == "weights" else None
    data = _data(dataset, data_dir, train, test, run.recipe, devices, {**settings, **start}, known)
    RunDirectory(run.path, run.spec, run.recipe, data).refuse_difference(run)
    return run, train, test


def _refuse_other_flags(args: argparse.Namespace, run: RunDirectory) -> None:
    model = args.model or (args.num_layers and f"cifar_attention{args.num_layers}")
    names = (*SPEC_FLAGS, *PICTURE_FLAGS, "dataset", "freeze")
    asked = {**given(args, Recipe), **{name: getattr(args, name) for name in names}, "model": model}
    there = {**run.data, **asdict(run.recipe), **asdict(run.spec), "model": run.spec.name}
    other = [k for k, v in asked.items() if v is not None and not _same(v, there.get(k))]
    never = ("save_dir", "recipe", "zero_init", "weights")
    other += [k for k in never if getattr(args, k) is not None]
    if other:
        raise training.RunError(
            f"--resume {args.resume} goes on with that run's own settings: leave out "
            + ", ".join(f"--{name.replace('_', '-')}" for name in other)
        )


def _same(asked: Any, there: Any) -> bool:
    """Whether two settings are equal, as JSON has them: without a difference of list and tuple."""
    return json.dumps(asked) == json.dumps(there)


def _need_checkpoint(run: RunDirectory) -> None:
    if not run.has_checkpoint():
        raise training.RunError(
            f"--resume: {run.path} has no checkpoint to go on from; leave --resume out to start"
        )


def _dataset(args: argparse.Namespace) -> str:
    name = args.dataset or args.usual_dataset
    if args.data_dir is None and name not in (None, *OWN):
        return name
    if args.data_dir is None:
        raise ValueError("give --data-dir: the folder of your pictures, or of their RecordIO files")
    return name or kind_of(args.data_dir)


def _trained(args: argparse.Namespace) -> Trained | None:
    if args.weights is None:
        return None
    if not args.weights.exists():
        raise ValueError(
            f"there are no weights at {args.weights}: check the path; a run that began from them "
            "goes on without them by --resume RUN"
        )
    return training.find_trained(args.weights)


def _spec(args: argparse.Namespace, trained: Trained | None) -> Spec | Baseline:
    """The network that the flags name, or that --weights are of where these tell."""
    if args.model and args.num_layers:
        raise ValueError("give --model or --num-layers, not both")
    name = args.model or (args.num_layers and f"cifar_attention{args.num_layers}")
    if trained is not None and trained.spec is None and name is None:
        raise ValueError(
            f"nothing tells which network {args.weights} is of: name it with --model or "
            "--num-layers"
        )
    if trained is None or trained.spec is None:
        return find_spec(name or "cifar_attention56", **spec_changes(args))
    if name not in (None, trained.spec.name):
        raise ValueError(
            f"{args.weights} holds the weights of {trained.spec.name}, not of {name}: leave out "
            + ("--model" if args.model else "--num-layers")
        )
    return change_spec(trained.spec, **spec_changes(args))


def _pictures_of(trained: Trained | None, dataset: str) -> dict[str, Any]:
    """Size and fit of the pictures that weights were trained on, where they can be had again."""
    if trained is None or trained.card is None or dataset not in OWN:
        return {}
    return {"size": trained.card.size, "fit": trained.card.fit}


def _recipe(args: argparse.Namespace, trained: Trained | None) -> Recipe:
    """The recipe of the flags; pictures are normalised as those of --weights, if these tell."""
    recipe = recipe_from(args)
    known = trained is not None and trained.normalization is not None
    if args.normalization is None and known:
        return replace(recipe, normalization="weights")
    if recipe.normalization == "weights" and not known:
        of = (
            "there are no --weights" if trained is None else f"nothing tells how for {args.weights}"
        )
        raise ValueError(
            "--normalization weights normalises pictures as those of the trained weights, and "
            f"{of}: give channel or per_pixel"
        )
    return recipe


def check_size(
    spec: Spec | Baseline, settings: dict[str, Any], recipe: Recipe | None = None
) -> None:
    """Refuses sizes that the network or the pictures do not have, before any picture is read.

    Raises:
        ValueError: says which sizes it takes.
    """
    height, width = settings["size"] or _NATIVE
    check_input_shape(spec, (1, 3, height, width))
    for edge, _ in recipe.progressive_sizes if recipe is not None else ():
        check_input_shape(spec, (1, 3, edge, edge))
        if height != width or edge > height:
            raise ValueError(
                f"--progressive-sizes shrinks square pictures, and these of {height}x{width} have "
                f"no smaller size {edge}: give other sizes, or another recipe"
            )


def check_mean_picture(
    normalization: Normalization, settings: dict[str, Any], instead: str | None = None
) -> None:
    """Refuses pictures of another size than the mean picture's, before any is read.

    Raises:
        ValueError: names the size; and `instead`, what else can be given, if anything.
    """
    (height, width), mean = settings["size"] or _NATIVE, normalization.mean
    if mean.ndim == 3 and mean.shape[:2] != (height, width):
        size = f"{mean.shape[0]}x{mean.shape[1]}"
        raise ValueError(
            f"the weights were trained with a mean picture of {size}, and these pictures are "
            f"{height}x{width}: give --size {size}" + (f" or {instead}" if instead else "")
        )


def _freeze(args: argparse.Namespace, spec: Spec | Baseline) -> int | None:
    if args.freeze is None:
        return None
    if args.weights is None:
        raise ValueError("--freeze keeps trained layers as they are: give their --weights")
    if isinstance(spec, Baseline):
        raise ValueError(
            f"{spec.name} is GluonCV's and has no stages to freeze: leave out --freeze"
        )
    if args.freeze > len(spec.widths):
        raise ValueError(
            f"--freeze {args.freeze}: {spec.name} has {len(spec.widths)} stages, so 0 to that many"
        )
    return args.freeze


def _weights_record(args: argparse.Namespace, trained: Trained | None) -> str | None:
    """What data.json says of the weights that training starts from: their name and SHA-256."""
    if trained is None:
        return None
    return f"{args.weights.resolve().name} sha256 {sha256_of(trained.weights)}"


def check_unchanged(run: RunDirectory, trained: Trained) -> None:
    """Refuses weights that are no longer those that the run directory names.

    Raises:
        ValueError: another process has written them since.
    """
    if sha256_of(trained.weights) != run.data["weights"].rpartition(" ")[2]:
        raise ValueError(
            f"{trained.weights} changed while the pictures were read: start again, when nothing "
            "writes to it any more"
        )


def _data(
    name: str,
    folder: str | None,
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    devices: int,
    settings: dict[str, Any],
    normalization: Normalization | None,
) -> dict[str, Any]:
    """What data.json holds: what must be the same for a run to go on, and where the data lies.

    The normalisation is that of the training set where none is given.
    """
    if normalization is None:
        normalization = getattr(Normalization, recipe.normalization)(train)
    return {
        "dataset": name,
        "data_dir": folder and str(Path(folder).expanduser().resolve()),
        "class_names": list(train.class_names),
        "labels_sha256": labels_sha256(train, test),
        "devices": devices,
        **settings,
        "normalization": normalization.to_json(),
    }


def labels_sha256(train: Dataset, test: Dataset) -> str:
    """What tells two data sets apart."""
    return hashlib.sha256(train.labels.tobytes() + test.labels.tobytes()).hexdigest()


def _default_path(
    args: argparse.Namespace,
    dataset: str,
    spec: Spec | Baseline,
    recipe: Recipe,
    settings: dict[str, Any],
    trained: Trained | None,
) -> Path:
    """runs/DATASET-MODEL-RECIPE, with what was changed in any of the three behind it."""
    own = dataset in OWN
    known = trained is not None and trained.spec is not None
    usual = trained.spec if known else find_spec(spec.name)
    parts = [Path(args.data_dir).expanduser().resolve().name if own else dataset, spec.name]
    parts += [
        f"dropout{spec.dropout}" if name == "dropout" else getattr(spec, name)
        for name in SPEC_FLAGS
        if getattr(spec, name, None) != getattr(usual, name, None)
    ]
    if own and settings["size"] != spec.input_size:
        height, width = settings["size"]
        parts.append(str(height) if height == width else f"{height}x{width}")
    if own and settings["fit"] != "crop":
        parts.append(settings["fit"])
    if trained is not None:
        source = args.weights.resolve()
        name = source.name if source.is_dir() else source.stem
        in_run = trained.run is not None and not source.is_dir()
        parts.append(f"from_{trained.run.path.resolve().name}-{name}" if in_run else f"from_{name}")
    parts += [f"freeze{args.freeze}"] if args.freeze is not None else []
    parts.append(recipe.name)
    return Path("runs") / ("-".join(parts) + ("-mixup" if recipe.mixup else ""))
