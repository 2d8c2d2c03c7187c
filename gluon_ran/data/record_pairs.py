"""Finds a pair of RecordIO files with pictures of any size: to read, or to stream them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset, check_labels
from gluon_ran.data.folder import TEST_NAMES
from gluon_ran.data.loading import (
    BROKEN,
    SPLITS,
    Source,
    check_file_memory,
    check_splits,
    load_splits,
)
from gluon_ran.data.pictures import FITS, check_choice, checked_size
from gluon_ran.data.record_file import PairError, RecordFile, find_class_names
from gluon_ran.data.records import read_labelled

_TRAIN = "train.rec"
_log = logging.getLogger(__name__)


def load_record_pair(
    path: str | os.PathLike,
    size: int | tuple[int, int],
    fit: str = "crop",
    broken: str = "refuse",
    splits: Sequence[str] = SPLITS,
) -> tuple[Dataset, ...]:
    """Loads NAME_train.rec and NAME_test.rec (or _val), or train.rec and test.rec (or val).

    They are what MXNet's im2rec makes, with one label a picture. NAME_classes.txt or classes.txt
    beside them names the classes, a line each in the order of the labels; without it the names
    are the labels themselves.

    Args:
        path: the folder of the pair, or FOLDER/NAME where it holds several.
        size: side in pixels, or height and width, that every picture is brought to.
        fit: how: 'crop', 'squash' or 'pad', see `pictures.fit_picture`.
        broken: 'refuse' raises for pictures that can't be decoded; 'skip' logs and leaves them
            out. Damage to the files around the pictures is an error in either case.
        splits: which to read, of 'train' and 'test', in the order that they are given back.

    Raises:
        DataError: there is no such pair or more than one, or a file, label or picture is damaged.
    """
    size = checked_size(size)
    check_choice("fit", fit, FITS)
    check_choice("broken", broken, BROKEN)
    check_splits(splits)
    pair = choose_pair(Path(path).expanduser())
    check_file_memory(pair)
    labelled = {split: (rec, *read_labelled(rec)) for split, rec in zip(SPLITS, pair)}
    names = _class_names(pair[0], labelled["train"][1])
    for rec, labels, _ in labelled.values():
        check_labels(labels, len(names), rec)
    sources = {split: _sources(*labelled[split]) for split in splits}
    return load_splits(sources, names, size, fit, broken, pair[0].parent)


def open_record_pair(
    path: str | os.PathLike,
    broken: str = "refuse",
    class_names: Sequence[str] | None = None,
) -> tuple[RecordFile, RecordFile]:
    """Opens the files that `load_record_pair` reads, for their pictures to be streamed.

    Where nothing names the classes, the labels of all records to train on are read, which takes a
    minute or more for millions; the names are the labels themselves then.

    Args:
        path: the folder of the pair, or FOLDER/NAME where it holds several.
        broken: 'skip' passes over records whose label can't be read, 'refuse' raises.
        class_names: one name a class where no file beside names them; None: not known.

    Raises:
        DataError: there is no such pair or more than one, or a file or label is damaged.
    """
    check_choice("broken", broken, BROKEN)
    train, test = choose_pair(Path(path).expanduser())
    names = find_class_names(train) or class_names
    if names is None:
        names = _class_names(train, read_labels(RecordFile(train), broken))
    return RecordFile(train, names), RecordFile(test, names)


def read_labels(records: RecordFile, broken: str = "refuse") -> np.ndarray:
    """The labels of a file, int64 (N,), without those of broken records where they are skipped.

    Raises:
        DataError: a record is damaged, or all are.
    """
    _log.info("reading all %s labels of %s, since no classes.txt beside it names the classes",
              f"{len(records):,}", records.path)  # fmt: skip
    labels = []
    for number in range(len(records)):
        try:
            labels.append(records.label(number))
        except PairError:
            raise
        except DataError as error:
            if broken == "refuse":
                raise DataError(f"{error}; or leave such records out (--broken skip)") from None
    if not labels:
        raise DataError(f"{records.path}: all {len(records)} records are broken; make it again")
    return np.array(labels)


def _sources(rec: Path, labels: np.ndarray, pictures: list[memoryview]) -> list[Source]:
    return [
        Source(f"{rec}, record {number}", int(label), picture.tobytes)
        for number, (label, picture) in enumerate(zip(labels, pictures))
    ]


def find_pair(place: Path, prefix: str) -> tuple[Path, Path] | None:
    """The files to train on and for the test whose names begin with `prefix`, if both are there."""
    train = place / f"{prefix}{_TRAIN}"
    for name in TEST_NAMES:
        test = place / f"{prefix}{name}.rec"
        if train.is_file() and test.is_file():
            return train, test
    return None


def find_pairs(path: Path) -> list[tuple[Path, Path]]:
    """All pairs in the folder `path`, sorted; or, with FOLDER/NAME, the one of that name."""
    if not path.is_dir():
        pair = find_pair(path.parent, f"{path.name}_")
        return [pair] if pair else []
    prefixes = sorted(file.name[: -len(_TRAIN)] for file in path.glob(f"*{_TRAIN}"))
    pairs = (find_pair(path, prefix) for prefix in prefixes if prefix[-1:] in ("", "_"))
    return [pair for pair in pairs if pair]


def choose_pair(path: Path) -> tuple[Path, Path]:
    """The one pair that `path` means.

    Raises:
        DataError: there is none, or more than one.
    """
    pairs = find_pairs(path)
    if not pairs:
        raise DataError(
            f"{path} holds no pair of RecordIO files: put there NAME_train.rec and NAME_test.rec "
            "(or NAME_val.rec), or train.rec and test.rec, and give the folder or FOLDER/NAME"
        )
    if len(pairs) > 1:
        found = ", ".join(train.name for train, _ in pairs)
        raise DataError(f"{path} holds several pairs ({found}): name one, as in {path}/NAME")
    return pairs[0]


def _class_names(train: Path, labels: np.ndarray) -> tuple[str, ...]:
    names = find_class_names(train)
    if names is not None:
        return names
    highest = int(labels.max())
    if highest >= len(labels):  # each class needs a picture, so this can't be
        raise DataError(
            f"{train}: label {highest} among {len(labels)} pictures: the file is damaged, or "
            "classes.txt beside it must name all classes"
        )
    return tuple(map(str, range(highest + 1)))
