"""The run directory that the command line asks for, new or old, and its data."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flags import (
    PICTURE_FLAGS,
    SPEC_FLAGS,
    STREAM,
    STREAM_FLAGS,
    given,
    picture_settings,
    recipe_from,
    refuse_unfit_flags,
    refuse_unread_flags,
    spec_changes,
)
from sources import (
    InMemory,
    Streamed,
    check_mean_picture,
    check_recipe,
    check_size,
    open_source,
)

from gluon_ran import training
from gluon_ran._files import sha256_of
from gluon_ran.data import OWN, Normalization, kind_of
from gluon_ran.models import (
    Baseline,
    Spec,
    WeightsError,
    build,
    change_spec,
    check_weights,
    find_spec,
)
from gluon_ran.training import Group, Recipe, RunDirectory, Trained


def make_run(
    args: argparse.Namespace, devices: int, workers: int = 1
) -> tuple[RunDirectory, InMemory | Streamed, Trained | None]:
    """The run directory that the flags ask for, new or old, its pictures, and what it begins from.

    Raises:
        RunError: the directory holds another run, or none to go on with.
        ValueError, DataError: a flag or the data makes no sense.
    """
    if args.resume:
        return (*_old_run(args, devices, workers), None)
    trained = _trained(args)
    dataset = _dataset(args)
    refuse_unfit_flags(args, dataset)
    recipe, spec = _recipe(args, trained, dataset), _spec(args, trained, dataset)
    check_recipe(recipe, dataset)
    refuse_unread_flags(args, recipe)
    settings = picture_settings(args, dataset, spec, _pictures_of(trained, dataset))
    check_size(spec, settings, recipe)
    start = {"weights": _weights_record(args, trained), "freeze": _freeze(args, spec)}
    start["hold_out"] = args.hold_out
    known = None
    if trained is not None:
        check_weights(build(spec), trained.weights, new_head=True)
    if recipe.normalization == "weights":
        known = trained.normalization
        check_mean_picture(known, settings, "--normalization channel")
    path = args.save_dir or _default_path(args, dataset, spec, recipe, settings, trained)
    source = open_source(dataset, args.data_dir, settings, held_out=args.hold_out)
    spec = change_spec(spec, len(source.class_names))
    start["workers"] = workers
    data = _data(dataset, args.data_dir, source, recipe, devices, {**settings, **start}, known)
    run = RunDirectory(path, spec, recipe, data)
    source.training_batches(
        recipe, run.normalization, devices, Group(count=workers), 0
    )  # or raises
    if args.resume is not None:
        _need_checkpoint(run)
    return RunDirectory.start(path, spec, recipe, data), source, trained


def _old_run(
    args: argparse.Namespace, devices: int, workers: int
) -> tuple[RunDirectory, InMemory | Streamed]:
    run = RunDirectory.open(args.resume)
    _need_checkpoint(run)
    _refuse_other_flags(args, run)
    dataset, data_dir = run.data["dataset"], args.data_dir or run.data["data_dir"]
    settings = picture_settings(args, dataset, run.spec, run.data)
    start = {name: run.data.get(name) for name in ("weights", "freeze", "hold_out")}
    start["workers"] = workers
    source = open_source(dataset, data_dir, settings, run.data["class_names"], start["hold_out"])
    known = run.normalization if run.recipe.normalization == "weights" else None
    data = _data(dataset, data_dir, source, run.recipe, devices, {**settings, **start}, known)
    RunDirectory(run.path, run.spec, run.recipe, data).refuse_difference(run)
    return run, source


def _refuse_other_flags(args: argparse.Namespace, run: RunDirectory) -> None:
    refuse_unfit_flags(args, run.data["dataset"])
    model = _model_name(args, run.data["dataset"])
    names = {*SPEC_FLAGS, *PICTURE_FLAGS, *STREAM_FLAGS, "dataset", "freeze", "hold_out"} - {
        "broken"
    }
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
    """Whether two settings are equal but for what JSON makes alike: (1, 2) and [1, 2]."""
    return json.loads(json.dumps(asked)) == json.loads(json.dumps(there))


def _need_checkpoint(run: RunDirectory) -> None:
    if not run.has_checkpoint():
        raise training.RunError(
            f"--resume: {run.path} has no checkpoint to go on from; leave --resume out to start"
        )


def _dataset(args: argparse.Namespace) -> str:
    name = args.dataset or args.usual_dataset
    if args.data_dir is None and name not in (None, *OWN, STREAM):
        return name
    if args.data_dir is None:
        raise ValueError("give --data-dir: the folder of your pictures, or of their RecordIO files")
    return name or kind_of(args.data_dir)


def _trained(args: argparse.Namespace) -> Trained | None:
    if args.weights is None:
        return None
    try:
        return training.find_trained(args.weights)
    except WeightsError as error:
        if args.weights.exists():
            raise
        raise WeightsError(
            f"{error}; a run that began from them goes on without them by --resume RUN"
        ) from None


def _model_name(args: argparse.Namespace, dataset: str) -> str | None:
    """The network that the flags name, if they do."""
    family = "attention" if dataset == STREAM else "cifar_attention"
    return args.model or (args.num_layers and f"{family}{args.num_layers}")


def _spec(args: argparse.Namespace, trained: Trained | None, dataset: str) -> Spec | Baseline:
    """The network that the flags name, or that --weights are of where these tell."""
    if args.model and args.num_layers:
        raise ValueError("give --model or --num-layers, not both")
    name = _model_name(args, dataset)
    if trained is not None and trained.spec is None and name is None:
        raise ValueError(
            f"nothing tells which network {args.weights} is of: name it with --model or "
            "--num-layers"
        )
    if trained is None or trained.spec is None:
        usual = "attention56" if dataset == STREAM else "cifar_attention56"
        return find_spec(name or usual, **spec_changes(args))
    if name not in (None, trained.spec.name):
        raise ValueError(
            f"{args.weights} holds the weights of {trained.spec.name}, not of {name}: leave out "
            + ("--model" if args.model else "--num-layers")
        )
    return change_spec(trained.spec, **spec_changes(args))


def _pictures_of(trained: Trained | None, dataset: str) -> dict[str, Any]:
    """Size and fit of the pictures that weights were trained on, where they can be had again."""
    if trained is None or trained.card is None or dataset not in (*OWN, STREAM):
        return {}
    return {"size": trained.card.size, "fit": trained.card.fit}


def _recipe(args: argparse.Namespace, trained: Trained | None, dataset: str) -> Recipe:
    """The recipe of the flags; pictures are normalised as those of --weights, if these tell.

    Else those of a stream are normalised as ImageNet's usually are.
    """
    recipe = recipe_from(args)
    known = trained is not None and trained.normalization is not None
    if args.normalization is None and known:
        return replace(recipe, normalization="weights")
    if args.normalization is None and dataset == STREAM:
        return replace(recipe, normalization="imagenet")
    if recipe.normalization == "weights" and not known:
        of = (
            "there are no --weights" if trained is None else f"nothing tells how for {args.weights}"
        )
        raise ValueError(
            "--normalization weights normalises pictures as those of the trained weights, and "
            f"{of}: give another one"
        )
    return recipe


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
    source: InMemory | Streamed,
    recipe: Recipe,
    devices: int,
    settings: dict[str, Any],
    normalization: Normalization | None,
) -> dict[str, Any]:
    """What data.json holds: what must be the same for a run to go on, and where the data lies.

    The normalisation is that of the training set where none is given.
    """
    if normalization is None:
        normalization = source.normalization(recipe.normalization)
    return {
        "dataset": name,
        "data_dir": folder and str(Path(folder).expanduser().resolve()),
        "class_names": list(source.class_names),
        **source.fingerprint(),
        "devices": devices,
        **settings,
        "normalization": normalization.to_json(),
    }


def _default_path(
    args: argparse.Namespace,
    dataset: str,
    spec: Spec | Baseline,
    recipe: Recipe,
    settings: dict[str, Any],
    trained: Trained | None,
) -> Path:
    """runs/DATASET-MODEL-RECIPE, with what was changed in any of the three behind it."""
    own = dataset in (*OWN, STREAM)
    known = trained is not None and trained.spec is not None
    usual = trained.spec if known else find_spec(spec.name)
    parts = [Path(args.data_dir).expanduser().resolve().name if own else dataset, spec.name]
    parts += [
        f"dropout{spec.dropout}" if name == "dropout" else getattr(spec, name)
        for name in SPEC_FLAGS
        if getattr(spec, name, None) != getattr(usual, name, None)
    ]
    if own and settings["size"] != spec.input_size:
        parts.append(_sides(settings["size"]))
    if own and settings.get("fit", "crop") != "crop":
        parts.append(settings["fit"])
    if dataset == STREAM and settings["test_size"] != settings["size"]:
        parts.append(f"test{_sides(settings['test_size'])}")
    if trained is not None:
        source = args.weights.resolve()
        name = source.name if source.is_dir() else source.stem
        in_run = trained.run is not None and not source.is_dir()
        parts.append(f"from_{trained.run.path.resolve().name}-{name}" if in_run else f"from_{name}")
    parts += [f"freeze{args.freeze}"] if args.freeze is not None else []
    parts += [f"without{args.hold_out}"] if args.hold_out is not None else []
    parts += [f"label_noise{recipe.label_noise:g}"] if recipe.label_noise else []
    parts.append(recipe.name)
    return Path("runs") / ("-".join(parts) + ("-mixup" if recipe.mixup else ""))


def _sides(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else "x".join(map(str, size))
