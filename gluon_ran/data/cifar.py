"""CIFAR-10 and CIFAR-100 from their binary files or archives, or from RecordIO pairs.

The data set and its formats: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import logging
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gluon_ran.data.class_names import CIFAR10_NAMES, CIFAR100_NAMES
from gluon_ran.data.dataset import DataError, Dataset, check_labels
from gluon_ran.data.download import cache_folder, download, locked, md5_of
from gluon_ran.data.record_pairs import find_pair
from gluon_ran.data.records import load_records

_log = logging.getLogger(__name__)
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class CifarFiles:
    """Where one CIFAR is published and what it consists of.

    Attributes:
        url: the archive's address; its last part is the archive's name.
        md5: the archive's MD5, in hexadecimal.
        folder: the folder inside the archive.
        train: name and number of pictures of each file to train on.
        test: the same for the test.
        label_bytes: bytes before each picture; the last of them is the class.
        class_names: one name a class.
    """

    url: str
    md5: str
    folder: str
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    label_bytes: int
    class_names: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> dict[str, int]:
        """The size in bytes of each file, by name."""
        size = self.label_bytes + _PIXELS
        return {name: count * size for name, count in self.train + self.test}


CIFAR = {
    "cifar10": CifarFiles(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train=tuple((f"data_batch_{number}.bin", 10_000) for number in range(1, 6)),
        test=(("test_batch.bin", 10_000),),
        label_bytes=1,
        class_names=CIFAR10_NAMES,
    ),
    "cifar100": CifarFiles(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train=(("train.bin", 50_000),),
        test=(("test.bin", 10_000),),
        label_bytes=2,
        class_names=CIFAR100_NAMES,
    ),
}


def load_cifar(name: str, data_dir: str | os.PathLike | None = None) -> tuple[Dataset, Dataset]:
    """Loads the training and the test split of 'cifar10' or 'cifar100' (fine labels).

    A folder may hold, itself or one folder down, the unpacked binary files, the binary archive or
    two RecordIO files (such as cifar10_train.rec and cifar10_test.rec), and is looked through for
    them in that order. Without a folder the archive is downloaded and kept where MXNet keeps it.

    Raises:
        DataError: the folder is missing or lacks the files, a file is damaged, or the download
            failed.
    """
    files = CIFAR[name]
    if data_dir is None:
        return _load_cached(files, cache_folder(name))
    folder = Path(data_dir).expanduser()
    places = _places(folder, files.folder, name)
    for place in places:
        if all((place / file).is_file() for file in files.files):
            return _from_binaries(files, place)
    for place in places:
        if (place / files.archive).is_file():
            return _from_archive(files, place / files.archive)
    for place in places:
        pair = find_pair(place, f"{name}_") or find_pair(place, "")
        if pair is not None:
            return _from_records(files, *pair)
    raise DataError(_what_lacks(folder, places, name, files))


def find_cifar(folder: Path) -> list[str]:
    """The CIFARs of which a folder holds the archive, a RecordIO file or any of the files."""
    found = []
    for name, files in CIFAR.items():
        known = (*files.files, files.archive, f"{name}_train.rec", f"{name}_test.rec")
        places = _places(folder, files.folder, name)
        if any((place / file).is_file() for place in places for file in known):
            found.append(name)
    return found


def _load_cached(files: CifarFiles, cache: Path) -> tuple[Dataset, Dataset]:
    for place in (cache / files.folder, cache):  # MXNet's own loader unpacks to the latter
        if all((place / file).is_file() for file in files.files):
            return _from_binaries(files, place)
    archive = download(files.url, cache / files.archive, files.md5)
    unpack(archive, files, cache / files.folder)
    return _from_binaries(files, cache / files.folder)


def _places(folder: Path, *likely: str) -> list[Path]:
    """The folder and those one down, the `likely` names first."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"{folder} {problem}: give the folder that holds the data, or none to download it"
        )
    try:
        below = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    except OSError as error:
        raise DataError(
            f"{error.filename} can't be read ({error.strerror}): check rights"
        ) from None
    for place in list(below):
        if not os.access(place, os.R_OK | os.X_OK):
            if place.name in likely:
                raise DataError(f"{place} can't be read: check rights")
            below.remove(place)  # as lost+found, where the folder is a whole disk
    return [folder, *sorted(below, key=lambda place: place.name not in likely)]


def _what_lacks(folder: Path, places: list[Path], name: str, files: CifarFiles) -> str:
    records = (f"{name}_train.rec", f"{name}_test.rec")
    known = (*files.files, files.archive, *records)
    there = {file for file in known if any((place / file).is_file() for place in places)}
    lacks = f"holds no {name}"
    if there & set(files.files):
        lacks = f"lacks {', '.join(file for file in files.files if file not in there)}"
    elif there:
        lacks = f"lacks {', '.join(file for file in records if file not in there)}"
    elif not any(folder.iterdir()):
        lacks = "is empty"
    return (
        f"{folder} {lacks}: put there {files.archive}, its files ({', '.join(files.files)}) or "
        f"{' and '.join(records)}, not the Python or Matlab version; or give no folder to "
        "download it"
    )


def _from_records(files: CifarFiles, train: Path, test: Path) -> tuple[Dataset, Dataset]:
    splits = load_records(train, files.class_names), load_records(test, files.class_names)
    absent = set(range(len(files.class_names))) - set(splits[0].labels.tolist())
    if absent:
        raise DataError(
            f"{train}: no picture of class {min(absent)} ({files.class_names[min(absent)]}); the "
            "file is cut short or belongs to another data set"
        )
    for path, split, published in zip((train, test), splits, (files.train, files.test)):
        expected = sum(count for _, count in published)
        # A subset may be meant, and without an .idx a cut between records shows in nothing else.
        if len(split) != expected:
            _log.warning("%s holds %d of the %d pictures published", path, len(split), expected)
    return splits


def _from_binaries(files: CifarFiles, folder: Path) -> tuple[Dataset, Dataset]:
    contents = {}
    for name in files.files:
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{folder / name} can't be read ({error.strerror}): check rights"
            ) from None
    return _parse(files, contents, folder)


def _from_archive(files: CifarFiles, archive: Path) -> tuple[Dataset, Dataset]:
    if md5_of(archive) != files.md5:
        raise DataError(
            f"{archive}: its MD5 is not {files.md5}, so it is cut short or damaged: download "
            f"{files.url} again"
        )
    return _parse(files, read_members(archive, files), archive)


def unpack(archive: Path, files: CifarFiles, folder: Path) -> None:
    """Writes the picture files of an archive to `folder`, each whole or not at all.

    Raises:
        DataError: the archive is damaged, or the folder can't be written.
    """
    contents = read_members(archive, files)
    try:
        folder.mkdir(exist_ok=True)
        with locked(archive.parent):
            for name, content in contents.items():
                part = folder / f"{name}.part"
                part.write_bytes(content)
                os.replace(part, folder / name)
    except OSError as error:
        raise DataError(
            f"{folder} can't be written ({error}): make room or set MXNET_HOME to a folder that can"
        ) from error


def read_members(archive: Path, files: CifarFiles) -> dict[str, bytes]:
    """Reads the picture files out of an archive; of all else in it nothing is used.

    Returns:
        The contents of each file, by name.

    Raises:
        DataError: the archive is damaged, or lacks one of them as a plain file of its size.
    """
    wanted = {f"{files.folder}/{name}": name for name in files.files}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                if name and member.isreg() and member.size == files.files[name]:
                    contents[name] = tar.extractfile(member).read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive} is damaged ({error}): download {files.url} again") from error
    absent = [name for name in files.files if name not in contents]
    if absent:
        raise DataError(
            f"{archive}: {', '.join(absent)} is not in it with the right size; download "
            f"{files.url} again"
        )
    return contents


def _parse(files: CifarFiles, contents: dict[str, bytes], where: Path) -> tuple[Dataset, Dataset]:
    splits = []
    for names in (files.train, files.test):
        parts = [_parse_file(files, contents[name], where / name) for name, _ in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
        counts = np.bincount(labels, minlength=len(files.class_names))
        if len(set(counts.tolist())) > 1:
            raise DataError(
                f"{where}: the classes of {', '.join(name for name, _ in names)} are not equally "
                "frequent, as they were published, so a file is damaged: unpack the archive again"
            )
        splits.append(Dataset(images, labels, files.class_names))
    return splits[0], splits[1]


def _parse_file(files: CifarFiles, content: bytes, where: Path) -> tuple[np.ndarray, np.ndarray]:
    expected = files.files[where.name]
    if len(content) != expected:
        raise DataError(
            f"{where} has {len(content)} bytes and must have {expected}: it is cut short or "
            "damaged, unpack the archive again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, files.label_bytes + _PIXELS)
    labels = rows[:, files.label_bytes - 1].astype(np.int32)
    check_labels(labels, len(files.class_names), where)
    planes = rows[:, files.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
