"""RecordIO files of any size: records are read one by one, by number, and none is kept."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, check_labels
from gluon_ran.data.folder import TEST_NAMES
from gluon_ran.data.memory import Memory
from gluon_ran.data.pictures import read_bytes
from gluon_ran.data.records import read_index, read_record, split_record

_PARTS = ("train", *TEST_NAMES)


class RecordFile:
    """A .rec file, open for reading by any number of threads at once.

    Memory holds where each record begins, 8 bytes a record, and nothing of the records.

    Args:
        rec: the .rec file. Its .idx lies beside it.

    Attributes:
        path: the .rec file.
        class_names: what `find_class_names` finds, or None.
        memory: of the batches that are made of the records, which one epoch leaves to the next.

    Raises:
        DataError: a file is missing or empty, or the .idx is damaged or belongs to another.
    """

    def __init__(self, rec: str | os.PathLike) -> None:
        self.path = Path(rec).expanduser()
        self._file = _open(self.path)
        weakref.finalize(self, os.close, self._file)
        idx = self.path.with_suffix(".idx")
        if not idx.is_file():
            raise DataError(
                f"{idx} is missing, which says where the records of {self.path.name} begin: copy "
                "it too, or make it with MXNet's tools/rec2idx.py"
            )
        starts = read_index(idx)
        end = os.fstat(self._file).st_size
        if not len(starts) or starts[0] != 0 or starts[-1] >= end or not np.diff(starts).all():
            raise DataError(
                f"{idx} names no records, or others than are in the {end} bytes of "
                f"{self.path.name}: they are no pair; copy or make both again"
            )
        self._bounds = np.append(starts, end)
        self.class_names = find_class_names(self.path)
        self.memory = Memory()

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def where(self, number: int) -> str:
        """The name of a record, for messages."""
        return f"{self.path}, record {number}"

    def read(self, number: int) -> tuple[int, bytes]:
        """Reads one record, from 0 in the order of the file: its label and its encoded picture.

        Raises:
            DataError: the record is damaged, or its label is no class.
        """
        start, end = self._bounds[number : number + 2].tolist()
        data = memoryview(os.pread(self._file, end - start, start))
        record, length = read_record(data, 0, self.where(number))
        if length != end - start:
            raise DataError(
                f"{self.where(number)}: it ends {end - start - length} bytes before the next one "
                "that the .idx names: they are no pair; copy or make both again"
            )
        label, encoded = split_record(record, self.where(number))
        classes = label + 1 if self.class_names is None else len(self.class_names)
        check_labels(np.array([label]), max(classes, 1), self.where(number))
        return label, encoded.tobytes()


def _open(rec: Path) -> int:
    try:
        return os.open(rec, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{rec} can't be read ({error.strerror}): check path and rights") from None


def class_files(rec: Path) -> tuple[Path, Path]:
    """Where the names of a .rec file's classes may be: NAME_classes.txt, then classes.txt.

    NAME is what NAME_train.rec, NAME_val.rec and the like have in common, or else their own name.
    """
    name, _, part = rec.stem.rpartition("_")
    if part not in _PARTS:
        name = rec.stem
    elif not name:  # train.rec
        return rec.with_name("classes.txt"), rec.with_name("classes.txt")
    return rec.with_name(f"{name}_classes.txt"), rec.with_name("classes.txt")


def find_class_names(rec: Path) -> tuple[str, ...] | None:
    """The names of the classes of a .rec file, in the order of the labels; None without a file.

    Raises:
        DataError: the file of names is damaged.
    """
    found = [path for path in class_files(rec) if path.is_file()]
    return read_class_names(found[0]) if found else None


def read_class_names(path: Path) -> tuple[str, ...]:
    """Reads one name a line.

    Raises:
        DataError: it is no text, is empty or names a class twice.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error.reason}): save it as such") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} names {twice} twice: give each class a name of its own")
    if not names:
        raise DataError(f"{path} is empty: write one class a line, in the order of the labels")
    return names
