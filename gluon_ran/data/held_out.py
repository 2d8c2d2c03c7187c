"""A part of the training set to choose hyper-parameters on, so that no test picture takes part."""

from __future__ import annotations

import numpy as np

from gluon_ran.data.dataset import DataError, Dataset

# One split for all runs of a data set, whatever their seed: else choices would see all of it.
_SEED = 1704


def hold_out(dataset: Dataset, count: int, *, in_place: bool = False) -> tuple[Dataset, Dataset]:
    """Splits off `count` pictures, each class by its share: the rest, and those held out.

    Args:
        dataset: the training set.
        count: how many.
        in_place: moves the pictures, where they can be written to, instead of copying them, which
            takes no second memory; `dataset` itself is of no use from then on.

    Raises:
        DataError: one part would be empty.
    """
    if not 0 < count < len(dataset):
        raise DataError(
            f"{count} of {len(dataset)} training pictures can't be held out: both parts need some"
        )
    order = np.random.default_rng(_SEED).permutation(len(dataset))
    labels = dataset.labels[order]
    place = np.empty(len(dataset))  # of a picture within its class, as a share of it
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    chosen = order[np.argsort(place, kind="stable")[:count]]
    rest, chosen = np.setdiff1d(np.arange(len(dataset)), chosen), np.sort(chosen)
    held, labels = dataset.subset(chosen), dataset.labels[rest]
    if not (in_place and dataset.images.flags.writeable):
        return dataset.subset(rest), held
    images = dataset.images
    for new, old in enumerate(rest):  # never behind one that is still to be moved
        images[new] = images[old]
    return Dataset(images[: len(rest)], labels, dataset.class_names), held
