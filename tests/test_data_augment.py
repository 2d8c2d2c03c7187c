"""Whole-batch augmentation against one picture at a time."""

import numpy as np
import pytest

from gluon_ran.data import Augmentation, DataError, augment
from gluon_ran.data.augment import crop, cut_out, pad, rotate

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 9, 11, 3), dtype=np.uint8)
FILL = np.array([7, 8, 9], np.uint8)
STILL = Augmentation(crop_padding=0, flip="none")


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("mode", ["reflect", "zero"])
def test_pad_and_crop_equal_one_picture_at_a_time(mode):
    tops, lefts = rng().integers(0, 7, (2, len(IMAGES)))
    batch = crop(pad(IMAGES, 3, mode, FILL), tops, lefts, (9, 11))
    for picture, top, left, got in zip(IMAGES, tops, lefts, batch):
        for row in range(9):
            for column in range(11):
                y, x = row + top - 3, column + left - 3
                if mode == "reflect":
                    expected = picture[8 - abs(8 - abs(y)), 10 - abs(10 - abs(x))]
                else:
                    expected = picture[y, x] if 0 <= y < 9 and 0 <= x < 11 else FILL
                assert np.array_equal(got[row, column], expected)


def test_cut_out_is_a_square_around_its_centre():
    images = IMAGES.copy()
    rows, columns = np.arange(16) % 9, np.arange(16) % 11
    cut_out(images, rows, columns, 4, FILL)
    for before, after, row, column in zip(IMAGES, images, rows, columns):
        expected = before.copy()
        expected[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = FILL
        assert np.array_equal(after, expected)


def test_rotation_by_right_angles_is_exact():
    squares = IMAGES[:, :9, :9]
    for turns in (-2, -1, 0, 1, 2):
        turned = rotate(squares, np.full(16, 90.0 * turns))
        assert np.array_equal(turned, np.rot90(squares, turns, axes=(1, 2)))


def test_rotation_equals_one_pixel_at_a_time():
    angle = 23.0
    turned = rotate(IMAGES, np.full(16, angle))
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    for row in range(9):
        for column in range(11):
            y = np.clip(cosine * (row - 4) + sine * (column - 5) + 4, 0, 8)
            x = np.clip(cosine * (column - 5) - sine * (row - 4) + 5, 0, 10)
            corners = [
                IMAGES[:, min(int(y) + i, 8), min(int(x) + j, 10)]
                * ((y % 1 if i else 1 - y % 1) * (x % 1 if j else 1 - x % 1))
                for i in (0, 1)
                for j in (0, 1)
            ]
            assert np.abs(turned[:, row, column] - sum(corners)).max() <= 0.51


def test_a_pixel_turns_anticlockwise():
    images = np.zeros((1, 9, 9, 3), np.uint8)
    images[0, 4, 8] = 200
    assert rotate(images, np.array([90.0]))[0, 0, 4].tolist() == [200] * 3


def test_nothing_to_do_gives_a_new_equal_array():
    varied = augment(IMAGES, STILL, rng())
    assert np.array_equal(varied, IMAGES)
    assert not np.shares_memory(varied, IMAGES)


def test_augment_leaves_its_input_and_repeats_with_its_generator():
    settings = Augmentation(crop_padding=2, cutout=3, rotation=20)
    before = IMAGES.copy()
    first, second = (augment(IMAGES, settings, rng(), fill=FILL) for _ in range(2))
    assert np.array_equal(IMAGES, before)
    assert np.array_equal(first, second)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, augment(IMAGES, settings, np.random.default_rng(6), fill=FILL))


def test_random_flip_exchanges_about_half_and_only_whole_pictures():
    many = np.repeat(IMAGES[:1], 2000, axis=0)
    flipped = augment(many, Augmentation(crop_padding=0, flip="random"), rng())
    same = (flipped == many).all(axis=(1, 2, 3))
    mirrored = (flipped == many[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_alternating_flip_does_as_told():
    settings = Augmentation(crop_padding=0, flip="alternating")
    told = np.arange(16) % 3 == 0
    flipped = augment(IMAGES, settings, rng(), flipped=told)
    assert np.array_equal(flipped[told], IMAGES[told, :, ::-1])
    assert np.array_equal(flipped[~told], IMAGES[~told])
    with pytest.raises(DataError, match="flipped"):
        augment(IMAGES, settings, rng())


def test_random_crop_reaches_every_shift_and_no_other():
    ramp = np.zeros((4000, 5, 5, 3), np.uint8)
    ramp[..., 0] = np.arange(5)[:, None] * 5 + np.arange(5) + 1
    cropped = augment(ramp, Augmentation(crop_padding=1, crop_mode="zero", flip="none"), rng())
    middles, counts = np.unique(cropped[:, 2, 2, 0], return_counts=True)
    assert middles.tolist() == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    assert counts.min() > 4000 / 9 * 0.8


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_mode": "edge"},
        {"flip": "vertical"},
        {"crop_padding": -1},
        {"crop_padding": 1.5},
        {"cutout": -2},
        {"rotation": -1},
        {"rotation": float("nan")},
    ],
)
def test_settings_without_meaning_fail(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        Augmentation(**settings)


def test_a_border_too_wide_to_mirror_fails():
    with pytest.raises(DataError, match="too wide"):
        augment(IMAGES, Augmentation(crop_padding=9), rng())
