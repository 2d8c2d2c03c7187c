"""What a person sees of a run: a progress bar or plain lines, and MXBoard events."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gluon_ran import _runtime

import mxnet as mx

LOG = logging.getLogger("gluon_ran")
_LINE_SECONDS = 20.0


class Progress:
    """Shows how far an epoch is: a bar on a terminal, else a line now and then.

    Args:
        epoch: from 0.
        epochs: in all.
        steps: in an epoch.
        done: steps of the epoch that were done before.
        enabled: whether to show anything; the lines go to the log "gluon_ran".
    """

    def __init__(
        self, epoch: int, epochs: int, steps: int, enabled: bool = True, done: int = 0
    ) -> None:
        self._title = f"epoch {epoch + 1}/{epochs}"
        self._epochs_left, self._steps, self._enabled = epochs - epoch - 1, steps, enabled
        self._start = self._last_line = time.monotonic()
        self._images, self._before, self._done = 0, done, done
        self._bar = None
        if enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=steps, initial=done, desc=self._title, unit="batch", leave=False)

    def step(self, images: int, loss: float, lr: float) -> None:
        """Counts a step of so many images and shows its loss and learning rate."""
        self._images += images
        self._done += 1
        seconds = max(time.monotonic() - self._start, 1e-9)
        steps_left = self._steps - self._done + self._epochs_left * self._steps
        left = seconds / (self._done - self._before) * steps_left
        shown = f"loss {loss:.4f}, lr {lr:.4g}, {self._images / seconds:.1f} img/s"
        if self._bar is not None:
            self._bar.set_postfix_str(f"{shown}, run {duration(left)} left", refresh=False)
            self._bar.update()
        elif self._enabled and time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            LOG.info(
                "%s, batch %d/%d: %s, %s left",
                self._title, self._done, self._steps, shown, duration(left),
            )  # fmt: skip

    @property
    def images_per_second(self) -> float:
        """Images a second since the epoch began."""
        return self._images / max(time.monotonic() - self._start, 1e-9)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def stretched(images: np.ndarray) -> np.ndarray:
    """Normalised pictures, (N, C, H, W), each stretched to the range from 0 to 1."""
    low = images.min(axis=(1, 2, 3), keepdims=True)
    high = images.max(axis=(1, 2, 3), keepdims=True)
    return (images - low) / np.maximum(high - low, 1e-6)


class Board:
    """Writes a run's events for TensorBoard through MXBoard.

    Where they can't be written, as on a full disk, a warning says so and the run goes on without.

    Args:
        folder: where the event files go.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # MXBoard sets up the root logger by a warning of its own; it has nothing to tell us.
        logging.getLogger("mxboard").setLevel(logging.ERROR)
        mxboard = _runtime.load_mxboard()
        mxboard.event_file_writer.RecordWriter = _forgiving(mxboard.record_writer.RecordWriter)
        # MXBoard's names have whole seconds: a run that went on within one would replace its file.
        suffix = f".{time.time_ns()}"
        self._writer = mxboard.SummaryWriter(
            logdir=str(folder), filename_suffix=suffix, verbose=False
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """Writes the scalars of a finished epoch, counted from 1."""
        step = row["epoch"] + 1
        for tag, key in (
            ("loss/train", "train_loss"),
            ("loss/validation", "val_loss"),
            ("accuracy/train", "train_top1"),
            ("accuracy/validation", "val_top1"),
            ("accuracy/validation_top5", "val_top5"),
            ("learning_rate", "lr"),
            ("images_per_second", "images_per_second"),
        ):
            if row.get(key) is not None:
                self._writer.add_scalar(tag, row[key], global_step=step)
        self._writer.flush()

    def pictures(self, tag: str, images: np.ndarray, step: int) -> None:
        """Writes normalised pictures, (N, 3, H, W), each stretched to the full range."""
        self._writer.add_image(tag, mx.nd.array(stretched(images[:64])), global_step=step)

    def figure(self, tag: str, image: np.ndarray, step: int) -> None:
        """Writes a figure, uint8 (height, width, 3), as it is."""
        self._writer.add_image(tag, image.transpose(2, 0, 1), global_step=step)

    def masks(self, masks: Iterable[mx.nd.NDArray], step: int) -> None:
        """Writes a histogram of each module's mask."""
        for index, mask in enumerate(masks):
            self._writer.add_histogram(
                f"mask/module_{index + 1}", mask.as_in_context(mx.cpu()), global_step=step, bins=50
            )

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()


def _forgiving(base: type) -> type:
    """MXBoard's writer of event files, which outlives an error in writing.

    MXBoard writes in a thread, which an error ends; the run would then wait for it for ever.
    """

    class RecordWriter(base):
        def __init__(self, path: str) -> None:
            self._path = path
            self._try(super().__init__, path)

        def write_record(self, event: bytes) -> None:
            self._try(super().write_record, event)

        def flush(self) -> None:
            self._try(super().flush)

        def _try(self, act: Callable, *arguments: object) -> None:
            try:
                act(*arguments)
            except (OSError, ValueError) as error:  # MXBoard's own where it can't open the file
                LOG.warning("TensorBoard's events can't be written to %s (%s): from here on this "
                            "run has none, until it is started again", self._path,
                            error)  # fmt: skip
                self._give_up()

        def _give_up(self) -> None:
            if self._writer is not None:
                with suppress(OSError):
                    self._writer.close()
            self._writer = open(os.devnull, "wb")

    return RecordWriter
