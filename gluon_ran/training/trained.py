"""Trained weights, wherever they lie, and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gluon_ran.data import Normalization
from gluon_ran.models import Baseline, Spec, WeightsError
from gluon_ran.models.card import read_card
from gluon_ran.training.checkpoint import CheckpointError, checked_file, read_manifest
from gluon_ran.training.run import RunDirectory


class Trained(NamedTuple):
    """Trained weights and what is known of them.

    Attributes:
        weights: the `.params` file.
        spec: the network; None where nothing tells.
        normalization: what its pictures are normalised by; None where nothing tells.
        class_names: one name a class; empty where nothing tells.
        run: the run that they were trained in, if they still lie there.
    """

    weights: Path
    spec: Spec | Baseline | None = None
    normalization: Normalization | None = None
    class_names: tuple[str, ...] = ()
    run: RunDirectory | None = None


def find_trained(path: str | Path, which: str = "best") -> Trained:
    """What a run directory, a checkpoint's weights, or a weights file with or without a card holds.

    Args:
        path: the run directory or the `.params` file.
        which: the checkpoint of a run directory, "best" or "last".

    Raises:
        WeightsError: there are no weights, or their card is damaged or of others.
        RunError, CheckpointError: a run directory is damaged or has no checkpoint yet.
    """
    path = Path(path)
    if path.is_dir():
        run = RunDirectory.open(path)
        manifest = read_manifest(run.checkpoints, which)
        if manifest is None:
            raise CheckpointError(f"{path} has no {which} checkpoint yet: train at least one epoch")
        return _of_run(run, checked_file(run.checkpoints, manifest, "weights"))
    if not path.is_file():
        raise WeightsError(
            f"there are no weights at {path}: give a run directory or a .params file"
        )
    folder = path.resolve().parent
    if folder.name == RunDirectory.CHECKPOINTS and (folder.parent / "recipe.json").is_file():
        return _of_run(RunDirectory.open(folder.parent), path)
    card = read_card(path) if path.suffix == ".params" else None
    if card is None:
        return Trained(path)
    return Trained(path, card.spec, card.normalization, card.class_names)


def _of_run(run: RunDirectory, weights: Path) -> Trained:
    names = tuple(run.data["class_names"])
    return Trained(weights, run.spec, run.normalization, names, run)
