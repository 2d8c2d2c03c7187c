"""Crops and the pictures in them: against Pillow step by step, and by their distribution."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from record_files import encode

from gluon_ran.data import DataError, Normalization, TrainTransform, ValidationTransform

IDENTITY = Normalization([0, 0, 0], [1, 1, 1])
PLAIN = {"brightness": 0, "contrast": 0, "saturation": 0, "lighting": 0}


def smooth(width=50, height=40, seed=0):
    low = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(low).resize((width, height), Image.BICUBIC)


def rendered(transform, encoded, choices, normalization=IDENTITY):
    out = np.full((3, *transform.size), np.nan, np.float32)
    transform(encoded, "here", choices, normalization, out)
    return out


def drawn(transform, count, seed=0):
    return transform.choose(np.random.default_rng(seed), count)


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (33, 90), (64, 64)])
@pytest.mark.parametrize(("crop", "shorter_side"), [(24, None), (32, 40), ((17, 30), 33), (40, 40)])
def test_the_middle_is_that_of_the_resized_picture(size, crop, shorter_side):
    transform = ValidationTransform(crop, shorter_side)
    short, (height, width) = transform.shorter_side, transform.size
    resized_size = [side * short // min(size) for side in size]
    resized = smooth(*size).resize(resized_size, Image.BILINEAR)
    left, top = (resized_size[0] - width) // 2, (resized_size[1] - height) // 2
    expected = np.asarray(resized.crop((left, top, left + width, top + height)))
    got = rendered(transform, encode(smooth(*size), "PNG"), *drawn(transform, 1))
    assert np.abs(got.transpose(1, 2, 0) - expected).max() <= 1


def test_a_picture_of_the_right_size_is_only_cut():
    transform = ValidationTransform(21, shorter_side=40)
    got = rendered(transform, encode(smooth(), "PNG"), None)
    assert np.array_equal(got.transpose(1, 2, 0), np.asarray(smooth())[9:30, 14:35])


def test_the_usual_shorter_sides():
    assert [ValidationTransform(size).shorter_side for size in (224, 320)] == [256, 366]
    assert TrainTransform().size == ValidationTransform().size == (224, 224)


def test_crops_lie_within_and_have_the_area_and_shape_asked_for():
    transform = TrainTransform(area=(0.2, 0.6), aspect=(0.5, 2.0))
    size = (300, 200)
    boxes = np.array([transform.box(size, choices) for choices in drawn(transform, 2000)])
    assert boxes[:, :2].min() == 0 and boxes[:, 2].max() == 300 and boxes[:, 3].max() == 200
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = width * height / 60000, width / height
    assert 0.19 < area.min() < 0.22 and 0.57 < area.max() < 0.61
    assert 0.49 < aspect.min() < 0.52 and 1.95 < aspect.max() < 2.04
    # Where any shape fits in, its logarithm is uniform.
    small = TrainTransform(area=(0.05, 0.1), aspect=(0.5, 2.0))
    boxes = np.array([small.box((400, 400), choices) for choices in drawn(small, 4000)])
    logs = np.log2((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.06)


@pytest.mark.parametrize(("size", "expected"), [((900, 30), (40, 30)), ((30, 900), (30, 40))])
def test_what_no_crop_fits_in_gives_the_largest_in_its_middle(size, expected):
    transform = TrainTransform()
    (choices,) = drawn(transform, 1)
    box = transform.box(size, choices._replace(tries=[[1.0, 0.5]] * 10))
    assert (box[2] - box[0], box[3] - box[1]) == expected
    assert abs(box[0] + box[2] - size[0]) <= 1 and abs(box[1] + box[3] - size[1]) <= 1


def test_every_picture_has_a_crop():
    transform = TrainTransform(8)
    for size in ((1, 1), (1, 500), (500, 1), (2, 3)):
        for choices in drawn(transform, 20):
            left, top, right, bottom = transform.box(size, choices)
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_the_crop_is_resized_and_mirrored_as_pillow_does():
    transform = TrainTransform((20, 16), **PLAIN)
    encoded = encode(smooth(), "PNG")
    seen = set()
    for choices in drawn(transform, 8):
        box = transform.box((50, 40), choices)
        expected = np.asarray(smooth().crop(box).resize((16, 20), Image.BILINEAR), int)
        expected = expected[:, ::-1] if choices.mirrored else expected
        got = rendered(transform, encoded, choices).transpose(1, 2, 0)
        assert np.abs(got - expected).max() < 1
        seen.add(choices.mirrored)
    assert seen == {True, False}


def test_half_are_mirrored_or_none():
    assert not any(each.mirrored for each in drawn(TrainTransform(flip="none"), 100))
    assert 430 < sum(each.mirrored for each in drawn(TrainTransform(), 1000)) < 570


def test_colours_change_as_far_as_told():
    transform = TrainTransform(16, brightness=0.1, contrast=0.2, saturation=0.3, lighting=0.5)
    choices = drawn(transform, 4000)
    factors = np.array([each.factors for each in choices])
    for column, most in zip(factors.T, (0.1, 0.2, 0.3)):
        assert 0.98 * most < np.abs(column - 1).max() <= most and abs(column.mean() - 1) < 0.01
    orders = {tuple(each.order) for each in choices}
    assert len(orders) == math.factorial(3)
    lighting = np.array([each.lighting for each in choices])
    assert abs(lighting.std() / (0.5 * 55.46 / math.sqrt(3)) - 1) < 0.05
    still = drawn(TrainTransform(16, **PLAIN), 1)[0]
    assert still.factors == [1, 1, 1] and not np.any(still.lighting)


def test_colours_are_normalised():
    normalization = Normalization([120, 110, 100], [60, 50, 40])
    encoded = encode(smooth(), "PNG")
    (choices,) = drawn(TrainTransform(16), 1)
    raw = rendered(TrainTransform(16), encoded, choices)
    got = rendered(TrainTransform(16), encoded, choices, normalization)
    expected = (raw.transpose(1, 2, 0) - normalization.mean) / normalization.std
    np.testing.assert_allclose(got.transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize("transform", [TrainTransform(16, **PLAIN), ValidationTransform(16)])
def test_large_jpegs_are_decoded_small_with_nearly_the_same_result(transform, monkeypatch):
    stream = io.BytesIO()
    smooth(1200, 1000).save(stream, "JPEG", quality=95)
    (choices,) = drawn(transform, 1, seed=1)
    small = rendered(transform, stream.getvalue(), choices)
    monkeypatch.setattr("gluon_ran.data.transforms._SPARE", 10**6)
    whole = rendered(transform, stream.getvalue(), choices)
    assert not np.array_equal(small, whole)
    assert np.abs(small - whole).max() < 6


def test_a_small_crop_of_a_large_jpeg_is_decoded_as_large_as_it_needs(monkeypatch):
    """Then nothing is enlarged: the crop still has twice the size that is asked for."""
    decoded = []
    monkeypatch.setattr(
        "gluon_ran.data.transforms.crop_to_width",
        lambda picture, box, width, mirrored: (
            decoded.append(box) or np.zeros((box[3] - box[1], width, 3), np.uint8)
        ),
    )
    stream = io.BytesIO()
    smooth(1200, 1000).save(stream, "JPEG")
    transform = TrainTransform(16, **PLAIN)
    for choices in drawn(transform, 40):
        rendered(transform, stream.getvalue(), choices)
    boxes = np.array(decoded)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 31 <= sides.min() and np.median(sides) < 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"area": (0, 1)}, "area"),
        ({"area": (0.5, 1.1)}, "area is 0.5 to 1.1.*up to 1"),
        ({"aspect": (2, 1)}, "aspect is 2 to 1"),
        ({"flip": "alternating"}, "flip 'alternating' is unknown"),
        ({"saturation": -0.1}, "saturation"),
        ({"lighting": math.nan}, "lighting"),
    ],
)
def test_settings_without_meaning_are_errors(settings, message):
    with pytest.raises(DataError, match=message):
        TrainTransform(**settings)


def test_a_test_crop_must_fit_into_the_shorter_side():
    with pytest.raises(DataError, match="shorter side of 200 pixels has no crop of 224x224"):
        ValidationTransform(224, 200)
    with pytest.raises(DataError, match="size"):
        ValidationTransform(0)
