"""How good a network is on a data set: top-1, top-5, loss and confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training.distributed import ALONE, Group

import mxnet as mx
from mxnet.gluon import HybridBlock


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a network is.

    Attributes:
        count: number of pictures.
        loss: mean cross-entropy, in nats.
        top1: share of the pictures whose class has the highest score.
        top5: share whose class is among the five highest (or all, where there are fewer).
        confusion: int64 (classes, classes), pictures of the row's class taken for the column's.
    """

    count: int
    loss: float
    top1: float
    top5: float
    confusion: np.ndarray

    @property
    def per_class(self) -> np.ndarray:
        """Top-1 accuracy of each class, (classes,); NaN where a class has no pictures."""
        totals = self.confusion.sum(axis=1)
        hits = np.diag(self.confusion)
        return np.divide(hits, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def evaluate(
    net: HybridBlock,
    batches: Iterable,
    contexts: Sequence[mx.Context] = (),
    flip: bool = False,
    group: Group = ALONE,
) -> Evaluation:
    """Scores a network on the batches of one pass.

    Args:
        net: an initialised network.
        batches: (images, labels) in NumPy, float32 (N, C, H, W) and integers (N,).
        contexts: devices; the CPU if none is given.
        flip: average the probabilities of each picture and its mirror image.
        group: workers that score the same network, each on batches of its own; all get the score
            of all batches.

    Raises:
        ValueError: there are no batches, or a label is not one of the network's classes.
    """
    contexts = list(contexts) or [mx.cpu()]
    loss = top1 = top5 = 0.0
    confusion = None
    for images, labels in batches:
        log_p = log_probabilities(net, images, contexts, flip)
        classes = log_p.shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"labels from {labels.min()} to {labels.max()} do not fit a network of {classes} "
                "classes: evaluate on the data set that it was trained for"
            )
        if confusion is None:
            confusion = np.zeros((classes, classes), np.int64)
        scores = log_p[np.arange(len(labels)), labels]
        loss -= float(scores.sum(dtype=np.float64))
        predicted = log_p.argmax(axis=1)
        np.add.at(confusion, (labels, predicted), 1)
        top1 += int(((predicted == labels) & np.isfinite(scores)).sum())
        top5 += int(_among_best(log_p, labels, 5).sum())
    if confusion is None:
        raise ValueError("there are no batches to evaluate on")
    if group.count > 1:
        sums = group.sum(np.array([loss, top1, top5, *confusion.ravel()], np.float32))
        loss, top1, top5 = sums[:3].tolist()
        confusion = sums[3:].reshape(confusion.shape).astype(np.int64)
    count = int(confusion.sum())
    return Evaluation(count, loss / count, top1 / count, top5 / count, confusion)


def log_probabilities(
    net: HybridBlock, images: np.ndarray, contexts: Sequence[mx.Context], flip: bool = False
) -> np.ndarray:
    """Log-probabilities (N, classes) of pictures (N, C, H, W), shared out over the devices.

    Args:
        net: an initialised network.
        images: float32.
        contexts: at least one device.
        flip: average the probabilities of each picture and its mirror image.
    """
    log_p = _log_softmax(net, images, contexts)
    if not flip:
        return log_p
    mirrored = _log_softmax(net, np.ascontiguousarray(images[..., ::-1]), contexts)
    return np.logaddexp(log_p, mirrored) - np.float32(np.log(2))


def _log_softmax(
    net: HybridBlock, images: np.ndarray, contexts: Sequence[mx.Context]
) -> np.ndarray:
    outputs = [mx.nd.log_softmax(net(shard)) for shard in shards(images, contexts)]
    return np.concatenate([output.asnumpy() for output in outputs])


def shards(array: np.ndarray, contexts: Sequence[mx.Context]) -> Iterator[mx.nd.NDArray]:
    """Parts of an array, as even as they can be, on each device; none where no row is left."""
    for part, context in zip(np.array_split(array, len(contexts)), contexts):
        if len(part):
            yield mx.nd.array(part, ctx=context, dtype=array.dtype)


def _among_best(log_p: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether fewer than k classes score higher than the label's, which what is no number does."""
    own = log_p[np.arange(len(labels)), labels][:, None]
    return (~(log_p <= own)).sum(axis=1) < k
