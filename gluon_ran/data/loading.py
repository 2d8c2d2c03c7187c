"""Decodes many pictures into one array, with the choice of what to do about broken ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset, class_counts
from gluon_ran.data.parallel import cores
from gluon_ran.data.pictures import decode, fit_picture

BROKEN = ("refuse", "skip")
SPLITS = ("train", "test")
_CALLED = {"train": "training", "test": "test"}
_GIB = 2**30
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A picture that is still to be read.

    Attributes:
        where: the file, and the place in it, for messages.
        label: its class.
        read: gives the encoded picture, or raises DataError.
    """

    where: str
    label: int
    read: Callable[[], bytes]


def check_splits(splits: Sequence[str]) -> None:
    """Raises DataError where `splits` are not different ones of `SPLITS`."""
    if isinstance(splits, str) or len(set(splits)) != len(splits) or set(splits) - set(SPLITS):
        raise DataError(
            f"splits {splits!r}: give a list of {' and '.join(map(repr, SPLITS))}, each once"
        )


def load_splits(
    splits: Mapping[str, Sequence[Source]],
    class_names: tuple[str, ...],
    size: tuple[int, int],
    fit: str,
    broken: str,
    where: object,
) -> tuple[Dataset, ...]:
    """Decodes the splits of a data set, in their order.

    Args:
        splits: the pictures of each, by its name in `SPLITS`.
        class_names: one name a class.
        size: height and width to give.
        fit: one of `pictures.FITS`.
        broken: 'refuse' raises for broken pictures; 'skip' logs each and leaves it out.
        where: the data set, for messages.

    Raises:
        DataError: they would not fit in memory, some are broken, or a class is left without any
            to train on.
    """
    sources = [source for split in splits.values() for source in split]
    check_memory(len(sources), size, where)
    _log.info("reading %d pictures from %s", len(sources), where)
    images, reasons = read_pictures(sources, size, fit)
    if reasons and broken == "refuse":
        raise DataError(
            f"{len(reasons)} of {len(sources)} pictures are broken, the first one: "
            f"{reasons[min(reasons)]}; or leave them all out with broken='skip' (--broken skip)"
        )
    kept = np.array([number not in reasons for number in range(len(sources))], bool)
    labels = np.array([source.label for source in sources], np.int32)
    images, labels = _without_broken(images, labels, kept, reasons)
    datasets, start, first = {}, 0, 0
    for name, split in splits.items():
        count = int(kept[first : first + len(split)].sum())
        part = slice(start, start + count)
        datasets[name] = _checked(name, images[part], labels[part], class_names, where)
        start, first = start + count, first + len(split)
    return tuple(datasets.values())


def read_pictures(
    sources: Sequence[Source], size: tuple[int, int], fit: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes pictures in as many threads as there are cores.

    Returns:
        uint8 (N, *size, 3), and what is wrong with each broken one by its number.
    """
    images = np.empty((len(sources), *size, 3), np.uint8)

    def read(number: int) -> str | None:
        source = sources[number]
        try:
            # Twice the size, so that the exact reduction still averages.
            picture = decode(source.read(), source.where, at_least=2 * max(size))
            images[number] = fit_picture(picture, size, fit)
        except DataError as error:
            return str(error)
        return None

    with ThreadPool(cores()) as pool:
        results = pool.imap(read, range(len(sources)), chunksize=16)
        return images, {n: reason for n, reason in enumerate(results) if reason is not None}


def _without_broken(
    images: np.ndarray, labels: np.ndarray, kept: np.ndarray, reasons: dict[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out what is broken, in place, and says so."""
    if not reasons:
        return images, labels
    for reason in reasons.values():
        _log.warning("left out: %s", reason)
    _log.warning("left out %d broken pictures of %d", len(reasons), len(kept))
    for new, old in enumerate(np.flatnonzero(kept)):  # a copy would need the memory twice
        images[new] = images[old]
    return images[: kept.sum()], labels[kept]


def _checked(
    split: str, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...], where: object
) -> Dataset:
    if not len(labels):
        raise DataError(f"{where}: the {_CALLED[split]} set is left without a picture: add some")
    dataset = Dataset(images, labels, names)
    absent = _absent(dataset)
    if absent and split == "train":
        raise DataError(
            f"{where}: no picture is left to train on of {len(absent)} classes "
            f"({_some(absent)}): add pictures or take the classes out"
        )
    if absent:
        _log.warning("%s: the test set has no picture of %d classes (%s), so it says nothing "
                     "about them", where, len(absent), _some(absent))  # fmt: skip
    return dataset


def _absent(dataset: Dataset) -> list[str]:
    return [name for name, n in zip(dataset.class_names, class_counts(dataset)) if not n]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_memory(count: int, size: tuple[int, int], where: object) -> None:
    """Raises DataError where so many pictures of a size don't fit in the memory that is free."""
    _check_bytes(
        count * size[0] * size[1] * 3, f"{where}: {count} pictures of {size[0]}x{size[1]} need",
        "choose a smaller size (--size), take fewer pictures, or pack and stream them "
        "(train/pack.py, --dataset stream)",
    )  # fmt: skip


def check_file_memory(files: Sequence[Path]) -> None:
    """Raises DataError where files can't be held in the memory that is free, all at once."""
    needed = sum(file.stat().st_size for file in files if file.is_file())
    names = " and ".join(map(str, files))
    advice = "take fewer pictures, or stream them (--dataset stream)"
    _check_bytes(needed, f"{names}: to read them takes", advice)


def _check_bytes(needed: int, what: str, advice: str) -> None:
    free = _available_memory()
    if free is not None and needed > free:
        raise DataError(
            f"{what} {needed / _GIB:.1f} GiB of memory and {free / _GIB:.1f} GiB is free: {advice}"
        )


def _available_memory() -> int | None:
    """Bytes that programs can still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*found, *_left_to_groups()], default=None)


def _left_to_groups(
    processes: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Bytes that this process's control groups, as a container's, leave it; of version 2."""
    with suppress(OSError):
        lines = processes.read_text(encoding="utf-8").splitlines()
        own = next((line[3:] for line in lines if line.startswith("0::/")), "/")
        group = groups / own.lstrip("/")
        for folder in (group, *group.parents):  # limits of those around it count too
            # Where there is none it says "max". What caches of files hold is given back.
            with suppress(OSError, ValueError, KeyError):
                limit = int((folder / "memory.max").read_text())
                stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                cached = int(stat["active_file"]) + int(stat["inactive_file"])
                used = int((folder / "memory.current").read_text()) - cached
                yield max(limit - used, 0)
