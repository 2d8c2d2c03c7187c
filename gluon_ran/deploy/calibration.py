"""The ranges of int8: of each layer's outputs, the part whose 8-bit form keeps most information.

MXNet's `calibrate_entropy` looks at every bin of the histogram anew for each range that it tries,
which takes half a second a layer and more. Here sums over bins come from running sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx

# Steps of a range around zero: int8 has 127 on either side; uint8, for outputs that are never
# negative, has 255 on the one side that it uses.
_INT8_LEVELS, _UINT8_LEVELS = 255, 511
# Counts that stand for none where a logarithm is taken.
_NO_COUNT = 1e-4
_BATCH_SIZE = 32
# Ranges that are looked at together: a few megabytes for each array of theirs.
_BLOCK = 512


def histograms(
    symbol: mx.sym.Symbol,
    arguments: Mapping[str, mx.nd.NDArray],
    states: Mapping[str, mx.nd.NDArray],
    pictures: np.ndarray,
    collector: Any,
) -> dict[str, tuple]:
    """What a graph's layers give for pictures.

    Args:
        symbol: a graph of "data" in float32.
        arguments: values of its parameters.
        states: values of its auxiliary states.
        pictures: float32 (N, channels, H, W).
        collector: MXNet's `_LayerHistogramCollector`, as `quantize_graph` returns it.

    Returns:
        Of each layer that the collector wants: counts, edges, least and greatest value, and the
        greatest magnitude.

    Raises:
        ValueError: a layer's outputs are no finite numbers.
    """
    silent: dict[str, tuple] = {}
    size = min(_BATCH_SIZE, len(pictures))
    shapes = {"data": (size, *pictures.shape[1:]), **{n: v.shape for n, v in arguments.items()}}
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
    executor.copy_params_from(arguments, states)
    errors: list[Exception] = []

    def collect(name: bytes, array: Any) -> None:
        try:  # what is raised in a callback is printed and lost
            collector.collect(name, array)
        except Exception as error:
            errors.append(ValueError(f"outputs of layer {name.decode()}: {error}"))

    executor.set_monitor_callback(collect, monitor_all=True)
    for batch in mx.io.NDArrayIter(pictures, batch_size=size):
        executor.forward(is_train=False, data=batch.data[0])
        mx.nd.waitall()
        if errors:
            raise errors[0]
        # A layer without any signal yet has bins of no width, which nothing can be added to.
        for name in [n for n, found in collector.hist_dict.items() if not found[-1]]:
            silent[name] = collector.hist_dict.pop(name)
    return {**silent, **collector.hist_dict}


def output_range(histogram: tuple) -> tuple[float, float]:
    """The range of a layer's outputs that int8, or uint8 where none is negative, is to span.

    Args:
        histogram: of `histograms`.
    """
    counts, edges, least, _, _ = histogram
    positive = least >= 0
    levels = _UINT8_LEVELS if positive else _INT8_LEVELS
    bins, losses = entropy_losses(counts, levels)
    threshold = float(edges[len(counts) // 2 + 1 + bins[np.argmin(losses)]])
    return (0.0 if positive else -threshold), threshold


def entropy_losses(counts: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """What a histogram's distribution loses by each range around its middle that `levels` may span.

    A range clips what lies outside to its outermost bins, and then merges its bins into `levels`
    equal steps, of which each spreads its count evenly over its bins that are not empty. The loss
    is the Kullback-Leibler divergence of this from the clipped distribution (Migacz, "8-bit
    inference with TensorRT", 2017).

    Args:
        counts: of an odd number of equal bins around zero, at least `levels`.
        levels: an odd number.

    Returns:
        Bins on either side of the middle that a range has, (M,); its loss, (M,), infinite where no
        count lies within.
    """
    counts = np.asarray(counts, np.float64)
    sums = _Sums(counts, _running(counts), _running(_x_log_x(counts)), _running(counts > 0))
    bins = np.arange(levels // 2, len(counts) // 2 + 1)
    blocks = (bins[i : i + _BLOCK] for i in range(0, len(bins), _BLOCK))
    return bins, np.concatenate([_losses(sums, block, levels) for block in blocks])


class _Sums(NamedTuple):
    """A histogram, and running sums of its counts n, of n log n, and of its bins with counts."""

    counts: np.ndarray
    below: np.ndarray
    entropy: np.ndarray
    filled: np.ndarray


def _losses(sums: _Sums, bins: np.ndarray, levels: int) -> np.ndarray:
    """The losses by some ranges; see `entropy_losses`."""
    counts, below, entropy, filled = sums
    middle = len(counts) // 2
    starts, stops = middle - bins, middle + bins + 1
    left, right = below[starts], below[-1] - below[stops]
    # Where the steps of each range begin; the last one takes what is left over.
    width = (2 * bins + 1) // levels
    places = starts[:, None] + width[:, None] * np.arange(levels + 1)
    places[:, -1] = stops
    merged, spread = np.diff(below[places]), np.diff(filled[places])
    clipped = merged.copy()
    own = entropy[stops] - entropy[starts]
    for side, place, outside in ((0, starts, left), (-1, stops - 1, right)):
        clipped[:, side] += outside
        spread[:, side] += (counts[place] == 0) & (outside > 0)
        own += _x_log_x(counts[place] + outside) - _x_log_x(counts[place])
    even = np.maximum(merged / np.maximum(spread, 1), _NO_COUNT)
    # Both are normalised: the clipped one has all counts, the merged one those within the range.
    total, within = below[-1], merged.sum(1)
    cross = (clipped * np.log(even)).sum(1)
    losses = (own - cross) / total + np.log(np.maximum(within, 1) / total)
    return np.where(within > 0, losses, np.inf)


def _running(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... values."""
    return np.concatenate([[0], np.cumsum(values)])


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.maximum(x, 1))
