"""Jitter and lighting against plain step-by-step arithmetic in float64."""

import itertools

import numpy as np
import pytest

from gluon_ran.data import Normalization
from gluon_ran.data.colour import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    jitter_map,
    lighting_shift,
    recolour,
)
from gluon_ran.data.resize import resize_rows

RNG = np.random.default_rng(5)
NORMALIZATION = Normalization([120.0, 110.0, 100.0], [60.0, 55.0, 50.0])
NONE = ((1.0, 1.0, 1.0), (0, 1, 2), (0.0, 0.0, 0.0))


def grey(picture):
    return picture @ np.array([0.299, 0.587, 0.114])


def step_by_step(picture, factors, order):
    for which in order:
        factor = factors[which]
        other = {
            BRIGHTNESS: np.zeros(1),
            CONTRAST: grey(picture).mean(keepdims=True)[..., None],
            SATURATION: grey(picture)[..., None],
        }[which]
        picture = factor * picture + (1 - factor) * other
    return picture


# 17,600 pixels: more than are worked on at a time.
@pytest.mark.parametrize("shape", [(5, 7), (110, 160), (1, 1)])
def test_the_map_is_what_its_steps_are(shape):
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    for order in itertools.permutations(range(3)):
        factors, lighting = RNG.uniform(0.5, 1.5, 3), RNG.normal(0, 9, 3)
        out = np.empty((3, *shape), np.float32)
        recolour(pixels, factors, order, lighting, NORMALIZATION, out)
        expected = step_by_step(pixels.astype(np.float64), factors, order) + lighting
        expected = (expected - NORMALIZATION.mean) / NORMALIZATION.std
        np.testing.assert_allclose(out, expected.transpose(2, 0, 1), atol=2e-5)


def test_factors_of_one_only_normalise():
    pixels = RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    out = np.empty((3, 9, 8), np.float32)
    recolour(pixels, *NONE, NORMALIZATION, out)
    np.testing.assert_allclose(out, NORMALIZATION(pixels[None])[0], atol=1e-6)


def test_rows_are_brought_to_the_height_and_colours_with_them():
    pixels = RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    factors, order, lighting = [1.2, 0.8, 1.1], [2, 0, 1], [3.0, 0.0, -2.0]
    for height in (1, 6, 20):
        out = np.empty((3, height, 8), np.float32)
        recolour(pixels, factors, order, lighting, NORMALIZATION, out)
        before = np.empty((3, 9, 8), np.float32)
        recolour(pixels, factors, order, lighting, NORMALIZATION, before)
        expected = resize_rows(before.transpose(1, 0, 2).reshape(9, -1), height)
        expected = expected.reshape(height, 3, 8).transpose(1, 0, 2)
        np.testing.assert_allclose(out, expected, atol=2e-5)


def test_each_factor_changes_what_it_is_called_after():
    picture = RNG.uniform(0, 255, (50, 3))
    mean = grey(picture).mean()

    def changed(which, factor):
        factors = [1.0, 1.0, 1.0]
        factors[which] = factor
        matrix, shift = jitter_map(factors, (0, 1, 2), mean)
        return picture @ matrix.T + shift

    assert not changed(BRIGHTNESS, 0).any()
    np.testing.assert_allclose(changed(CONTRAST, 0), mean)
    np.testing.assert_allclose(changed(SATURATION, 0), np.repeat(grey(picture)[:, None], 3, 1))
    for which, kept in ((CONTRAST, mean), (SATURATION, grey(picture))):
        np.testing.assert_allclose(grey(changed(which, 1.7)).mean(), np.mean(kept))


def test_lighting_has_imagenets_covariance():
    """Its columns are orthogonal, the first nearly grey, as natural light changes."""
    columns = lighting_shift(np.eye(3))
    product = columns @ columns.T
    np.testing.assert_allclose(product, np.diag(np.diag(product)), atol=0.2)
    np.testing.assert_allclose(np.linalg.norm(columns, axis=1), [55.46, 4.794, 1.148], rtol=1e-3)
    assert np.abs(columns[0] / columns[0].mean() - 1).max() < 0.02
    assert lighting_shift(np.zeros((4, 3))).tolist() == [[0, 0, 0]] * 4
