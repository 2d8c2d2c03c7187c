"""Reads pictures from MXNet RecordIO pairs (.rec, .idx), strictly: what is damaged is an error.

MXNet's own readers give grey pixels for a picture that stops short, and stop without a word at some
damage; so the framing is read here, after dmlc-core's recordio.h and mxnet.recordio's IRHeader.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset, check_labels

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN = 0xDA
# In the coded data a 0xff is followed by 0x00 or a restart marker; anything else begins a segment.
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")


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
    records, offsets = read_records(rec)
    idx = rec.with_suffix(".idx")
    if idx.exists():
        check_index(idx, offsets)
    images = np.empty((len(records), *size, 3), np.uint8)
    labels = np.empty(len(records), np.int32)
    encoded = []
    for number, record in enumerate(records):
        where = f"{rec}, record {number}"
        labels[number], picture = _split_record(record, where)
        images[number] = _decode(picture, size, where)
        encoded.append(picture)
    check_labels(labels, len(class_names), rec)
    _check_not_starved(images, encoded, rec)
    return Dataset(images, labels, class_names)


def read_records(rec: Path) -> tuple[list[bytes], np.ndarray]:
    """Reads the records of a RecordIO file.

    Returns:
        The contents of each record, and the int64 offsets, (N,), at which the records begin.

    Raises:
        DataError: the file can't be read, holds no record or is damaged.
    """
    data = _read_bytes(rec)
    records: list[bytes] = []
    offsets: list[int] = []
    position = 0
    while position < len(data):
        offsets.append(position)
        record, position = _read_record(data, position, f"{rec}, record {len(records)}")
        records.append(record)
    if not records:
        raise DataError(f"{rec} is empty: copy or make it again")
    return records, np.array(offsets, np.int64)


def check_index(idx: Path, offsets: np.ndarray) -> None:
    """Raises DataError where an .idx file does not name exactly the records at `offsets`."""
    try:
        numbers = np.array(_read_bytes(idx).split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{idx}: holds more than pairs of integers; make it again") from None
    listed = np.sort(numbers[1::2])
    if len(numbers) % 2 or len(np.unique(numbers[::2])) != len(listed):
        raise DataError(f"{idx}: its keys are not unique or a line is cut; make it again")
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


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}): check path and rights") from None


def _read_record(data: bytes, position: int, where: str) -> tuple[bytes, int]:
    """Reads one record, which is split wherever its contents held the magic number."""
    parts = []
    while True:
        flag, part, position = _read_part(data, position, where)
        if flag not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            raise DataError(f"{where}: its parts are out of order; copy or make the file again")
        parts.append(part)
        if flag in (_WHOLE, _LAST):
            return _MAGIC_BYTES.join(parts), position


def _read_part(data: bytes, position: int, where: str) -> tuple[int, bytes, int]:
    if position + _FRAME.size > len(data):
        raise DataError(f"{where}: the file ends inside it; copy or make the file again")
    magic, length = _FRAME.unpack_from(data, position)
    if magic != _MAGIC:
        raise DataError(
            f"{where}: no RecordIO mark at byte {position}; the file is damaged or of another "
            "format, copy or make it again"
        )
    flag, length = length >> 29, length & 0x1FFFFFFF
    start = position + _FRAME.size
    end = start + length + -length % 4
    if end > len(data):
        raise DataError(f"{where}: the file ends inside it; copy or make the file again")
    return flag, data[start : start + length], end


def _split_record(record: bytes, where: str) -> tuple[int, bytes]:
    """Splits a record into its one label and its picture."""
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
    """Decodes a JPEG or PNG of the `size` (height, width) to uint8 (H, W, 3)."""
    from PIL import Image

    if encoded.startswith(_JPEG_START) and not _is_complete_jpeg(encoded):
        raise DataError(f"{where}: its JPEG is cut short or damaged; copy or make the file again")
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as picture:
            if picture.size != size[::-1]:
                raise DataError(
                    f"{where}: its picture is {picture.size[1]}x{picture.size[0]} and must be "
                    f"{size[0]}x{size[1]}; make the file from pictures of that size"
                )
            return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow answers damage with errors of many kinds
        raise DataError(
            f"{where}: its picture can't be decoded ({error}); copy or make the file again"
        ) from error


def _is_complete_jpeg(encoded: bytes) -> bool:
    """Whether the segments of a JPEG follow each other up to one end mark at its end."""
    position = 2
    while True:
        head = encoded[position : position + 4]
        if head[:2] == _JPEG_END:
            return not encoded[position + 2 :].strip(b"\0")
        if len(head) < 4 or head[0] != 0xFF:
            return False
        position += 2 + int.from_bytes(head[2:], "big")
        if head[1] == _START_OF_SCAN:
            marker = _JPEG_MARKER.search(encoded, position)
            if marker is None:
                return False
            position = marker.end() - 2


def _check_not_starved(images: np.ndarray, encoded: list[bytes], rec: Path) -> None:
    """Raises DataError for a JPEG that has its end mark but lacks coded data before it.

    The decoder fills what is missing with mid-grey. Where a last block is that grey, bytes put
    before the end mark tell: the decoder uses them only if it lacked some.
    """
    suspects = np.flatnonzero((images[:, -8:, -8:] == 128).all(axis=(1, 2, 3)))
    for number in suspects:
        where = f"{rec}, record {number}"
        head, mark, tail = encoded[number].rpartition(_JPEG_END)
        if not encoded[number].startswith(_JPEG_START):
            continue
        padded = _decode(head + b"\x5a" * 512 + mark + tail, images.shape[1:3], where)
        if not np.array_equal(padded, images[number]):
            raise DataError(f"{where}: its JPEG lacks data; copy or make the file again")
