"""The data sets by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gluon_ran.data.cifar import CIFAR, find_cifar, load_cifar
from gluon_ran.data.dataset import DataError, Dataset
from gluon_ran.data.digits import load_digits
from gluon_ran.data.folder import load_folder
from gluon_ran.data.loading import SPLITS, check_splits
from gluon_ran.data.pictures import checked_size
from gluon_ran.data.record_pairs import find_pairs, load_record_pair

OWN = {"folder": load_folder, "records": load_record_pair}
DATASETS = (*CIFAR, "digits", *OWN)
# Height and width of the pictures of CIFAR and of the digits.
NATIVE = (32, 32)


def load_dataset(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    fit: str | None = None,
    broken: str | None = None,
    splits: Sequence[str] = SPLITS,
) -> tuple[Dataset, ...]:
    """Loads the training and the test split of a data set, or one of them.

    Args:
        name: one of `DATASETS`. 'folder' and 'records' are pictures of your own, see
            `load_folder` and `load_record_pair`.
        data_dir: folder that holds the data; None: MXNet's data folder, downloading what lacks.
            'digits' comes with scikit-learn and takes none; 'folder' and 'records' need one.
        size: side, or height and width, of the pictures of 'folder' and 'records', which need it;
            the others are 32x32.
        fit: how 'folder' and 'records' come to that size; None: 'crop'.
        broken: what happens to broken pictures of 'folder' and 'records'; None: 'refuse'.
        splits: which to give, of 'train' and 'test', in the order that they are given back.

    Raises:
        DataError: the name is unknown, a setting does not fit it, or the data is missing, damaged
            or can't be downloaded.
    """
    check_splits(splits)
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown: choose from {', '.join(DATASETS)}")
    if name in OWN:
        if data_dir is None or size is None:
            raise DataError(f"{name!r} is pictures of your own: give their folder and a size")
        return OWN[name](data_dir, size, fit or "crop", broken or "refuse", splits=splits)
    if (size is not None and checked_size(size) != NATIVE) or fit or broken:
        raise DataError(
            f"the pictures of {name!r} are 32x32 and taken as they are: size, fit and broken are "
            f"for {' and '.join(OWN)}"
        )
    if name == "digits" and data_dir is not None:
        raise DataError(f"'digits' comes with scikit-learn, not from {data_dir}: give no folder")
    both = dict(zip(SPLITS, load_digits() if name == "digits" else load_cifar(name, data_dir)))
    return tuple(both[split] for split in splits)


def find_dataset(data_dir: str | os.PathLike, classes: int | None = None) -> str:
    """The data set that a folder holds: a CIFAR, or pictures of one's own; see `kind_of`.

    Args:
        data_dir: the folder, or FOLDER/NAME of a RecordIO pair.
        classes: which of both CIFARs, where they are there.
    """
    path = Path(data_dir).expanduser()
    found = find_cifar(path) if path.is_dir() else []
    fitting = [name for name in found if len(CIFAR[name].class_names) == classes]
    return (fitting or found or [kind_of(path)])[0]


def kind_of(data_dir: str | os.PathLike) -> str:
    """'records' where there are RecordIO files, else 'folder'."""
    path = Path(data_dir).expanduser()
    return "records" if find_pairs(path) or any(path.glob("*.rec")) else "folder"
