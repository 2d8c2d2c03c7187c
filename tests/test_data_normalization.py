"""Normalisation against plain float64 arithmetic."""

import json

import numpy as np
import pytest

from gluon_ran.data import DataError, Dataset, Normalization

RNG = np.random.default_rng(1)
IMAGES = (RNG.integers(0, 256, (1500, 6, 5, 3)) * [1.0, 0.5, 0.25]).astype(np.uint8)
DATASET = Dataset(IMAGES, np.zeros(1500, np.int32), ("a",))


def test_channel_moments():
    normalization = Normalization.channel(DATASET)
    pixels = IMAGES.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(normalization.mean, pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normalization.std, pixels.std(axis=0), rtol=1e-6)


def test_per_pixel_moments():
    normalization = Normalization.per_pixel(DATASET)
    mean = IMAGES.mean(axis=0)
    np.testing.assert_allclose(normalization.mean, mean, rtol=1e-6)
    deviation = np.sqrt(((IMAGES - mean) ** 2).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(normalization.std, deviation, rtol=1e-6)


@pytest.mark.parametrize("make", [Normalization.channel, Normalization.per_pixel])
def test_pictures_come_out_as_contiguous_planes(make):
    normalization = make(DATASET)
    planes = normalization(IMAGES)
    assert planes.shape == (1500, 3, 6, 5)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    expected = (IMAGES - normalization.mean.astype(np.float64)) / normalization.std
    np.testing.assert_allclose(planes, expected.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_allclose(planes.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(planes.std(axis=(0, 2, 3)), 1, atol=1e-4)


@pytest.mark.parametrize("make", [Normalization.channel, Normalization.per_pixel])
def test_json_keeps_every_bit(make):
    normalization = make(DATASET)
    again = Normalization.from_json(json.loads(json.dumps(normalization.to_json())))
    assert again.mean.tobytes() == normalization.mean.tobytes()
    assert again.std.tobytes() == normalization.std.tobytes()
    assert again(IMAGES[:3]).tobytes() == normalization(IMAGES[:3]).tobytes()


def test_fill_is_what_becomes_about_zero():
    normalization = Normalization.channel(DATASET)
    planes = normalization(np.broadcast_to(normalization.fill, (1, 6, 5, 3)))
    assert (np.abs(planes[0]) <= 0.51 / normalization.std[:, None, None]).all()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0, 0], [1, 1, 1]),
        ([0, 0, 0], [1, 1]),
        ([0, 0, 0], [1, 0, 1]),
        ([0, 0, float("nan")], [1, 1, 1]),
        ([0, 0, 0], [1, 1, float("inf")]),
        ("mean", [1, 1, 1]),
        ([[0, 0, 0], [0]], [1, 1, 1]),
    ],
)
def test_what_normalises_nothing_fails(mean, std):
    with pytest.raises(DataError, match="normalisation"):
        Normalization(mean, std)


@pytest.mark.parametrize("fields", [{}, {"mean": [0, 0, 0]}, [1], {"mean": 1, "std": 1, "x": 1}])
def test_other_fields_fail(fields):
    with pytest.raises(DataError, match="fields"):
        Normalization.from_json(fields)


def test_pictures_that_are_all_alike_fail():
    with pytest.raises(DataError, match="all alike"):
        Normalization.channel(Dataset(IMAGES[:1] * 0, np.zeros(1, np.int32), ("a",)))


def test_pictures_of_another_kind_fail():
    with pytest.raises(DataError, match="mean picture"):
        Normalization.per_pixel(DATASET)(IMAGES[:, :5])
    with pytest.raises(DataError, match="uint8"):
        Normalization.channel(DATASET)(IMAGES.astype(np.float32))


def test_imagenets_normalisation_is_the_usual_one():
    normalization = Normalization.imagenet()
    assert np.allclose(normalization.mean / 255, [0.485, 0.456, 0.406])
    assert np.allclose(normalization.std / 255, [0.229, 0.224, 0.225])
