"""The data sets by name."""

from __future__ import annotations

import os

from gluon_ran.data.cifar import CIFAR, load_cifar
from gluon_ran.data.dataset import DataError, Dataset
from gluon_ran.data.digits import load_digits

DATASETS = (*CIFAR, "digits")


def load_dataset(name: str, data_dir: str | os.PathLike | None = None) -> tuple[Dataset, Dataset]:
    """Loads the training and the test split of a data set.

    Args:
        name: one of `DATASETS`.
        data_dir: folder that holds the data; None: MXNet's data folder, downloading what lacks.
            'digits' comes with scikit-learn and takes none.

    Raises:
        DataError: the name is unknown, or the data is missing, damaged or can't be downloaded.
    """
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown: choose from {', '.join(DATASETS)}")
    if name == "digits":
        if data_dir is not None:
            raise DataError(
                f"'digits' comes with scikit-learn, not from {data_dir}: give no folder"
            )
        return load_digits()
    return load_cifar(name, data_dir)
