"""Muon against its definition, written out in NumPy; on arrays that are made here."""

import warnings

import numpy as np
import pytest
from small import net, train_batches, validation_batches

from gluon_ran.training import Recipe, fit
from gluon_ran.training.muon import Muon, orthogonalized

import mxnet as mx

SHAPES = ((6, 4, 1, 1), (6, 4, 1, 1), (4, 3, 3, 3), (5, 8), (7,), (7,), (1,))
LR, WD, MOMENTUM = 0.03, 0.5, 0.8


def drawn(seed, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def updated(weights, gradients, **settings):
    """What an updater of all parameters makes of some weights, step by step."""
    optimizer = Muon(learning_rate=LR, momentum=MOMENTUM, wd=WD, **settings)
    updater = mx.optimizer.get_updater(optimizer)
    arrays = [mx.nd.array(w) for w in weights]
    for step in gradients:
        updater(list(range(len(arrays))), [mx.nd.array(g) for g in step], arrays)
    return [array.asnumpy() for array in arrays]


def polynomial_of_singular_values(matrix):
    """The turns of Newton and Schulz, on the singular values themselves, in float64."""
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ vt


def defined(weight, gradients, wd=WD):
    """The same of one parameter, by the definition."""
    weight, momentum = weight.astype(np.float64), 0.0
    for gradient in gradients:
        momentum = MOMENTUM * momentum + gradient
        direction = gradient + MOMENTUM * momentum
        if weight.ndim == 1:
            step = 0.1 * direction / np.sqrt((direction**2).mean())
        else:
            rows = direction.reshape(len(direction), -1)
            step = polynomial_of_singular_values(rows) * max(1, np.divide(*rows.shape)) ** 0.5
        weight = (1 - LR * wd) * weight - LR * step.reshape(weight.shape)
    return weight


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 9, 9)])
def test_orthogonalized_matrices_keep_singular_vectors_and_lose_singular_values(shape):
    matrices = drawn(1, [shape])[0]
    for before, after in zip(matrices, orthogonalized(mx.nd.array(matrices)).asnumpy()):
        u, s, vt = np.linalg.svd(before, full_matrices=False)
        core = u.T @ after @ vt.T
        assert 0.6 < core.diagonal().min() and core.diagonal().max() < 1.25
        assert np.abs(core - np.diag(core.diagonal())).max() < 1e-4
        assert s.max() / s.min() > 2


def with_singular_values(values, shape, seed):
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((shape[0], len(values))))[0]
    v = np.linalg.qr(rng.standard_normal((shape[1], len(values))))[0]
    return (u * values @ v.T).astype(np.float32)


@pytest.mark.parametrize(
    "values, shape",
    [
        ([5.0], (16, 144)),
        ([1e-3] * 10, (64, 576)),
        (np.logspace(0, -5, 64), (64, 576)),
        (np.logspace(0, -5, 64), (256, 64)),
        (np.logspace(3, 0, 128), (128, 128)),
    ],
)
def test_matrices_of_low_rank_or_of_unlike_singular_values_follow_the_definition(values, shape):
    matrix = with_singular_values(np.array(values), shape, seed=4)
    result = orthogonalized(mx.nd.array(matrix[None])).asnumpy()[0]
    assert result == pytest.approx(polynomial_of_singular_values(matrix), abs=2e-4)


def test_steps_are_those_of_the_definition():
    weights, gradients = drawn(0), [drawn(seed) for seed in (1, 2, 3)]
    for i, result in enumerate(updated(weights, gradients)):
        expected = defined(weights[i], [step[i] for step in gradients])
        assert result == pytest.approx(expected, abs=2e-5), SHAPES[i]


def test_the_size_of_the_gradients_takes_no_part():
    weights, gradients = drawn(0), [drawn(1), drawn(2)]
    expected = updated(weights, gradients)
    for factor in (1e-6, 1e6):
        scaled = [[factor * g for g in step] for step in gradients]
        for a, b in zip(updated(weights, scaled), expected):
            assert a == pytest.approx(b, abs=1e-5)
        for a, b in zip(updated(weights, gradients, rescale_grad=factor), expected):
            assert a == pytest.approx(b, abs=1e-5)


def test_where_no_gradient_came_yet_the_decay_alone_moves():
    weights = drawn(0)
    results = updated(weights, [[np.zeros_like(w) for w in weights]])
    for before, after in zip(weights, results):
        assert after == pytest.approx((1 - LR * WD) * before, rel=1e-6)


def test_clipped_gradients_are_clipped_ahead_of_the_momentum():
    weights, gradients = drawn(0), [drawn(1), drawn(2)]
    clipped = [[np.clip(g, -0.5, 0.5) for g in step] for step in gradients]
    larger = [[10 * g for g in step] for step in gradients]
    results = updated(weights, larger, rescale_grad=0.1, clip_gradient=0.5)
    for a, b in zip(results, updated(weights, clipped)):
        assert a == pytest.approx(b, abs=1e-6)
    unclipped = updated(weights, gradients, clip_gradient=0)
    for a, b in zip(unclipped, updated(weights, gradients)):
        assert np.array_equal(a, b)


def test_hundreds_of_parameters_of_one_shape_are_each_stepped():
    shapes = [(7,)] * 600 + [(4, 3, 1, 1)] * 300
    weights, gradients = drawn(0, shapes), [drawn(1, shapes), drawn(2, shapes)]
    for i, result in enumerate(updated(weights, gradients)):
        expected = defined(weights[i], [step[i] for step in gradients])
        assert result == pytest.approx(expected, abs=2e-5), i


def test_a_lone_parameter_is_stepped_as_among_others():
    weights, gradients = drawn(0), drawn(1)
    optimizer = mx.optimizer.create("muon", learning_rate=LR, momentum=MOMENTUM, wd=WD)
    assert isinstance(optimizer, Muon)
    expected = updated(weights, [gradients])
    for i, weight in enumerate(weights):
        array = mx.nd.array(weight)
        optimizer.update(i, array, mx.nd.array(gradients[i]), optimizer.create_state(i, array))
        assert array.asnumpy() == pytest.approx(expected[i], abs=1e-6)


def test_other_than_float32_is_refused():
    half = mx.nd.zeros((2, 2), dtype="float16")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="float32 parameters: leave"):
        warnings.simplefilter("error")
        mx.optimizer.get_updater(Muon())([0], [half], [half])
    with pytest.raises(ValueError, match="no multi_precision"):
        Muon(multi_precision=True)


def test_parameters_keep_their_own_rates_and_decays():
    weights, gradients = drawn(0), [drawn(1)]
    optimizer = Muon(learning_rate=LR, momentum=MOMENTUM, wd=WD)
    optimizer.set_lr_mult({1: 0.0})
    optimizer.set_wd_mult({0: 0.0})
    arrays = [mx.nd.array(w) for w in weights]
    mx.optimizer.get_updater(optimizer)(
        list(range(len(arrays))), [mx.nd.array(g) for g in gradients[0]], arrays
    )
    assert np.array_equal(arrays[1].asnumpy(), weights[1])
    assert arrays[0].asnumpy() == pytest.approx(defined(weights[0], [gradients[0][0]], 0), abs=1e-5)
    assert arrays[2].asnumpy() == pytest.approx(defined(weights[2], [gradients[0][2]]), abs=1e-5)


def test_a_network_learns_by_it():
    recipe = Recipe(
        name="muon", source="tests", epochs=6, batch_size=8, optimizer="muon", lr=0.05, wd=0.02,
        lr_mode="cosine", seed=5,
    )  # fmt: skip
    history = fit(
        net(zero_init=True), recipe, train_batches(recipe), validation_batches(), classes=3,
        progress=False,
    )  # fmt: skip
    assert history.epochs[-1].val_top1 == 1.0
    assert history.epochs[-1].train_loss < 0.5 * history.epochs[0].train_loss
