"""Trained weights, wherever they lie, and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import Normalization
from gluon_ran.data.catalog import NATIVE
from gluon_ran.data.cifar import CIFAR
from gluon_ran.models import (
    Baseline,
    Card,
    Spec,
    WeightsError,
    build,
    load_weights,
    read_card,
)
from gluon_ran.models.pretrained import locate, no_weights
from gluon_ran.training.manifest import (
    CheckpointError,
    checked_file,
    newest_whole,
    read_manifest,
)
from gluon_ran.training.run import RunDirectory

import mxnet as mx
from mxnet.gluon import HybridBlock


class Trained(NamedTuple):
    """Trained weights and what is known of them.

    Attributes:
        weights: the `.params` file.
        card: what they are of; None where nothing tells.
        run: the run that they were trained in, if they still lie there.
    """

    weights: Path
    card: Card | None = None
    run: RunDirectory | None = None

    @property
    def spec(self) -> Spec | Baseline | None:
        """The network; None where nothing tells."""
        return None if self.card is None else self.card.spec

    @property
    def normalization(self) -> Normalization | None:
        """What the network's pictures are normalised by; None where nothing tells."""
        return None if self.card is None else self.card.normalization

    def network(self, contexts: Sequence[mx.Context] = ()) -> HybridBlock:
        """The network with its weights, ready to run.

        Raises:
            WeightsError: nothing tells which network it is, or the file is damaged.
        """
        if self.card is None:
            raise WeightsError(f"nothing tells which network {self.weights} is of: build it first")
        net = build(self.card.spec)
        load_weights(net, self.weights, contexts)
        return net


def find_trained(
    path: str | Path, which: str = "best", root: str | os.PathLike[str] | None = None
) -> Trained:
    """What a run directory, a checkpoint's weights, or a weights file with or without a card holds.

    Args:
        path: the run directory, the `.params` file, or a name of trained weights, where no file and
            no folder is called so.
        which: the checkpoint of a run directory, "best" or "last".
        root: where weights are looked for by name, see `find_pretrained`.

    Raises:
        WeightsError: there are no weights, or their card is damaged or of others.
        RunError, CheckpointError: a run directory is damaged or has no such checkpoint.
    """
    path = Path(path)
    if len(path.parts) == 1 and path.suffix != ".params" and not path.exists():
        found = locate(path.name, root)
        if found is None:
            raise WeightsError(f"no run is called {path}, and {no_weights(path.name, root)}")
        return Trained(*found)
    if path.is_dir():
        run = RunDirectory.open(path)
        return Trained(_checkpoint(run, which), card_of(run), run)
    if not path.is_file():
        raise WeightsError(
            f"there are no weights at {path}: give a run directory, a .params file or a name of "
            "trained weights"
        )
    folder = path.resolve().parent
    if folder.name == RunDirectory.CHECKPOINTS and (folder.parent / "recipe.json").is_file():
        run = RunDirectory.open(folder.parent)
        for manifest in (read_manifest(folder, which) for which in ("best", path.stem)):
            if manifest is not None and manifest["weights"] == path.name:
                checked_file(folder, manifest, "weights")
        return Trained(path, card_of(run), run)
    return Trained(path, read_card(path) if path.suffix == ".params" else None)


def _checkpoint(run: RunDirectory, which: str) -> Path:
    if which == "last":
        manifest = newest_whole(run.checkpoints, run.data.get("run_id"))
    else:
        manifest = read_manifest(run.checkpoints, which)
    if manifest is None and which == "best" and run.has_checkpoint():
        raise CheckpointError(
            f"{run.path} has no best checkpoint yet: only epochs at the pictures' own size count, "
            f"and only with a test; give a file in {run.checkpoints}, or, where there is the flag, "
            "--checkpoint last (which='last' in Python)"
        )
    if manifest is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet: train at least one epoch")
    return checked_file(run.checkpoints, manifest, "weights")


def card_of(run: RunDirectory) -> Card:
    """What the weights of a run are of, whether there are some yet or not."""
    size = run.data.get("size")
    native = run.data["dataset"] in (*CIFAR, "digits")
    if size is None and native and run.spec.input_size != NATIVE:
        size = NATIVE  # which is not what such networks usually take
    return Card(
        run.spec, run.normalization, tuple(run.data["class_names"]), size, run.data.get("fit")
    )
