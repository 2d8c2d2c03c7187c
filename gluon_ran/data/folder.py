"""Reads folders of pictures, a sub folder a class, as a data set in memory."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from gluon_ran.data.dataset import DataError, Dataset
from gluon_ran.data.loading import BROKEN, SPLITS, Source, check_splits, load_splits
from gluon_ran.data.pictures import FITS, SUFFIXES, check_choice, checked_size, read_bytes

TEST_NAMES = ("test", "val", "valid", "validation")
_NO_CLASSES = ("__MACOSX", "lost+found")
_log = logging.getLogger(__name__)


def load_folder(
    path: str | os.PathLike,
    size: int | tuple[int, int],
    fit: str = "crop",
    broken: str = "refuse",
    test_share: float = 0.2,
    splits: Sequence[str] = SPLITS,
) -> tuple[Dataset, ...]:
    """Loads PATH/train/CLASS/* and PATH/test/CLASS/*, or PATH/CLASS/* alone.

    The test part may also be called val, valid or validation. Pictures that come without one are
    split the same way each time, each class for itself: a file's part hangs on a hash of its name,
    so one file more or less moves hardly another. Classes are numbered in the order of their
    folders' names. Folders within a class's are searched too, links to folders are not, and files
    that are no pictures by their names (JPEG, PNG, BMP, WebP and PPM are) are counted in the log.

    Args:
        path: the folder.
        size: side in pixels, or height and width, that every picture is brought to.
        fit: how: 'crop', 'squash' or 'pad', see `pictures.fit_picture`.
        broken: 'refuse' raises for files that can't be decoded; 'skip' logs and leaves them out.
        test_share: part of each class that is for the test where PATH says nothing about it.
        splits: which to read, of 'train' and 'test', in the order that they are given back.

    Raises:
        DataError: the folder has another layout, a class without pictures, or broken pictures.
    """
    size = checked_size(size)
    check_choice("fit", fit, FITS)
    check_choice("broken", broken, BROKEN)
    check_splits(splits)
    if not 0 < test_share < 1:
        raise DataError(f"test_share is {test_share!r}: give a part between 0 and 1")
    root = Path(path).expanduser()
    found = find_parts(root)
    if found is None:
        files = list_classes(root)
        split = {name: split_files(files[name], root / name, test_share) for name in files}
        train = {name: halves[0] for name, halves in split.items()}
        test = {name: halves[1] for name, halves in split.items()}
        _log.info("%s has no test folder: %d of its %d pictures are for the test", root,
                  _count(test), _count(files))  # fmt: skip
    else:
        train, test = (list_classes(part) for part in found)
        _refuse_only_tested(train, test, found[1])
    names = tuple(sorted(train))
    parts = {"train": train, "test": test}
    sources = {
        split: [
            _source(file, label)
            for label, name in enumerate(names)
            for file in parts[split].get(name, ())
        ]
        for split in splits
    }
    return load_splits(sources, names, size, fit, broken, root)


def _count(files: dict[str, list[Path]]) -> int:
    return sum(map(len, files.values()))


def _source(file: Path, label: int) -> Source:
    return Source(str(file), label, partial(read_file, file))


def read_file(file: Path) -> bytes:
    """The contents of a plain file.

    Raises:
        DataError: it is none, or can't be read.
    """
    try:
        plain = stat.S_ISREG(os.stat(file).st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise DataError(f"{file} can't be read ({error.strerror}): check rights") from None
        plain = False
    if not plain:  # opening a pipe would wait for ever
        raise DataError(f"{file} is a link to nothing or no plain file: remove it")
    return read_bytes(file)


def find_parts(root: Path) -> tuple[Path, Path] | None:
    """The folders to train on and for the test; None where the classes lie in `root` itself.

    Raises:
        DataError: there is no such folder, or only one of the two parts.
    """
    below = {folder.name.lower(): folder for folder in _folders(root)}
    train = below.get("train")
    tests = [below[name] for name in TEST_NAMES if name in below]
    if train is None or not _folders(train):  # a class may be called train
        return None
    if not tests:
        raise DataError(
            f"{root} holds {train.name} and no {', '.join(TEST_NAMES[:-1])} or {TEST_NAMES[-1]}: "
            f"add one of them, or give {train} itself, to have a part of it taken for the test"
        )
    unused = sorted(set(below.values()) - {train, tests[0]})
    if unused:
        _log.warning("%s: the test is on %s; not used: %s", root, tests[0].name,
                     ", ".join(folder.name for folder in unused))  # fmt: skip
    return train, tests[0]


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {problem}: give the folder that holds the pictures")
    try:
        return [
            entry
            for entry in sorted(folder.iterdir())
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _NO_CLASSES
        ]
    except OSError as error:
        raise DataError(f"{folder} can't be read ({error.strerror}): check rights") from None


def list_classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, sorted; logs how many files were passed over.

    Raises:
        DataError: there are fewer than two classes, or one has no picture, or a name that is no
            text.
    """
    classes = _folders(folder)
    for each in classes:
        try:
            each.name.encode()
        except UnicodeEncodeError:  # as of an archive from elsewhere
            raise DataError(
                f"{folder} holds a folder {each.name!r}, whose name is not in UTF-8: call it "
                "otherwise"
            ) from None
    if len(classes) < 2:
        there = f"only the folder {classes[0].name}" if classes else "no folders"
        raise DataError(
            f"{folder} holds {there}: give a folder with one folder a class and at least two of "
            "them, or with train and test folders of that kind"
        )
    passed_over: Counter[str] = Counter()
    files = {each.name: _pictures_below(each, passed_over) for each in classes}
    for name, found in files.items():
        if not found:
            raise DataError(
                f"{folder / name} holds no picture ({', '.join(SUFFIXES)}): add some or remove "
                "the folder"
            )
    loose = sum(_is_picture(entry.name) for entry in folder.iterdir())
    if loose:
        _log.warning("%s: %d pictures lie beside the class folders and belong to no class",
                     folder, loose)  # fmt: skip
    if passed_over:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(passed_over.items()))
        _log.info("%s: passed over %d that are no pictures by name (%s)", folder,
                  sum(passed_over.values()), kinds)  # fmt: skip
    return files


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def pictures_below(folder: Path) -> list[Path]:
    """The pictures in a folder and those below it, sorted, whatever their classes and parts.

    None that `load_folder` passes over: hidden ones, and what systems put there.

    Raises:
        DataError: a folder can't be read.
    """
    return _pictures_below(folder, Counter(), _NO_CLASSES)


def _pictures_below(folder: Path, passed_over: Counter[str], but: Sequence[str] = ()) -> list[Path]:
    """The pictures in a folder and those below it, sorted; counts the rest by kind.

    Folders of the names in `but` are not looked into.
    """
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        passed_over.update({"links to folders": len(links)} if links else {})
        for name in names:
            if _is_picture(name):
                found.append(Path(place, name))
            else:
                hidden = "hidden files" if name.startswith(".") else "files without suffix"
                passed_over[Path(name.lstrip(".")).suffix.lower() or hidden] += 1
        folders[:] = [n for n in folders if not n.startswith(".") and n not in but]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} can't be read ({error.strerror}): check rights")


def _refuse_only_tested(train: Iterable[str], test: Iterable[str], where: Path) -> None:
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise DataError(
            f"{where} holds classes that are not trained on ({', '.join(unknown[:5])}): the two "
            "parts must have folders of the same names"
        )


def split_files(
    files: list[Path], folder: Path, test_share: float
) -> tuple[list[Path], list[Path]]:
    """Splits the files of a class; which are for the test hangs on a hash of their names alone.

    Args:
        files: at least one.
        folder: the class's; the names count from there, with its own.
        test_share: part for the test, rounded; at least one file where there are two, and one
            stays to train on.

    Returns:
        The files to train on and those for the test, in the order of `files`.
    """

    def drawn(file: Path) -> bytes:
        name = file.relative_to(folder.parent).as_posix()
        return hashlib.sha256(os.fsencode(name)).digest()

    count = min(max(round(len(files) * test_share), 1), len(files) - 1)
    chosen = set(sorted(files, key=drawn)[:count])
    return [file for file in files if file not in chosen], [f for f in files if f in chosen]
