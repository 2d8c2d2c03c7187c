"""fit: trains a network by a recipe, saves each epoch, and goes on where an earlier fit stopped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError, DiskError
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.models.network import check_input_shape
from gluon_ran.training.devices import check_kvstore
from gluon_ran.training.distributed import DISTRIBUTED, join
from gluon_ran.training.epoch import Meter, SoftBatches, TrainingDiverged, shrunk, train_epoch
from gluon_ran.training.evaluation import evaluate
from gluon_ran.training.history import EpochResult, History
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.mask_pictures import MaskPictures, check_mask_period
from gluon_ran.training.monitor import LOG, Board
from gluon_ran.training.precision import check_dtype
from gluon_ran.training.recipe import Recipe, size_at
from gluon_ran.training.resume import resume
from gluon_ran.training.resume import step_back as go_back
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
    validation_period: int = 1,
    mask_period: int = 0,
    progress: bool = True,
) -> History:
    """Trains a network.

    Behind each epoch the network is scored at that epoch's size of pictures.

    With a run directory each epoch is saved, and Ctrl-C, SIGTERM or a lost terminal finishes the
    step in hand and saves it too (a second signal leaves at once). A run that is there already
    goes on behind what was saved, to the same numbers as without the break; on one CPU, bit for
    bit. No other process can write to the directory meanwhile.

    By the `kvstore` "dist_sync" or "horovod" several processes train together, as many devices of
    one process would, each with its own part of each batch. A signal to one stops all behind the
    same step; the first one alone reads and writes the run directory. An error in one leaves the
    others waiting: train/launch.py ends and restarts them.

    Args:
        net: the network; it is initialised from `recipe.seed` if it is not yet.
        recipe: how to train.
        train: gives the batches of an epoch, counted from 0: an iterable with a length, of images
            and labels in NumPy, float32 (N, C, H, W) and integers (N,). Where they have a method
            `from_step`, a run that goes on within an epoch makes none of the batches before. Of
            several workers, this one's share; where they have not as many batches, the last ones
            are left out.
        validation: batches to evaluate on, which begin anew whenever they are iterated; of several
            workers, this one's share.
        classes: outputs of the network.
        run: where to save; None saves nothing. What workers but the first give is ignored.
        contexts: devices; the CPU if none is given. Batches are split over them.
        kvstore: what sums the gradients of several devices: "local", "device" or "nccl"; or of
            several workers too: "dist_sync" or "horovod".
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
        validation_period: evaluate behind every so many epochs and the last one; the best weights
            are the best of those.
        mask_period: have the events show the soft masks over a few pictures of the validation
            batches, behind every so many epochs and the last one, a multiple of
            `validation_period`; 0 for never.
        progress: show a bar on a terminal, else lines in the log "gluon_ran".

    Raises:
        ValueError: the precision is not one that the devices have, a size not one that the network
            takes, a label not of `classes`, `recompute` on a GPU, a `kvstore` that can't be, a
            period that is too low or, of masks, for a network without masks, without validation
            batches or between validations; `train` gives fewer batches than its length, or
            `validation` its batches once where several validations are due.
        TrainingDiverged: losses or gradients were not finite for too long, or a weight or the
            validation loss is not. What was saved before stays.
        CheckpointError: all checkpoints to go on from are damaged, or other layers were frozen
            when the last one was saved than are now.
        RunError: another process writes to the run directory, it now holds another run, or its
            metrics are damaged.
    """
    contexts = list(contexts) or [mx.cpu()]
    check_dtype(recipe.dtype, contexts)
    check_kvstore(kvstore)
    _check_sizes(net, recipe)
    check_mask_period(mask_period, net, validation, validation_period)
    if isinstance(validation, Iterator) and recipe.epochs > validation_period:
        raise ValueError(
            "validation gives its batches once, and each validation needs them: give a list, or "
            "what begins anew whenever it is iterated"
        )
    group = join(kvstore)
    run = run if group.rank == 0 else None
    with ExitStack() as stack:
        stack.enter_context(group.training())
        if run is not None:
            stack.enter_context(run.writing())
            there = RunDirectory.open(run.path)
            run.refuse_difference(there)
            run.metrics()  # found out behind an epoch, damage would cost that epoch
            # Another process may have begun the same run since this one looked.
            run.data["run_id"] = there.data.get("run_id")
        store = "device" if kvstore in DISTRIBUTED else kvstore
        stepper, history = Stepper(net, recipe, contexts, store, recompute, group), History()
        stack.callback(stepper.close)
        start, state = resume(stepper, run, history)
        board = None
        if run is not None and start < recipe.epochs:
            board = stack.enter_context(Board(log_dir or run.path / "events"))
        saver = Saver(run, stepper, history, save_period, save_every, keep_last)
        if start == recipe.epochs:  # a kill may have come ahead of the last epoch's curves
            saver.draw_curves()
        work = _Work(
            recipe, train, validation, validation_period, classes, stepper, history, board, saver,
            MaskPictures(mask_period if board is not None else 0, recipe),
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
                start, state = go_back(error, stepper, run, history, saver)


@dataclass(frozen=True)
class _Work:
    """What training goes on with, epoch by epoch; see `fit`."""

    recipe: Recipe
    train: Callable[[int], Iterable]
    validation: Iterable | None
    validation_period: int
    classes: int
    stepper: Stepper
    history: History
    board: Board | None
    saver: Saver
    masks: MaskPictures
    stop: StopRequest
    settings: dict[str, Any]


def _train_from(start: int, state: dict[str, Any], work: _Work) -> None:
    """Trains to the recipe's last epoch, or until it is asked to stop."""
    recipe, history, stop, saver = work.recipe, work.history, work.stop, work.saver
    group = work.stepper.group
    for epoch in range(start, recipe.epochs):
        meter = Meter(epoch, work.stepper.scale, state)
        batches = SoftBatches(work.train(epoch), recipe, work.classes, epoch, meter.steps)
        steps = group.least(len(batches))
        if meter.steps < steps:
            behind_step = partial(saver.behind_step, epoch, meter, steps)
            with _saved_ahead_of_broken_data(epoch, meter, saver):
                train_epoch(
                    work.stepper, batches, meter, recipe, steps, behind_step, stop, **work.settings
                )
        if meter.steps < steps:
            _leave(epoch, meter, work)
            return
        try:
            # Products of matrices, as in Muon's steps, may round otherwise on another machine.
            work.stepper.give_out_weights()
            with _saved_ahead_of_broken_data(epoch, meter, saver):
                result = _result(epoch, meter, work)
        except _Stopped:
            _leave(epoch, meter, work)
            return
        _log(result, recipe)
        state = {"in_a_row": meter.in_a_row}
        saver.behind_epoch(result, state)
        if work.board is not None:
            _show(work, result, batches, with_pictures=epoch == start)
        history.add(result)
        if epoch + 1 < recipe.epochs and stop.agreed(group):
            LOG.info("interrupted behind epoch %d of %d", epoch + 1, recipe.epochs)
            history.stopped_by = stop.signal
            return
    history.completed = True


@contextmanager
def _saved_ahead_of_broken_data(epoch: int, meter: Meter, saver: Saver) -> Iterator[None]:
    """Saves the steps that are done where a batch to come, or of the validation, can't be had."""
    try:
        yield
    except (DataError, DiskError):
        if meter.steps and not meter.in_a_row and saver.within(epoch, meter):
            LOG.info("saved behind step %d of epoch %d", meter.steps, epoch + 1)
        raise


def _leave(epoch: int, meter: Meter, work: _Work) -> None:
    where = "; it is saved" if work.saver.within(epoch, meter) else ""
    LOG.info("interrupted behind step %d of epoch %d%s", meter.steps, epoch + 1, where)
    work.history.stopped_by = work.stop.signal


def _check_sizes(net: HybridBlock, recipe: Recipe) -> None:
    if isinstance(net, ResidualAttentionNet):
        for edge, _ in recipe.progressive_sizes:
            check_input_shape(net.spec, (1, net.spec.in_channels, edge, edge))


class _Stopped(Exception):
    """The run was asked to stop within a validation."""


def _result(epoch: int, meter: Meter, work: _Work) -> EpochResult:
    """What an epoch gave, with its validation where one is due.

    Raises:
        _Stopped: a signal came ahead of the validation; of a lone worker, or within it.
    """
    score, recipe, stepper = None, work.recipe, work.stepper
    due = epoch + 1 == recipe.epochs or (epoch + 1) % work.validation_period == 0
    if work.validation is not None and due:
        if work.stop.agreed(stepper.group):
            raise _Stopped
        first, batches = _peek(_sized_until_stop(epoch, work))
        net = stepper.frozen(first[0].shape)
        score = evaluate(net, batches, stepper.contexts, group=stepper.group)
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
        images_per_second=meter.images_per_second,
        losses=meter.losses,
        size=size_at(epoch, recipe),
        skipped=meter.skipped,
        left_out=meter.left_out,
    )


def _sized_until_stop(epoch: int, work: _Work) -> Iterator[tuple]:
    alone = work.stepper.group.count == 1  # others would wait for this one's score
    for images, labels in work.validation:
        if alone and work.stop.requested:
            raise _Stopped
        work.masks.take(images, labels)
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


def _show(work: _Work, result: EpochResult, batches: SoftBatches, with_pictures: bool) -> None:
    board, step = work.board, result.epoch + 1
    board.epoch(asdict(result))
    if work.masks.due(result.epoch):
        board.figure("mask/validation_pictures", work.masks.draw(result.epoch, work.stepper), step)
    if batches.first is None:
        return
    board.masks(work.stepper.masks(batches.first[:32]), step)
    if with_pictures:
        board.pictures("pictures/training", batches.first, step)
