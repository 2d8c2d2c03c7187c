"""Reads and writes MXNet's `.params` files without MXNet's own code for it.

A broken file can crash MXNet's reader, and its writer does not tell when the disk is full.

The layout (src/ndarray/ndarray.cc, all little-endian): the magic number of a list, a reserved word,
the number of arrays and the arrays; then the number of names and the names. An array is a magic
number that tells its version, its storage type (since version 2), its shape, its device, its data
type and its numbers.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx

_LIST_MAGIC = 0x112
_VERSION_1, _VERSION_2, _VERSION_3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_DTYPES = {
    0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32, 5: np.int8, 6: np.int64,
    7: np.bool_,
}  # fmt: skip
_BFLOAT16 = 12
_KINDS = {np.dtype(dtype): kind for kind, dtype in _DTYPES.items()}
# As MXNet's arrays have it.
_KINDS[np.dtype([("bfloat16", np.uint16)])] = _BFLOAT16
_CPU = 1

# More axes than any array has; NumPy takes no more than 32.
_MOST_AXES = 32
# Networks have thousands.
_MOST_ARRAYS = 100_000
_LONGEST_NAME = 4096


class ParamsFileError(ValueError):
    """A file that is no whole `.params` file: says where it goes wrong."""


def read_params_file(path: Path) -> dict[str, np.ndarray] | list[np.ndarray]:
    """The arrays of a file that `mxnet.nd.save` wrote: by name, or a list where they have none.

    Nothing is read that the file's own size does not allow, so a broken file of a few large arrays
    takes no more memory than its size, and one of many small ones a few megabytes more.

    Raises:
        ParamsFileError: the file is damaged, or holds what `save_parameters` never writes: sparse
            arrays, bfloat16, names that occur twice.
        OSError: it can't be read.
    """
    with open(path, "rb") as file:
        reader = _Reader(file)
        if reader.unpack("<Q", "the beginning")[0] != _LIST_MAGIC:
            raise ParamsFileError("it does not begin as such a file does")
        _, count = reader.unpack("<QQ", "the number of arrays")
        if count > _MOST_ARRAYS:
            raise ParamsFileError(f"it tells of {count} arrays, more than {_MOST_ARRAYS}")
        arrays = [_array(reader, f"array {number}") for number in range(count)]
        names = _names(reader, count)
        if reader.left():
            raise ParamsFileError(f"it has {reader.left()} bytes behind its end")
    if not names:
        return arrays
    if len(set(names)) != count:
        raise ParamsFileError(f"it has {count} arrays and {len(set(names))} different names")
    return dict(zip(names, arrays))


def write_params_file(path: Path, arrays: Mapping[str, np.ndarray | mx.nd.NDArray]) -> None:
    """Writes named arrays, byte for byte as `mxnet.nd.save` does; MXNet's are copied one by one.

    Raises:
        ParamsFileError: an array has a data type that such files have none for, or no numbers.
        OSError: it can't be written, as where the disk is full.
    """
    for name, array in arrays.items():
        if np.dtype(array.dtype) not in _KINDS or not array.size or not array.ndim:
            raise ParamsFileError(
                f"{name} is {array.dtype} of the shape {tuple(array.shape)}, which such a file "
                "can't hold: give float32, at least one number and one axis"
            )
        if len(name.encode("utf-8")) > _LONGEST_NAME:
            raise ParamsFileError(f"a name begins {name[:40]} and has over {_LONGEST_NAME} bytes")
    with open(path, "wb") as file:
        file.write(struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays)))
        for array in arrays.values():
            _write_array(file, array.asnumpy() if isinstance(array, mx.nd.NDArray) else array)
        file.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            text = name.encode("utf-8")
            file.write(struct.pack("<Q", len(text)) + text)


def _write_array(file: BinaryIO, array: np.ndarray) -> None:
    file.write(struct.pack("<IiI", _VERSION_2, _DENSE, array.ndim))
    file.write(struct.pack(f"<{array.ndim}q", *array.shape))
    file.write(struct.pack("<iii", _CPU, 0, _KINDS[array.dtype]))
    file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)


class _Reader:
    """A file from its place on, which refuses to go past its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def left(self) -> int:
        """Bytes from here to the end."""
        return self._size - self._file.tell()

    def take(self, count: int, what: str) -> bytearray:
        """The next bytes, to be written to if need be."""
        if count > self.left():
            raise ParamsFileError(f"it ends within {what}")
        data = bytearray(count)
        if self._file.readinto(data) != count:
            raise ParamsFileError(f"it ends within {what}")
        return data

    def unpack(self, form: str, what: str) -> tuple[int, ...]:
        """The next numbers, as `struct` has them."""
        return struct.unpack(form, self.take(struct.calcsize(form), what))


def _array(reader: _Reader, what: str) -> np.ndarray:
    (magic,) = reader.unpack("<I", what)
    if magic in (_VERSION_2, _VERSION_3):
        if reader.unpack("<i", what)[0] != _DENSE:
            raise ParamsFileError(f"{what} is sparse")
    shape = _shape(reader, magic, what)
    if not shape:
        raise ParamsFileError(f"{what} has no shape")
    _, _, kind = reader.unpack("<iii", what)
    if kind == _BFLOAT16:
        raise ParamsFileError(f"{what} is bfloat16: save it as float32")
    if kind not in _DTYPES:
        raise ParamsFileError(f"{what} has an unknown data type, {kind}")
    dtype = np.dtype(_DTYPES[kind]).newbyteorder("<")
    data = reader.take(math.prod(shape) * dtype.itemsize, what)
    return np.frombuffer(data, dtype).reshape(shape)


def _shape(reader: _Reader, magic: int, what: str) -> tuple[int, ...]:
    """The shape; before version 1 its number of axes stands where later ones have their magic."""
    if magic in (_VERSION_1, _VERSION_2, _VERSION_3):
        (axes,), width = reader.unpack("<I", what), "q"
    else:
        axes, width = magic, "I"
    if axes > _MOST_AXES:
        raise ParamsFileError(f"{what} has {axes} axes")
    shape = reader.unpack(f"<{axes}{width}", what)
    if any(edge < 1 for edge in shape):
        raise ParamsFileError(f"{what} has the shape {shape}")
    return shape


def _names(reader: _Reader, arrays: int) -> list[str]:
    (count,) = reader.unpack("<Q", "the number of names")
    if count not in (0, arrays):
        raise ParamsFileError(f"it has {arrays} arrays and {count} names")
    names = []
    for number in range(count):
        what = f"name {number}"
        (length,) = reader.unpack("<Q", what)
        if length > _LONGEST_NAME:
            raise ParamsFileError(f"{what} has {length} bytes")
        try:
            names.append(reader.take(length, what).decode("utf-8"))
        except UnicodeDecodeError:
            raise ParamsFileError(f"{what} is no text") from None
    return names
