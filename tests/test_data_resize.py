import numpy as np
import pytest
from PIL import Image

from gluon_ran.data import DataError, shrink
from gluon_ran.data.resize import resize_rows


def pictures(edge, count=3):
    rng = np.random.default_rng(edge)
    return rng.normal(size=(count, 2, edge, edge)).astype(np.float32)


@pytest.mark.parametrize("source, target", [(32, 16), (32, 24), (32, 8), (40, 33), (7, 1)])
def test_pictures_shrink_as_pillow_shrinks_them(source, target):
    images = pictures(source)
    actual = shrink(images, target)
    assert actual.shape == (3, 2, target, target)
    assert actual.dtype == np.float32
    for planes, shrunk in zip(images, actual):
        for plane, small in zip(planes, shrunk):
            # Pillow's own bilinear filter widens with the scale as well.
            expected = Image.fromarray(plane).resize((target, target), Image.BILINEAR)
            np.testing.assert_allclose(small, np.asarray(expected), atol=2e-6)


def test_a_picture_of_one_colour_stays_so():
    np.testing.assert_allclose(shrink(np.full((1, 3, 32, 32), 7, np.float32), 24), 7, rtol=1e-6)


def test_the_own_size_is_left_as_it_is():
    images = pictures(16)
    assert shrink(images, 16) is images


@pytest.mark.parametrize("shape, edge", [((1, 3, 32, 24), 16), ((1, 3, 16, 16), 24)])
def test_what_cannot_shrink_is_refused(shape, edge):
    with pytest.raises(DataError, match=f"{shape[2]}x{shape[3]} can't shrink to {edge}x{edge}"):
        shrink(np.zeros(shape, np.float32), edge)


@pytest.mark.parametrize("source, target", [(32, 16), (20, 33), (7, 1), (1, 9), (40, 39), (3, 200)])
def test_rows_are_resized_as_pillow_resizes_them(source, target):
    rows = np.random.default_rng(source).normal(size=(source, 6)).astype(np.float32)
    expected = Image.fromarray(rows).resize((6, target), Image.BILINEAR)
    np.testing.assert_allclose(resize_rows(rows, target), np.asarray(expected), atol=2e-6)
    assert resize_rows(rows, source) is rows
