"""Muon: Nesterov momentum, of which each weight's step is made orthogonal.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), and its
use on CIFAR-10 with convolutions in "airbench". A gradient's few great directions no longer decide
the step alone, so that a network learns from all of them from the first epochs on.

There it is for hidden layers, with another optimizer for the rest. Here it takes all parameters:
the stem and the classifier as any weight, vectors by steps that change what a layer gives by about
a tenth as much.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx

# Of p(s) = a s + b s^3 + c s^5, which takes singular values from near 0 to near 1 in few turns.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_TURNS = 5
_LEAST_NORM = 1e-12
# With 1 in its place cifar_attention56_thin was 2 points worse after six epochs of CIFAR-10, on
# 5,000 pictures held out of the training set, one run each.
_VECTOR_SHARE = 0.1


def orthogonalized(matrices: mx.nd.NDArray) -> mx.nd.NDArray:
    """Matrices with the same singular vectors, and singular values of about 1 (0.7 to 1.2).

    By Newton-Schulz turns, which are products of matrices alone. Singular values below 0.0015 of
    a matrix's Frobenius norm come out smaller, and 0 stays 0.

    Args:
        matrices: (N, rows, columns).

    Returns:
        (N, rows, columns).
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.swapaxes(1, 2)
    x = mx.nd.broadcast_div(x, mx.nd.norm(x, axis=(1, 2), keepdims=True) + _LEAST_NORM)
    a, b, c = _COEFFICIENTS
    for _ in range(_TURNS):
        # Made of x anew each turn: carried along, its rounding would grow twelvefold a turn.
        gram = mx.nd.batch_dot(x, x, transpose_b=True)
        factor = mx.nd.linalg.gemm(gram, gram, gram, alpha=c, beta=b)
        x = mx.nd.linalg.gemm(factor, x, x, beta=a)
    return x if wide else x.swapaxes(1, 2)


def _steps(directions: mx.nd.NDArray) -> mx.nd.NDArray:
    """Steps of rate 1 from directions, both (N, *shape of a parameter).

    Those of a vector (a bias, a norm's scale or shift) have a root mean square of 0.1. Those of a
    weight (out, ...) are orthogonal as an (out, rest) matrix, of a convolution in groups too, and
    greater where that is high, so that what a weight of any shape gives changes by as much.
    """
    shape = directions.shape
    if len(shape) == 2:
        rms = mx.nd.norm(directions, axis=1, keepdims=True) / math.sqrt(shape[1])
        return mx.nd.broadcast_div(directions * _VECTOR_SHARE, rms + _LEAST_NORM)
    steps = orthogonalized(directions.reshape((*shape[:2], -1)))
    return (steps * math.sqrt(max(1, shape[1] / steps.shape[2]))).reshape(shape)


@mx.optimizer.register
class Muon(mx.optimizer.Optimizer):
    """An optimizer that MXNet's `Trainer` knows as "muon", of float32 parameters.

    The size of gradients takes no part. A rate says how far a step goes: 0.02 to 0.2, whatever the
    loss. Weight decay takes lr * wd of a parameter at each step; 0.02 suits rates of 0.1.

    Args:
        momentum: of the gradients.
        settings: see `mx.optimizer.Optimizer`.

    Raises:
        ValueError: `multi_precision`, or a parameter of another type.
    """

    def __init__(self, momentum: float = 0.9, **settings) -> None:
        super().__init__(**settings)
        if self.multi_precision:
            raise ValueError("Muon has no multi_precision: train float32 parameters")
        self.momentum = momentum
        self.aggregate_num = 2**31 - 1  # parameters of one shape are stepped together

    def create_state(self, index: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        """The momentum of a parameter."""
        if weight.dtype != np.float32:
            raise ValueError(
                "Muon trains float32 parameters: leave casting to the graph, as `fit` does"
            )
        return mx.nd.zeros(weight.shape, weight.context)

    def create_state_multi_precision(self, index: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        """The momentum of a parameter, without MXNet's advice to set `multi_precision`."""
        return self.create_state(index, weight)

    def update(
        self,
        index: int | Sequence[int],
        weight: mx.nd.NDArray | Sequence[mx.nd.NDArray],
        grad: mx.nd.NDArray | Sequence[mx.nd.NDArray],
        state: mx.nd.NDArray | Sequence[mx.nd.NDArray],
    ) -> None:
        """Steps a parameter, or several, in place."""
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        self._update_count(index)
        rates, decays = self._get_lrs(index), self._get_wds(index)
        alike = defaultdict(list)
        for place, array in enumerate(weight):
            alike[array.shape].append(place)
        for places in alike.values():
            gradients = mx.nd.stack(*(grad[i] for i in places)) * self.rescale_grad
            if self.clip_gradient:  # None or 0, as MXNet's own optimizers take it
                gradients = gradients.clip(-self.clip_gradient, self.clip_gradient)
            momenta = mx.nd.stack(*(state[i] for i in places)) * self.momentum + gradients
            steps = _steps(gradients + self.momentum * momenta)
            for i, momentum, step in zip(places, _split(momenta), _split(steps)):
                momentum.copyto(state[i])
                mx.nd.sgd_update(weight[i], step, lr=rates[i], wd=decays[i], out=weight[i])


def _split(stacked: mx.nd.NDArray) -> list[mx.nd.NDArray]:
    parts = mx.nd.split(stacked, num_outputs=len(stacked), axis=0, squeeze_axis=True)
    return parts if isinstance(parts, list) else [parts]
