"""Packs a folder of pictures, a sub folder a class, into one RecordIO file."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gluon_ran._files import atomic_paths, leftovers_removed
from gluon_ran.data.dataset import DataError
from gluon_ran.data.folder import TEST_NAMES, list_classes, read_file
from gluon_ran.data.loading import BROKEN
from gluon_ran.data.parallel import cores, map_ahead
from gluon_ran.data.pictures import check_choice, decode, is_plain
from gluon_ran.data.record_file import class_files, read_class_names
from gluon_ran.data.records import make_record

_AHEAD = 64
_log = logging.getLogger(__name__)


class _Packed(NamedTuple):
    label: int
    encoded: bytes
    broken: str | None = None


def pack_folder(
    folder: str | os.PathLike,
    rec: str | os.PathLike,
    *,
    shorter_side: int | None = None,
    quality: int = 95,
    broken: str = "refuse",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Packs FOLDER/CLASS/* into a .rec file, with its .idx and the names of its classes beside it.

    A class's label is its place among the sorted names of the folders. The order of the pictures is
    drawn, the same each time, so that readers that shuffle little mix classes too. An upright JPEG
    or PNG in RGB or grey of 8 bits goes in byte for byte unless it is to shrink; all else is
    encoded anew, as RGB JPEG, which every reader decodes alike. The files take their places
    together, behind all writing, and whatever the number of pictures, memory holds but a few.

    Args:
        folder: holds one folder a class, as `load_folder` reads it.
        rec: the .rec file to write. The names go to NAME_classes.txt where it is called
            NAME_train.rec, NAME_val.rec or the like, and must be those that are there already.
        shorter_side: pictures whose shorter side is greater shrink to it, in pixels; None: none.
        quality: of the JPEGs that are encoded anew, 1 to 95.
        broken: 'refuse' raises for a picture that can't be decoded; 'skip' logs it and leaves it
            out.
        threads: how many decode and encode; None: as many as there are cores.
        progress: called behind each picture with how many are done, and how many there are.

    Returns:
        How many pictures were packed.

    Raises:
        DataError: the folder has another layout, a picture is broken, a setting is out of range, or
            the classes are others than those of the files beside.
        OSError: a file can't be written, as where the disk is full.
    """
    rec = Path(rec).expanduser()
    check_choice("broken", broken, BROKEN)
    if rec.suffix != ".rec":
        raise DataError(f"{rec}: give the name of a .rec file")
    if not 1 <= quality <= 95:
        raise DataError(f"quality {quality} must be 1 to 95")
    if shorter_side is not None and shorter_side < 1:
        raise DataError(f"shorter_side {shorter_side} must be at least 1 pixel")
    classes = list_classes(Path(folder).expanduser())
    if set(classes) <= {"train", *TEST_NAMES}:
        raise DataError(
            f"{folder} holds {' and '.join(sorted(classes))}, which are no classes: pack the class "
            "folders of each into a file of its own"
        )
    names, names_file = sorted(classes), class_files(rec)[0]
    _check_names(names, names_file)
    rec.parent.mkdir(parents=True, exist_ok=True)
    labelled = [(file, label) for label, name in enumerate(names) for file in classes[name]]
    order = np.random.default_rng(0).permutation(len(labelled))
    pack = partial(_pack, shorter_side=shorter_side, quality=quality)
    packed = map_ahead(pack, (labelled[n] for n in order), threads or cores(), _AHEAD)
    if progress is not None:
        packed = _watched(packed, len(labelled), progress)
    with leftovers_removed(rec, rec.with_suffix(".idx"), names_file):
        return _write(_kept(packed, broken), rec, names, names_file)


def _check_names(names: list[str], path: Path) -> None:
    unfit = [n for n in names if n.strip().splitlines() != [n]]
    if unfit:
        raise DataError(
            f"the folder {unfit[0]!r} has a name that can't stand on a line of {path.name}: "
            "call it otherwise"
        )
    if path.is_file() and read_class_names(path) != tuple(names):
        raise DataError(
            f"{path} has other classes than the {len(names)} folders ({', '.join(names[:3])}, ...):"
            " pack the same folders, or elsewhere, or remove it"
        )


def _pack(labelled: tuple[Path, int], shorter_side: int | None, quality: int) -> _Packed:
    file, label = labelled
    try:
        return _Packed(label, _encode(read_file(file), str(file), shorter_side, quality))
    except DataError as error:
        return _Packed(label, b"", str(error))


def _encode(encoded: bytes, where: str, shorter_side: int | None, quality: int) -> bytes:
    """The picture as it goes into the file; it is decoded in any case, to know that it is whole."""
    from PIL import Image

    # As for data sets in memory: twice the size, so that resizing still averages.
    picture = decode(encoded, where, at_least=2 * (shorter_side or 0))
    short = min(picture.size)
    shrinks = shorter_side is not None and short > shorter_side
    if not shrinks and is_plain(encoded):
        return encoded
    if shrinks:
        size = tuple(max(side * shorter_side // short, 1) for side in picture.size)
        picture = picture.resize(size, Image.BILINEAR)
    stream = io.BytesIO()
    try:
        picture.save(stream, "JPEG", quality=quality)
    except (OSError, ValueError) as error:  # a JPEG has at most 65,500 pixels a side
        width, height = picture.size
        raise DataError(
            f"{where}: can't be made a JPEG of {width}x{height} pixels ({error}): have it shrink, "
            "with a shorter_side (--shorter-side), or take it away"
        ) from None
    return stream.getvalue()


def _watched(
    packed: Iterator[_Packed], count: int, progress: Callable[[int, int], None]
) -> Iterator[_Packed]:
    for done, each in enumerate(packed, 1):
        yield each
        progress(done, count)


def _kept(packed: Iterator[_Packed], broken: str) -> Iterator[_Packed]:
    for each in packed:
        if each.broken is None:
            yield each
        elif broken == "refuse":
            raise DataError(
                f"{each.broken}; or leave such pictures out with broken='skip' (--broken skip)"
            )
        else:
            _log.warning("left out: %s", each.broken)


def _write(pictures: Iterator[_Packed], rec: Path, names: list[str], names_file: Path) -> int:
    number, start = -1, 0
    with ExitStack() as stack:
        paths = stack.enter_context(atomic_paths(rec, rec.with_suffix(".idx"), names_file))
        records, index = (stack.enter_context(open(path, "wb")) for path in paths[:2])
        paths[2].write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        for number, picture in enumerate(pictures):
            index.write(f"{number}\t{start}\n".encode())
            start += records.write(make_record(picture.label, number, picture.encoded))
        if number < 0:
            raise DataError(f"{rec}: every picture is broken, so there is nothing to pack")
    return number + 1
