"""fit: trains a network by a recipe, saves each epoch, and goes on where an earlier fit stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import prefetch
from gluon_ran.training import checkpoint
from gluon_ran.training.evaluation import evaluate
from gluon_ran.training.history import EpochResult, History
from gluon_ran.training.monitor import LOG, Board, Progress
from gluon_ran.training.precision import LossScale, check_dtype
from gluon_ran.training.recipe import Recipe, lr_at
from gluon_ran.training.run import RunDirectory
from gluon_ran.training.step import Stepper, StepResult
from gluon_ran.training.targets import mixup, mixup_lam, soft_targets
from gluon_ran.visualize import plot_curves

import mxnet as mx
from mxnet.gluon import HybridBlock


class TrainingDiverged(ArithmeticError):
    """The loss is no longer a number: says where, and what to change."""


def fit(
    net: HybridBlock,
    recipe: Recipe,
    train: Callable[[int], Iterable],
    validation: Iterable | None = None,
    *,
    classes: int,
    run: RunDirectory | None = None,
    contexts: Sequence[mx.Context] = (),
    kvstore: str = "device",
    workers: int = 2,
    save_period: int = 0,
    log_dir: Path | None = None,
    progress: bool = True,
) -> History:
    """Trains a network.

    With a run directory each epoch is saved, and a run that is there already goes on behind its
    last saved epoch, to the same numbers as without the break (on one CPU, bit for bit). Ctrl-C
    ends the training with the epochs reached so far.

    Args:
        net: the network; it is initialised from `recipe.seed` if it is not yet.
        recipe: how to train.
        train: gives the batches of an epoch, counted from 0: an iterable with a length, of images
            and labels in NumPy, float32 (N, C, H, W) and integers (N,).
        validation: batches to evaluate on behind each epoch.
        classes: outputs of the network.
        run: where to save; None saves nothing.
        contexts: devices; the CPU if none is given. Batches are split over them.
        kvstore: what sums the gradients of several devices: "local", "device" or "nccl".
        workers: batches made ahead in the background; 0 for none.
        save_period: keep the weights of every so many epochs; 0 keeps the last and the best.
        log_dir: where the MXBoard events go; the run's "events" if None.
        progress: show a bar on a terminal, else lines in the log "gluon_ran".

    Raises:
        ValueError: the precision is not one that the devices have, or a label not of `classes`.
        TrainingDiverged: the loss or a weight is not finite. What was saved before stays.
        CheckpointError: a checkpoint to go on from is damaged.
    """
    contexts = list(contexts) or [mx.cpu()]
    check_dtype(recipe.dtype, contexts)
    stepper, history = Stepper(net, recipe, contexts, kvstore), History()
    start = _resume(stepper, run, history)
    with ExitStack() as stack:
        stack.callback(stepper.close)
        board = None
        if run is not None and start < recipe.epochs:
            board = stack.enter_context(Board(log_dir or run.path / "events"))
        try:
            for epoch in range(start, recipe.epochs):
                batches = train(epoch)
                soft = _SoftBatches(batches, recipe, classes, epoch)
                result = _epoch(stepper, soft, recipe, epoch, workers, progress, validation)
                _log(result, recipe)
                if run is not None:
                    _save(run, stepper, result, history, save_period)
                    _show(board, stepper, result, soft.first, with_pictures=epoch == start)
                history.add(result)
            history.completed = True
        except KeyboardInterrupt:
            mx.nd.waitall()
            reached = history.epochs[-1].epoch + 1 if history.epochs else start
            LOG.info("interrupted: %d of %d epochs are done", reached, recipe.epochs)
    return history


def _resume(stepper: Stepper, run: RunDirectory | None, history: History) -> int:
    """Loads the last checkpoint, if there is one; the epoch to go on with."""
    manifest = checkpoint.read_manifest(run.checkpoints, "last") if run is not None else None
    if manifest is None:
        return 0
    weights = checkpoint.checked_file(run.checkpoints, manifest, "weights")
    states = checkpoint.checked_file(run.checkpoints, manifest, "states")
    checkpoint.load_weights(stepper.net, weights, stepper.contexts)
    checkpoint.load_states(stepper.net, stepper.trainer, states)
    progress = manifest["progress"]
    history.best_top1, history.best_epoch = progress["best_top1"], progress["best_epoch"]
    stepper.scale.value, stepper.scale.good_steps = progress["loss_scale"]
    LOG.info("going on behind epoch %d of %s", manifest["epoch"] + 1, run.path)
    return manifest["epoch"] + 1


class _SoftBatches:
    """The batches of an epoch with soft targets, mixed where the recipe says so.

    Attributes:
        first: pictures of the first batch, once it has been made.
    """

    def __init__(self, batches: Iterable, recipe: Recipe, classes: int, epoch: int) -> None:
        self._batches, self._recipe = batches, recipe
        self._classes, self._epoch = classes, epoch
        self.first: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for step, (images, labels) in enumerate(self._batches):
            targets = soft_targets(labels, self._classes, self._recipe.epsilon)
            lam = mixup_lam(self._recipe, self._epoch, step)
            if lam < 1:
                images, targets = mixup(images, targets, lam)
            if self.first is None:
                self.first = images
            yield images, targets


class _Meter:
    """Collects the results of steps, each when the next one has been handed to the devices."""

    def __init__(self, bar: Progress, where: str, scale: LossScale) -> None:
        self._bar, self._where, self._scale = bar, where, scale
        self._waiting: tuple[StepResult, float] | None = None
        self.losses: list[float] = []
        self.total = self.hits = self.count = 0

    def add(self, result: StepResult | None, lr: float = 0.0) -> None:
        if self._waiting is not None:
            self._collect(*self._waiting)
        self._waiting = None if result is None else (result, lr)

    def _collect(self, result: StepResult, lr: float) -> None:
        loss = result.loss
        if not math.isfinite(loss):
            # A scaled loss may overflow, and its step is skipped, as long as the scale can fall.
            if self._scale.value > 1:
                return
            raise _diverged(f"the loss became {loss} in step {len(self.losses) + 1}", self._where)
        self.losses.append(loss)
        self.total += loss * result.count
        self.hits += result.hits
        self.count += result.count
        self._bar.step(result.count, loss, lr)


def _diverged(what: str, where: str) -> TrainingDiverged:
    return TrainingDiverged(
        f"{what} of {where}: lower the learning rate or lengthen the warm-up; what was saved "
        "before is untouched"
    )


def _epoch(
    stepper: Stepper,
    batches: _SoftBatches,
    recipe: Recipe,
    epoch: int,
    workers: int,
    progress: bool,
    validation: Iterable | None,
) -> EpochResult:
    # MXNet's own random state can't be read, so each epoch sets it.
    mx.random.seed((recipe.seed * 1_000_003 + epoch + 1) % (2**31 - 1))
    steps, shape = len(batches), None
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(epoch, recipe.epochs, steps, progress))
        where = f"epoch {epoch + 1}"
        meter = _Meter(bar, where, stepper.scale)
        ahead = stack.enter_context(prefetch(batches, workers)) if workers else batches
        for step, (images, targets) in enumerate(ahead):
            lr, shape = lr_at(epoch * steps + step, steps, recipe), images.shape
            meter.add(stepper(images, targets, lr), lr)
        meter.add(None)
        speed = bar.images_per_second
    if not meter.count or not stepper.weights_finite():
        raise _diverged("weights are no longer numbers at the end", where)
    score = None
    if validation is not None:
        score = evaluate(stepper.graph(shape), validation, stepper.contexts)
    return EpochResult(
        epoch=epoch,
        lr=lr,
        train_loss=meter.total / meter.count,
        train_top1=meter.hits / meter.count,
        val_loss=score.loss if score else None,
        val_top1=score.top1 if score else None,
        val_top5=score.top5 if score else None,
        seconds=meter.count / speed,
        images_per_second=speed,
        losses=meter.losses,
    )


def _log(result: EpochResult, recipe: Recipe) -> None:
    text = (
        f"epoch {result.epoch + 1}/{recipe.epochs}: loss {result.train_loss:.4f}, "
        f"accuracy {100 * result.train_top1:.2f} %"
    )
    if result.val_top1 is not None:
        text += f"; validation loss {result.val_loss:.4f}, accuracy {100 * result.val_top1:.2f} %"
    LOG.info("%s; lr %.4g, %.1f img/s", text, result.lr, result.images_per_second)


def _show(
    board: Board,
    stepper: Stepper,
    result: EpochResult,
    images: np.ndarray,
    with_pictures: bool,
) -> None:
    step = result.epoch + 1
    board.epoch(asdict(result))
    board.masks(stepper.net, images, stepper.contexts[0], step)
    if with_pictures:
        board.pictures("pictures/training", images, step)


def _save(
    run: RunDirectory,
    stepper: Stepper,
    result: EpochResult,
    history: History,
    save_period: int,
) -> None:
    """Metrics first: a row too many is written over on resuming, one too few could not be."""
    run.write_metrics(asdict(result))
    best = history.improved_by(result)
    progress = {
        "best_top1": result.val_top1 if best else history.best_top1,
        "best_epoch": result.epoch if best else history.best_epoch,
        "loss_scale": [stepper.scale.value, stepper.scale.good_steps],
    }
    checkpoint.save_checkpoint(
        run.checkpoints, result.epoch, stepper.net, stepper.trainer, progress, best, save_period
    )
    title = f"{run.spec.name} on {run.data['dataset']}"
    plot_curves(run.metrics(), run.path / "curves.png", title)
