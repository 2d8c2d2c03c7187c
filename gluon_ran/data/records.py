"""Reads pictures from MXNet RecordIO pairs (.rec, .idx), strictly: what is damaged is an error.

MXNet's own readers give grey pixels for a picture that stops short, and stop without a word at some
damage, and its writer does not tell when the disk is full; so the framing is read and written here,
after dmlc-core's recordio.h and mxnet.recordio's IRHeader.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset, check_labels
from gluon_ran.data.jpeg import JPEG_START, is_complete_jpeg
from gluon_ran.data.pictures import decode, read_bytes

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
# Of the contents: a frame has 29 bits for it.
_MOST_BYTES = 2**29 - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
# What a header and its one label take at the most, behind the frame.
_LABELLED = _HEADER.size + 4


class CutShort(DataError):
    """The data ends within a record."""


def load_records(
    rec: Path, class_names: tuple[str, ...], size: tuple[int, int] = (32, 32)
) -> Dataset:
    """Reads all pictures of a RecordIO file; the .idx beside it is checked where there is one.

    Args:
        rec: the .rec file; each record holds one label and one JPEG or PNG picture.
        class_names: one name a class.
        size: height and width that every picture must have.

    Raises:
        DataError: the file, its index, a record, a label or a picture is damaged or unfit.
    """
    labels, encoded = read_labelled(rec)
    check_labels(labels, len(class_names), rec)
    images = np.empty((len(encoded), *size, 3), np.uint8)
    for number, picture in enumerate(encoded):
        images[number] = _decode(picture.tobytes(), size, f"{rec}, record {number}")
    return Dataset(images, labels, class_names)


def read_labelled(rec: Path) -> tuple[np.ndarray, list[memoryview]]:
    """Reads a RecordIO file, with its .idx where there is one, but decodes no picture.

    Returns:
        The int32 labels, (N,), whatever their range, and the N encoded pictures.

    Raises:
        DataError: the file, its index or a record is damaged, or a record has no single label.
    """
    records, offsets = read_records(rec)
    idx = rec.with_suffix(".idx")
    if idx.exists():
        check_index(idx, offsets)
    pairs = [split_record(record, f"{rec}, record {n}") for n, record in enumerate(records)]
    labels, encoded = zip(*pairs)
    return np.array(labels, np.int32), list(encoded)


def read_records(rec: Path) -> tuple[list[memoryview], np.ndarray]:
    """Reads the records of a RecordIO file.

    Returns:
        The contents of each record, and the int64 offsets, (N,), at which the records begin.

    Raises:
        DataError: the file can't be read, holds no record or is damaged.
    """
    data = memoryview(read_bytes(rec))
    records: list[memoryview] = []
    offsets: list[int] = []
    position = 0
    while position < len(data):
        offsets.append(position)
        record, position = read_record(data, position, f"{rec}, record {len(records)}")
        records.append(record)
    if not records:
        raise DataError(f"{rec} is empty: copy or make it again")
    return records, np.array(offsets, np.int64)


def check_index(idx: Path, offsets: np.ndarray) -> None:
    """Raises DataError where an .idx file does not name exactly the records at `offsets`."""
    listed = read_index(idx)
    if len(listed) != len(offsets):
        raise DataError(
            f"{idx} lists {len(listed)} records and its .rec file holds {len(offsets)}: "
            "one of the two is cut short or they are no pair; copy or make both again"
        )
    if not np.array_equal(listed, offsets):
        wrong = int(np.flatnonzero(listed != offsets)[0])
        raise DataError(
            f"{idx} says that a record begins at byte {listed[wrong]}, the .rec file that it is "
            f"at {offsets[wrong]}: they are no pair; copy or make both again"
        )


def read_index(idx: Path) -> np.ndarray:
    """The bytes at which an .idx file says that records begin: int64, (N,), in rising order.

    Raises:
        DataError: it can't be read, or holds other things than pairs of a key and a number.
    """
    try:
        with warnings.catch_warnings():
            # What stops fromstring, which needs no object a number, is a warning to it.
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(read_bytes(idx), np.int64, sep=" ")
        if (numbers == np.iinfo(np.int64).max).any():  # what it makes of greater ones
            raise ValueError
    except (ValueError, DeprecationWarning):
        raise DataError(f"{idx}: holds more than pairs of integers; make it again") from None
    listed = np.sort(numbers[1::2])
    if len(numbers) % 2 or len(np.unique(numbers[::2])) != len(listed):
        raise DataError(f"{idx}: its keys are not unique or a line is cut; make it again")
    return listed


def read_record(data: memoryview, position: int, where: str) -> tuple[memoryview, int]:
    """Reads one record, which is split wherever its contents held the magic number.

    Args:
        data: of the file, from before the record to its end or behind it.
        position: where in `data` the record begins.
        where: the file, and the place in it, for messages.

    Returns:
        The record's contents, and where in `data` the next one begins.

    Raises:
        DataError: it is damaged.
    """
    parts = []
    while True:
        flag, part, position = _read_part(data, position, where)
        if flag not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            raise DataError(f"{where}: its parts are out of order; copy or make the file again")
        parts.append(part)
        if flag in (_WHOLE, _LAST):
            whole = parts[0] if len(parts) == 1 else memoryview(_MAGIC_BYTES.join(parts))
            return whole, position


def _read_part(data: memoryview, position: int, where: str) -> tuple[int, memoryview, int]:
    if position + _FRAME.size > len(data):
        raise CutShort(f"{where}: the file ends inside it; copy or make the file again")
    magic, length = _FRAME.unpack_from(data, position)
    if magic != _MAGIC:
        raise DataError(
            f"{where}: it has no RecordIO mark; the file is damaged or of another format, copy or "
            "make it again"
        )
    flag, length = length >> 29, length & _MOST_BYTES
    start = position + _FRAME.size
    end = start + length + -length % 4
    if end > len(data):
        raise CutShort(f"{where}: the file ends inside it; copy or make the file again")
    return flag, data[start : start + length], end


def make_record(label: int, number: int, encoded: bytes) -> bytes:
    """A record of one label and a picture, to the byte as MXNet's writer has it.

    Args:
        label: its class.
        number: which record it is.
        encoded: the picture.

    Raises:
        DataError: the picture is too long for a record.
    """
    length = _HEADER.size + len(encoded)
    if length > _MOST_BYTES:
        raise DataError(
            f"record {number} would have {length} bytes, and a RecordIO file's have {_MOST_BYTES} "
            "at most: let pictures shrink"
        )
    parts = _split(_HEADER.pack(0, label, number, 0) + encoded)
    middle = [_MIDDLE] * (len(parts) - 2)
    flags = [_FIRST, *middle, _LAST] if len(parts) > 1 else [_WHOLE]
    framed = [
        _FRAME.pack(_MAGIC, flag << 29 | len(part)) + part for flag, part in zip(flags, parts)
    ]
    return b"".join([*framed, bytes(-length % 4)])


def _split(contents: bytes) -> list[bytes]:
    """What lies between the magic numbers that begin at every fourth byte, which only marks may."""
    parts, start, found = [], 0, contents.find(_MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts.append(contents[start:found])
            start = found + 4
        found = contents.find(_MAGIC_BYTES, max(start, found + 1))
    return [*parts, contents[start:]]


def has_mark(data: bytes, position: int = 0) -> bool:
    """Whether `data` has the mark at `position` that records begin with."""
    return data[position : position + len(_MAGIC_BYTES)] == _MAGIC_BYTES


# Bytes of a record that `first_label` needs.
LABEL_BYTES = _FRAME.size + _LABELLED


def first_label(data: bytes, where: str) -> int | None:
    """The label of a record of which these are the first `LABEL_BYTES`, or all there are.

    None where that is not enough to tell, or the record is damaged.

    Raises:
        DataError: it has no single whole label.
    """
    if len(data) < LABEL_BYTES or not has_mark(data):
        return None
    length = _FRAME.unpack_from(data)[1]
    if length >> 29 not in (_WHOLE, _FIRST) or length & _MOST_BYTES < _LABELLED:
        return None
    return split_record(memoryview(data)[_FRAME.size :], where)[0]


def split_record(record: memoryview, where: str) -> tuple[int, memoryview]:
    """Splits a record into its one label and its picture.

    Raises:
        DataError: it has no single whole label.
    """
    if len(record) < _HEADER.size:
        raise DataError(f"{where}: too short for a header; make the file again")
    count, label, _, _ = _HEADER.unpack_from(record)
    start = _HEADER.size
    if count == 1 and len(record) >= start + 4:
        (label,) = struct.unpack_from("<f", record, start)
        start += 4
    elif count:
        raise DataError(f"{where}: holds {count} labels; pack the file with one label a picture")
    if not (label.is_integer() and abs(label) < 2**31):
        raise DataError(f"{where}: label {label} is no class; the file is damaged")
    return int(label), record[start:]


def _decode(encoded: bytes, size: tuple[int, int], where: str) -> np.ndarray:
    """Decodes a JPEG or PNG of just the `size` (height, width) to uint8 (H, W, 3)."""
    if encoded.startswith(JPEG_START) and not is_complete_jpeg(encoded):
        raise DataError(f"{where}: its JPEG is cut short or damaged; copy or make the file again")
    picture = decode(encoded, where, ("JPEG", "PNG"))
    if picture.size != size[::-1]:
        raise DataError(
            f"{where}: its picture is {picture.height}x{picture.width} and must be "
            f"{size[0]}x{size[1]}; make the file from pictures of that size"
        )
    return np.asarray(picture)
