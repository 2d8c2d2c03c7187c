"""The data paths that pipeline.py measures: ours, GluonCV's and MXNet's."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from answering import AnsweringProcess
from pipeline_dataloader import MEAN, STD

from gluon_ran.data import (
    Augmentation,
    Batches,
    Dataset,
    Normalization,
    RecordBatches,
    RecordFile,
    TrainTransform,
    ValidationTransform,
)
from gluon_ran.data.parallel import cores

import mxnet as mx

# Those of GluonCV's training scripts.
_CIFAR = Normalization(255 * np.array(MEAN), 255 * np.array(STD))
_IMAGENET = Normalization([123.68, 116.779, 103.939], [58.393, 57.12, 57.375])

# What gluon_ran sets where it is imported, and GluonCV's path must not have.
_OURS = ("OMP_NUM_THREADS", "MXNET_EXEC_INPLACE_GRAD_SUM_CAP")

# The first does what GluonCV's path does.
OURS = {
    "zero crop, flip": Augmentation(4, "zero", "random"),
    "reflect crop, flip": Augmentation(4, "reflect", "random"),
    "zero crop, alternating flip": Augmentation(4, "zero", "alternating"),
    "reflect crop, flip, cutout 16": Augmentation(4, "reflect", "random", cutout=16),
    "normalisation alone": None,
}


@dataclass(frozen=True)
class Contender:
    """A data path.

    Attributes:
        name: for the table.
        what: more of it, for the JSON.
        rate: measures the next epoch: pictures a second.
        peer: whether ratios may be to it.
    """

    name: str
    what: str
    rate: Callable[[], float]
    peer: bool = False


def random_dataset(count: int) -> Dataset:
    """As many random 32x32 pictures of 10 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Dataset(images, (np.arange(count) % 10).astype(np.int32), tuple("0123456789"))


def measured(epoch: Callable[[int], Iterable[mx.nd.NDArray]]) -> Callable[[], float]:
    """Pictures a second of the next epoch, from what gives an epoch's batches by its number."""
    numbers = itertools.count()

    def rate() -> float:
        start, count = time.perf_counter(), 0
        for images in epoch(next(numbers)):
            images.wait_to_read()
            count += len(images)
        return count / (time.perf_counter() - start)

    return rate


class DataLoader:
    """GluonCV's path for CIFAR, in a process of its own under MXNet's defaults.

    Args:
        pictures: of an epoch.
        batch_size: pictures a batch.
        workers: processes that it has in turn.

    Raises:
        RuntimeError: the process ended; its own message is on standard error.
    """

    def __init__(self, pictures: int, batch_size: int, workers: int) -> None:
        script = Path(__file__).with_name("pipeline_dataloader.py")
        command = [
            sys.executable, str(script), f"--pictures={pictures}", f"--workers={workers}",
            f"--batch-size={batch_size}",
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name not in _OURS}
        name = f"GluonCV, DataLoader, {workers} workers"
        self._process = AnsweringProcess(name, command, environment)
        self.contender = Contender(
            name,
            "GluonCV's RandomCrop(32, pad=4), RandomFlipLeftRight, ToTensor, Normalize in Gluon's "
            f"DataLoader, an epoch of {pictures} pictures",
            self._rate,
            peer=True,
        )

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.close()

    def _rate(self) -> float:
        answer = self._process.ask("go")
        return answer["pictures"] / answer["seconds"]


def cifar(pictures: int, records: Path | None, batch_size: int) -> list[Contender]:
    """Ours, and MXNet's iterator.

    Args:
        pictures: of an epoch of ours.
        records: 32x32 JPEGs in RecordIO, for the iterator; None: it takes no part.
        batch_size: pictures a batch.
    """
    dataset = random_dataset(pictures)
    found = [_batches(name, dataset, each, batch_size) for name, each in OURS.items()]
    if records is not None:
        settings = {"pad": 4, "rand_crop": True, "rand_mirror": True}
        iterator = _record_iter(records, batch_size, 32, _CIFAR, **settings)
        what = "ImageRecordIter(pad=4, rand_crop=True, rand_mirror=True) on 32x32 JPEG"
        found.append(Contender("ImageRecordIter", what, measured(iterator)))
    return found


def imagenet_training(records: RecordFile, batch_size: int, size: int) -> list[Contender]:
    """Random resized crop, flip, colour jitter and lighting: MXNet's iterator and ours."""
    transform = TrainTransform(size)
    settings = {
        "random_resized_crop": True,
        "min_random_area": transform.area[0],
        "max_random_area": transform.area[1],
        "min_aspect_ratio": transform.aspect[0],
        "max_aspect_ratio": transform.aspect[1],
        "rand_mirror": True,
        "brightness": transform.brightness,
        "contrast": transform.contrast,
        "saturation": transform.saturation,
        "pca_noise": transform.lighting,
    }
    return _record_iters(records, batch_size, size, settings) + [
        _stream(records, batch_size, transform)
    ]


def imagenet_validation(records: RecordFile, batch_size: int, size: int) -> list[Contender]:
    """The middle of the resized picture: MXNet's iterator and ours."""
    transform = ValidationTransform(size)
    settings = {"resize": transform.shorter_side}
    return _record_iters(records, batch_size, size, settings) + [
        _stream(records, batch_size, transform)
    ]


def _batches(
    name: str, dataset: Dataset, augmentation: Augmentation | None, batch_size: int
) -> Contender:
    def epoch(number: int) -> Iterator[mx.nd.NDArray]:
        settings = {"epoch": number, "shuffle": True, "augmentation": augmentation}
        for images, _ in Batches(dataset, batch_size, _CIFAR, **settings):
            yield mx.nd.from_numpy(images)

    what = f"gluon_ran.data.Batches in one thread, an epoch of {len(dataset)} pictures"
    return Contender(f"gluon_ran: {name}", what, measured(epoch))


def _stream(
    records: RecordFile, batch_size: int, transform: TrainTransform | ValidationTransform
) -> Contender:
    def epoch(number: int) -> Iterator[mx.nd.NDArray]:
        batches = RecordBatches(
            records, batch_size, transform, _IMAGENET, epoch=number, shuffle=True
        )
        for images, _ in batches:
            yield mx.nd.from_numpy(images)

    what = f"gluon_ran.data.RecordBatches with {transform}, {cores()} threads"
    return Contender("gluon_ran", what, measured(epoch))


def _record_iters(
    records: RecordFile, batch_size: int, size: int, settings: dict[str, Any]
) -> list[Contender]:
    """MXNet's iterator as it comes, and with ctx='cpu', which takes a thread a core if told."""
    make = (records.path, batch_size, size, _IMAGENET)
    told = ", ".join(f"{name}={value}" for name, value in settings.items())
    with _omp_threads(cores()):
        on_cpu = _record_iter(*make, ctx="cpu", **settings)
    return [
        Contender("ImageRecordIter", told, measured(_record_iter(*make, **settings)), peer=True),
        Contender(
            f"ImageRecordIter, ctx='cpu', {cores()} threads",
            f"the same made under omp_set_num_threads({cores()}); augments at random",
            measured(on_cpu),
            peer=True,
        ),
    ]


def _record_iter(
    rec: Path, batch_size: int, size: int, normalization: Normalization, **settings: Any
) -> Callable[[int], Iterator[mx.nd.NDArray]]:
    mean, std = normalization.mean.tolist(), normalization.std.tolist()
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(rec),
        path_imgidx=str(rec.with_suffix(".idx")),
        data_shape=(3, size, size),
        batch_size=batch_size,
        shuffle=True,
        verbose=False,
        **dict(zip(("mean_r", "mean_g", "mean_b"), mean)),
        **dict(zip(("std_r", "std_g", "std_b"), std)),
        **settings,
    )

    def epoch(_: int) -> Iterator[mx.nd.NDArray]:
        iterator.reset()
        # Those that fill the last batch up count too: the next epoch begins behind them.
        return (batch.data[0] for batch in iterator)

    return epoch


@contextmanager
def _omp_threads(count: int) -> Iterator[None]:
    """What MXNet takes for the number of threads where it asks in this thread.

    gluon_ran sets it to one, see `gluon_ran._runtime`.
    """
    set_threads = mx.base._LIB.omp_set_num_threads
    set_threads(count)
    try:
        yield
    finally:
        set_threads(1)
