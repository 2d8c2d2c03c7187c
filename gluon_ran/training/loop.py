"""fit: trains a network by a recipe, saves each epoch, and goes on where an earlier fit stopped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.models.network import check_input_shape
from gluon_ran.training import checkpoint
from gluon_ran.training.epoch import Meter, SoftBatches, TrainingDiverged, shrunk, train_epoch
from gluon_ran.training.evaluation import evaluate
from gluon_ran.training.history import EpochResult, History
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.monitor import LOG, Board
from gluon_ran.training.precision import check_dtype
from gluon_ran.training.recipe import Recipe, size_at
from gluon_ran.training.run import RunDirectory
from gluon_ran.training.saver import Saver
from gluon_ran.training.step import Stepper

import mxnet as mx
from mxnet.gluon import HybridBlock


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
    recompute: bool = False,
    save_period: int = 0,
    save_every: int = 0,
    keep_last: int = 2,
    max_skips: int = 10,
    step_back: bool = False,
    log_dir: Path | None = None,
    progress: bool = True,
) -> History:
    """Trains a network.

    Behind each epoch the network is scored at that epoch's size of pictures.

    With a run directory each epoch is saved, and Ctrl-C or SIGTERM finishes the step in hand and
    saves it too (a second one leaves at once). A run that is there already goes on behind what was
    saved, to the same numbers as without the break; on one CPU, bit for bit. No other process can
    write to the directory meanwhile.

    Args:
        net: the network; it is initialised from `recipe.seed` if it is not yet.
        recipe: how to train.
        train: gives the batches of an epoch, counted from 0: an iterable with a length, of images
            and labels in NumPy, float32 (N, C, H, W) and integers (N,). Where they have a method
            `from_step`, a run that goes on within an epoch makes none of the batches before.
        validation: batches to evaluate on behind each epoch.
        classes: outputs of the network.
        run: where to save; None saves nothing.
        contexts: devices; the CPU if none is given. Batches are split over them.
        kvstore: what sums the gradients of several devices: "local", "device" or "nccl".
        workers: batches made ahead in the background; 0 for none.
        recompute: keep less for the backward pass and compute it again there: the same numbers in
            less memory, somewhat slower. CPUs only.
        save_period: keep the weights of every so many epochs; 0 keeps the last and the best.
        save_every: save behind every so many steps of an epoch too; 0 for its end alone.
        keep_last: checkpoints to keep, for where the newest is damaged.
        max_skips: a step whose loss or gradients are not finite leaves the network as it was; this
            many in a row may, then training has diverged.
        step_back: go back to the last checkpoint then, with half the learning rate, up to five
            times; else stop.
        log_dir: where the MXBoard events go; the run's "events" if None.
        progress: show a bar on a terminal, else lines in the log "gluon_ran".

    Raises:
        ValueError: the precision is not one that the devices have, a size not one that the network
            takes, a label not of `classes`, or `recompute` on a GPU.
        TrainingDiverged: losses or gradients were not finite for too long, or a weight or the
            validation loss is not. What was saved before stays.
        CheckpointError: all checkpoints to go on from are damaged.
        RunError: another process writes to the run directory, or it now holds another run.
    """
    contexts = list(contexts) or [mx.cpu()]
    check_dtype(recipe.dtype, contexts)
    _check_sizes(net, recipe)
    with ExitStack() as stack:
        if run is not None:
            stack.enter_context(run.writing())
            there = RunDirectory.open(run.path)
            run.refuse_difference(there)
            # Another process may have begun the same run since this one looked.
            run.data["run_id"] = there.data.get("run_id")
        stepper, history = Stepper(net, recipe, contexts, kvstore, recompute), History()
        stack.callback(stepper.close)
        start, state = _resume(stepper, run, history)
        board = None
        if run is not None and start < recipe.epochs:
            board = stack.enter_context(Board(log_dir or run.path / "events"))
        work = _Work(
            recipe, train, validation, classes, stepper, history, board,
            Saver(run, stepper, history, save_period, save_every, keep_last),
            stack.enter_context(StopRequest()),
            {"workers": workers, "progress": progress, "max_skips": max_skips},
        )  # fmt: skip
        while True:
            try:
                _train_from(start, state, work)
                return history
            except TrainingDiverged as error:
                if not step_back:
                    raise
                start, state = _step_back(error, work, run)


@dataclass(frozen=True)
class _Work:
    """What training goes on with, epoch by epoch; see `fit`."""

    recipe: Recipe
    train: Callable[[int], Iterable]
    validation: Iterable | None
    classes: int
    stepper: Stepper
    history: History
    board: Board | None
    saver: Saver
    stop: StopRequest
    settings: dict[str, Any]


def _train_from(start: int, state: dict[str, Any], work: _Work) -> None:
    """Trains to the recipe's last epoch, or until it is asked to stop."""
    recipe, history, stop, saver = work.recipe, work.history, work.stop, work.saver
    for epoch in range(start, recipe.epochs):
        meter = Meter(epoch, work.stepper.scale, state)
        batches = SoftBatches(work.train(epoch), recipe, work.classes, epoch, meter.steps)
        speed = 0.0
        if meter.steps < len(batches):
            behind_step = partial(saver.behind_step, epoch, meter, len(batches))
            speed = train_epoch(
                work.stepper, batches, meter, recipe, behind_step, stop, **work.settings
            )
        if meter.steps < len(batches):
            _leave(epoch, meter, work)
            return
        try:
            result = _result(epoch, meter, speed, work)
        except _Stopped:
            _leave(epoch, meter, work)
            return
        _log(result, recipe)
        state = {"in_a_row": meter.in_a_row}
        saver.behind_epoch(result, state)
        if work.board is not None:
            _show(work.board, work.stepper, result, batches, with_pictures=epoch == start)
        history.add(result)
        if stop.requested and epoch + 1 < recipe.epochs:
            LOG.info("interrupted behind epoch %d of %d", epoch + 1, recipe.epochs)
            history.stopped_by = stop.signal
            return
    history.completed = True


def _leave(epoch: int, meter: Meter, work: _Work) -> None:
    where = "; it is saved" if work.saver.within(epoch, meter) else ""
    LOG.info("interrupted behind step %d of epoch %d%s", meter.steps, epoch + 1, where)
    work.history.stopped_by = work.stop.signal


# Halvings of the learning rate, after which a lower one is not what is lacking.
_STEPS_BACK = 5


def _step_back(
    error: TrainingDiverged, work: _Work, run: RunDirectory | None
) -> tuple[int, dict[str, Any]]:
    """Goes back to a checkpoint, with half the learning rate from there; see `_go_on_from`."""
    stepper, history = work.stepper, work.history
    factor = stepper.lr_factor / 2
    manifest = None if factor < 0.5**_STEPS_BACK else _to_go_back_to(run)
    if manifest is None:
        raise error
    LOG.warning("%s", error)
    start, state = _go_on_from(manifest, stepper, run, history)
    stepper.lr_factor = factor
    stepper.forget_graphs()
    history.epochs = [result for result in history.epochs if result.epoch < start]
    work.saver.gone_back_to(manifest)
    LOG.warning("the learning rates are %g of the recipe's from here on", factor)
    return start, {**state, "in_a_row": 0}


def _to_go_back_to(run: RunDirectory | None) -> dict[str, Any] | None:
    """The newest checkpoint, or the one before where the newest led to divergence before."""
    if run is None:
        return None
    newest = checkpoint.newest_whole(run.checkpoints, run.data["run_id"])
    if newest is None or not newest["progress"].get("gone_back_to"):
        return newest
    place = newest["epochs"], newest["steps"]
    try:
        before = checkpoint.newest_whole(run.checkpoints, run.data["run_id"], before=place)
    except checkpoint.CheckpointError:
        before = None
    return before or newest


def _check_sizes(net: HybridBlock, recipe: Recipe) -> None:
    if isinstance(net, ResidualAttentionNet):
        for edge, _ in recipe.progressive_sizes:
            check_input_shape(net.spec, (1, net.spec.in_channels, edge, edge))


def _resume(
    stepper: Stepper, run: RunDirectory | None, history: History
) -> tuple[int, dict[str, Any]]:
    """Loads the last checkpoint, if any; see `_go_on_from`."""
    manifest = None
    if run is not None:
        manifest = checkpoint.newest_whole(run.checkpoints, run.data["run_id"])
    return (0, {}) if manifest is None else _go_on_from(manifest, stepper, run, history)


def _go_on_from(
    manifest: dict[str, Any], stepper: Stepper, run: RunDirectory, history: History
) -> tuple[int, dict[str, Any]]:
    """Loads a checkpoint: the epoch to go on with, and its meter's state."""
    weights = checkpoint.checked_file(run.checkpoints, manifest, "weights")
    states = checkpoint.checked_file(run.checkpoints, manifest, "states")
    checkpoint.load_weights(stepper.net, weights, stepper.contexts)
    checkpoint.load_optimizer_arrays(stepper.net, stepper.trainer, states)
    progress = manifest["progress"]
    try:
        history.best_top1, history.best_epoch = progress["best_top1"], progress["best_epoch"]
        stepper.scale.value, stepper.scale.good_steps = progress["loss_scale"]
        stepper.lr_factor, state = progress["lr_factor"] + 0.0, {**progress["meter"]}
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError(
            f"{weights.with_suffix('.json')} is not what this version writes ({error!r}): start "
            "anew in another folder"
        ) from None
    where = f"epoch {manifest['epochs']}"
    if manifest["steps"]:
        where = f"step {manifest['steps']} of epoch {manifest['epochs'] + 1}"
    LOG.info("going on behind %s of %s", where, run.path)
    return manifest["epochs"], state


class _Stopped(Exception):
    """The run was asked to stop within a validation."""


def _result(epoch: int, meter: Meter, speed: float, work: _Work) -> EpochResult:
    """What an epoch gave, with its validation.

    Raises:
        _Stopped: a signal came ahead of the validation's last batch.
    """
    score, recipe = None, work.recipe
    if work.validation is not None:
        first, batches = _peek(_sized_until_stop(epoch, work))
        score = evaluate(work.stepper.frozen(first[0].shape), batches, work.stepper.contexts)
        if not math.isfinite(score.loss):
            raise TrainingDiverged(f"the validation loss became {score.loss} at the end", epoch)
    return EpochResult(
        epoch=epoch,
        lr=meter.lr,
        train_loss=meter.loss,
        train_top1=meter.top1,
        val_loss=score.loss if score else None,
        val_top1=score.top1 if score else None,
        val_top5=score.top5 if score else None,
        images_per_second=speed,
        losses=meter.losses,
        size=size_at(epoch, recipe),
        skipped=meter.skipped,
        left_out=meter.left_out,
    )


def _sized_until_stop(epoch: int, work: _Work) -> Iterator[tuple]:
    for images, labels in work.validation:
        if work.stop.requested:
            raise _Stopped
        yield shrunk(images, epoch, work.recipe), labels


def _peek(batches: Iterable) -> tuple[tuple, Iterable]:
    """The first batch, and all of them."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise ValueError("there are no validation batches: give some, or None to leave it out")
    return first, itertools.chain([first], iterator)


def _log(result: EpochResult, recipe: Recipe) -> None:
    text = (
        f"epoch {result.epoch + 1}/{recipe.epochs}: loss {result.train_loss:.4f}, "
        f"accuracy {100 * result.train_top1:.2f} %"
    )
    if result.val_top1 is not None:
        text += f"; validation loss {result.val_loss:.4f}, accuracy {100 * result.val_top1:.2f} %"
    if result.skipped:
        text += f"; {result.skipped} steps left out"
    LOG.info("%s; lr %.4g, %.1f img/s", text, result.lr, result.images_per_second)


def _show(
    board: Board, stepper: Stepper, result: EpochResult, batches: SoftBatches, with_pictures: bool
) -> None:
    step = result.epoch + 1
    board.epoch(asdict(result))
    if batches.first is None:
        return
    board.masks(stepper.masks(batches.first[:32]), step)
    if with_pictures:
        board.pictures("pictures/training", batches.first, step)
