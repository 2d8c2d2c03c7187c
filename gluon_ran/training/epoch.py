"""One pass over the training set, from any of its steps on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import prefetch, shrink
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.monitor import LOG, Progress
from gluon_ran.training.precision import LossScale
from gluon_ran.training.recipe import Recipe, lr_at, size_at
from gluon_ran.training.step import Stepper, StepResult
from gluon_ran.training.targets import mixup, mixup_lam, soft_targets

import mxnet as mx


class TrainingDiverged(ArithmeticError):
    """The loss is no longer a number: says where, and what to change."""

    def __init__(self, what: str, epoch: int) -> None:
        super().__init__(
            f"{what} of epoch {epoch + 1}: lower the learning rate or lengthen the warm-up; what "
            "was saved before is untouched"
        )


class SoftBatches:
    """The batches of an epoch with soft targets, shrunk and mixed where the recipe says so.

    Attributes:
        epoch: from 0.
        first: pictures of the first batch, once it has been made.

    Args:
        batches: images and labels.
        recipe: how to smooth and mix.
        classes: outputs of the network.
        epoch: from 0.
        start: the step to begin with.
    """

    def __init__(
        self, batches: Iterable, recipe: Recipe, classes: int, epoch: int, start: int = 0
    ) -> None:
        self.epoch, self.first = epoch, None
        self._batches, self._recipe, self._classes = batches, recipe, classes
        self._start = start

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rest = _from_step(self._batches, self._start)
        for step, (images, labels) in enumerate(rest, self._start):
            images = shrunk(images, self.epoch, self._recipe)
            targets = soft_targets(labels, self._classes, self._recipe.epsilon)
            lam = mixup_lam(self._recipe, self.epoch, step)
            if lam < 1:
                images, targets = mixup(images, targets, lam)
            if self.first is None:
                self.first = images
            yield images, targets

    def left_out(self, step: int) -> int:
        """How many pictures a batch that was made lacks, since they are broken."""
        return getattr(self._batches, "left_out", {}).get(step, 0)


def _from_step(batches: Iterable, step: int) -> Iterator:
    """The batches from a step on, those before it unmade where they can be told to."""
    if hasattr(batches, "from_step"):
        return batches.from_step(step)
    return itertools.islice(batches, step, None)


def shrunk(images: np.ndarray, epoch: int, recipe: Recipe) -> np.ndarray:
    """Pictures (N, C, H, W) at the size of an epoch, from 0."""
    edge = size_at(epoch, recipe)
    return images if edge is None else shrink(images, edge)


class Meter:
    """Sums the results of an epoch's steps up.

    Attributes:
        losses: mean loss of each step.
        steps: steps done, from the epoch's first.
        count: pictures.
        lr: learning rate of the last step.
        skipped: steps that were left out since a loss or a gradient was no number.
        left_out: pictures that were left out of their batches since they are broken.
        in_a_row: how many of these the last steps were.
        images_per_second: of the steps since the epoch was begun or last gone on with.

    Args:
        epoch: from 0.
        scale: the loss scale; while it can fall, an overflow is its business.
        state: of `state`, or a part of it, to go on with.
    """

    def __init__(self, epoch: int, scale: LossScale, state: dict[str, Any] | None = None) -> None:
        new = {
            "losses": [], "total": 0.0, "hits": 0, "count": 0, "steps": 0, "lr": 0.0, "skipped": 0,
            "in_a_row": 0, "left_out": 0, "images_per_second": 0.0,
        }  # fmt: skip
        state = {**new, **(state or {})}
        self.losses, self.count = list(state["losses"]), state["count"]
        self.steps, self.lr = state["steps"], state["lr"]
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.left_out, self.images_per_second = state["left_out"], state["images_per_second"]
        self._total, self._hits = state["total"], state["hits"]
        self._epoch, self._scale = epoch, scale

    def state(self) -> dict[str, Any]:
        """All of it, to go on with."""
        return {
            "losses": self.losses, "total": self._total, "hits": self._hits, "count": self.count,
            "steps": self.steps, "lr": self.lr, "skipped": self.skipped,
            "in_a_row": self.in_a_row, "left_out": self.left_out,
            "images_per_second": self.images_per_second,
        }  # fmt: skip

    @property
    def loss(self) -> float:
        """Mean loss over the pictures."""
        return self._total / self.count

    @property
    def top1(self) -> float:
        """Share of pictures whose target's greatest class was predicted."""
        return self._hits / self.count

    def add(self, result: StepResult, lr: float, max_skips: int) -> None:
        """Takes up a step.

        Raises:
            TrainingDiverged: more than `max_skips` steps in a row were left out.
        """
        self.steps, self.lr = self.steps + 1, lr
        if not result.skipped:
            self.in_a_row = 0
            self.losses.append(result.loss)
            self._total += result.loss * result.count
            self._hits += result.hits
            self.count += result.count
        elif self._scale.value <= 1:
            self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
            finite = math.isfinite(result.loss)
            what = "a gradient is no finite number" if finite else f"its loss is {result.loss}"
            LOG.warning("step %d of epoch %d is left out: %s", self.steps, self._epoch + 1, what)
        if self.in_a_row > max_skips:
            raise TrainingDiverged(
                f"{self.in_a_row} steps in a row had no finite loss and gradients, up to step "
                f"{self.steps}",
                self._epoch,
            )


def train_epoch(
    stepper: Stepper,
    batches: SoftBatches,
    meter: Meter,
    recipe: Recipe,
    steps: int,
    behind_step: Callable[[], None],
    stop: StopRequest,
    workers: int,
    progress: bool,
    max_skips: int,
) -> None:
    """Trains to the end of an epoch, or until it is asked to stop.

    Args:
        stepper: the network.
        batches: what is left of the epoch.
        meter: collects the results; a new one, or that of the steps before.
        recipe: gives the learning rate.
        steps: of the epoch; a worker may have a batch more, which is left out.
        behind_step: called behind each step.
        stop: asked for behind each step.
        workers: batches made ahead; 0 for none.
        progress: whether to show any.
        max_skips: see `fit`.

    Raises:
        TrainingDiverged: losses, gradients or weights are not finite.
        ValueError: there are fewer batches than their length says.
    """
    epoch, rank, stopped = batches.epoch, stepper.group.rank, False
    with ExitStack() as stack:
        bar = stack.enter_context(
            Progress(epoch, recipe.epochs, steps, enabled=progress, done=meter.steps)
        )
        ahead = stack.enter_context(prefetch(batches, workers)) if workers else batches
        for images, targets in ahead:
            if stepper.has_dropout:
                # MXNet's own random state can't be read, so each step sets it; it takes 1 ms.
                mx.random.seed(_seed(recipe.seed, epoch, meter.steps, *[rank] * (rank > 0)))
            lr = stepper.lr_factor * lr_at(epoch * steps + meter.steps, steps, recipe)
            result = stepper(images, targets, lr)
            meter.left_out += batches.left_out(meter.steps)
            meter.add(result, lr, max_skips)
            bar.step(result.count, result.loss, lr)
            behind_step()
            stopped = stop.agreed(stepper.group)
            if stopped or meter.steps == steps < len(batches):
                break
        meter.images_per_second = bar.images_per_second
    if meter.steps < steps and not stopped:
        raise ValueError(
            f"train({epoch}) gave {meter.steps} batches, and its length is {steps}: make both alike"
        )
    if not meter.count and meter.steps == steps:
        raise TrainingDiverged("no step had a finite loss and gradients", epoch)
    # Statistics are each worker's own, and all must leave together.
    if not stepper.group.least(int(stepper.weights_finite())):
        raise TrainingDiverged(f"weights are no numbers behind step {meter.steps}", epoch)


def _seed(*entropy: int) -> int:
    """A seed for MXNet, another one for each step of each epoch, and for each worker."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) % (2**31 - 1)
