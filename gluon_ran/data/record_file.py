"""RecordIO files of any size: records are read one by one, by number, and none is kept."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, DiskError
from gluon_ran.data.folder import TEST_NAMES
from gluon_ran.data.memory import Memory
from gluon_ran.data.pictures import read_bytes
from gluon_ran.data.records import (
    LABEL_BYTES,
    CutShort,
    first_label,
    has_mark,
    read_index,
    read_record,
    split_record,
)

_PARTS = ("train", *TEST_NAMES)
# Records whose beginnings tell whether a .rec and an .idx belong together.
_SAMPLED = 16


class PairError(DataError):
    """A .rec or .idx file is cut short or of another pair: no damage of one record alone."""


class RecordFile:
    """A .rec file, open for reading by any number of threads at once.

    Memory holds where each record begins, 8 bytes a record, and nothing of the records.

    Args:
        rec: the .rec file. Its .idx lies beside it.
        class_names: one name a class; None: what `find_class_names` finds.

    Attributes:
        path: the .rec file.
        class_names: one name a class, or None: then labels from 0 on are not checked any further.
        memory: of the batches that are made of the records, which one epoch leaves to the next.
        broken: numbers of the records that were found broken and left out.

    Raises:
        DataError: a file is missing or empty, or the .idx is damaged or belongs to another.
    """

    def __init__(self, rec: str | os.PathLike, class_names: Sequence[str] | None = None) -> None:
        self.path = Path(rec).expanduser()
        self._file = _open(self.path)
        weakref.finalize(self, os.close, self._file)
        idx = self.path.with_suffix(".idx")
        if not idx.is_file():
            raise DataError(
                f"{idx} is missing, which says where the records of {self.path.name} begin: copy "
                "it too, or make it with tools/rec2idx.py of MXNet's sources"
            )
        starts = read_index(idx)
        end = os.fstat(self._file).st_size
        if not len(starts) or starts[0] != 0 or starts[-1] >= end or not np.diff(starts).all():
            cut = f"; records are to begin up to byte {starts[-1]}" if len(starts) else ""
            raise DataError(
                f"{idx} names no records, or others than are in the {end} bytes of "
                f"{self.path.name}{cut}: the file is cut short, or they are no pair; copy or make "
                "both again"
            )
        self._bounds = np.append(starts, end)
        self._check_pair(idx)
        named = find_class_names(self.path) if class_names is None else tuple(class_names)
        self.class_names = named
        self.memory = Memory()
        self.broken: set[int] = set()

    def _check_pair(self, idx: Path) -> None:
        """Refuses an .idx of another file, and a file that is cut short, by a few records."""
        sampled = np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype(int))[1:].tolist()
        marked = [has_mark(os.pread(self._file, 4, int(self._bounds[n]))) for n in sampled]
        if 2 * sum(marked) < len(marked):
            raise PairError(
                f"{idx} names places in {self.path.name} where no records begin: they are no pair; "
                "copy or make both again"
            )
        try:
            self._contents(len(self) - 1)
        except PairError:
            raise
        except DataError:  # of that record alone, so it is for whoever reads it
            pass

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def where(self, number: int) -> str:
        """The name of a record, for messages."""
        return f"{self.path}, record {number}"

    def read(self, number: int) -> tuple[int, bytes]:
        """Reads one record, from 0 in the order of the file: its label and its encoded picture.

        Raises:
            DataError: the record is damaged, or its label is no class.
            PairError: more is wrong than that record.
        """
        label, encoded = split_record(self._contents(number), self.where(number))
        self._check_label(label, number)
        return label, encoded.tobytes()

    def label(self, number: int) -> int:
        """The label of a record, for which its picture is not read.

        Raises:
            DataError, PairError: as `read` does, as far as that is seen.
        """
        label = first_label(self._bytes(number, LABEL_BYTES), self.where(number))
        if label is None:
            return self.read(number)[0]
        self._check_label(label, number)
        return label

    def _check_label(self, label: int, number: int) -> None:
        classes = label + 1 if self.class_names is None else len(self.class_names)
        if not 0 <= label < max(classes, 1):
            raise DataError(
                f"{self.where(number)}: label {label} is outside 0 to {max(classes, 1) - 1}, the "
                "classes there are; make the file again, or name all classes in classes.txt"
            )

    def _bytes(self, number: int, most: int) -> bytes:
        start, end = self._bounds[number : number + 2].tolist()
        try:
            return os.pread(self._file, min(end - start, most), start)
        except OSError as error:  # none of the record: the disk fails, and may not the next time
            raise DiskError(f"{self.where(number)} can't be read ({error.strerror})") from None

    def _contents(self, number: int) -> memoryview:
        """The record, without the frame around it."""
        where, data = self.where(number), memoryview(self._bytes(number, sys.maxsize))
        try:
            record, length = read_record(data, 0, where)
        except CutShort as error:
            if number == len(self) - 1:
                raise PairError(str(error)) from None
            raise DataError(f"{where}: its length is damaged; make the file again") from None
        if length == len(data):
            return record
        if has_mark(data, length):
            raise PairError(
                f"{where}: it ends {len(data) - length} bytes before the next one that the .idx "
                "names: they are no pair; copy or make both again"
            )
        raise DataError(f"{where}: its length is damaged; copy or make the file again")


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
