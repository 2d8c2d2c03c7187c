"""Soft targets: smoothing and mixup are functions on them, so that one loss serves all."""

from __future__ import annotations

import numpy as np

from gluon_ran.training.recipe import Recipe

# Keeps mixup's stream of random numbers apart from those of the data set.
_MIXUP_STREAM = 11


def soft_targets(labels: np.ndarray, classes: int, epsilon: float = 0.0) -> np.ndarray:
    """One-hot targets with a share `epsilon` spread evenly over all classes (arXiv 1512.00567).

    Args:
        labels: integers, (N,).
        classes: number of classes.
        epsilon: label smoothing, 0 to 1.

    Returns:
        float32 (N, classes); each row sums to 1.

    Raises:
        ValueError: a label is not from 0 to `classes` - 1.
    """
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()} do not fit a network of {classes} "
            "classes: build it with the data set's number of classes"
        )
    targets = np.full((len(labels), classes), epsilon / classes, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - epsilon
    return targets


def mixup(images: np.ndarray, targets: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """A share `lam` of each picture and its target, the rest of its mirror place in the batch.

    The batch is in random order, so its reverse pairs pictures at random (arXiv 1710.09412). Of
    several workers, each mixes its own part of the batch.

    Args:
        images: float32 (N, C, H, W).
        targets: float32 (N, classes).
        lam: 0 to 1.
    """
    lam = np.float32(lam)
    rest = np.float32(1) - lam
    return lam * images + rest * images[::-1], lam * targets + rest * targets[::-1]


def mixup_lam(recipe: Recipe, epoch: int, step: int) -> float:
    """The share that mixup keeps of each picture at a step, from Beta(alpha, alpha).

    It is 1, which mixes nothing, without mixup and in the last tenth of the epochs.

    Args:
        recipe: says whether and how to mix.
        epoch: from 0.
        step: of the epoch, from 0.
    """
    if not recipe.mixup or 10 * epoch >= 9 * recipe.epochs:
        return 1.0
    rng = np.random.default_rng((_MIXUP_STREAM, recipe.seed, epoch, step))
    return float(rng.beta(recipe.alpha, recipe.alpha))
