"""The run of several workers: the first makes it, and tells the others what it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flags import picture_settings
from make_run import make_run
from sources import InMemory, Streamed, open_source

from gluon_ran.models import spec_from_json
from gluon_ran.training import Group, Recipe, RunDirectory, Trained


def make_shared_run(
    args: argparse.Namespace, devices: int, group: Group
) -> tuple[RunDirectory, InMemory | Streamed, Trained | None]:
    """What `make_run` gives; workers but the first need the data alone, not the run directory.

    Raises:
        RunError, ValueError, DataError: as `make_run`; or the data is not the first worker's.
        RuntimeError: the first worker failed.
    """
    made: list[Any] = []

    def describe() -> list[Any]:
        made[:] = make_run(args, devices, group.count)
        run = made[0]
        return [str(run.path), run.spec.to_json(), run.recipe.to_json(), run.data]

    there = group.told(describe)
    return tuple(made) if made else _run_of_first(args, *there)


def _run_of_first(
    args: argparse.Namespace, path: str, spec: str, recipe: str, data: dict[str, Any]
) -> tuple[RunDirectory, InMemory | Streamed, None]:
    run = RunDirectory(Path(path), spec_from_json(spec), Recipe.from_json(recipe), data)
    settings = picture_settings(args, data["dataset"], run.spec, data)
    data_dir = args.data_dir or data["data_dir"]
    source = open_source(
        data["dataset"], data_dir, settings, data["class_names"], data.get("hold_out")
    )
    if any(data.get(key) != value for key, value in source.fingerprint().items()):
        raise ValueError(
            f"{data['dataset']} has other pictures here than the first worker has: give all of "
            "them the same data"
        )
    return run, source, None
