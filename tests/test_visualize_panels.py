import numpy as np
import pytest

from gluon_ran.visualize._figure import new_figure
from gluon_ran.visualize._panels import add_bar, blend, heat, span_text

GREY = np.full((32, 32, 3), 100, np.uint8)
MAP = np.zeros((4, 4), np.float32)
MAP[1, 2] = 1


@pytest.mark.parametrize("shown", [blend(GREY, MAP, 0.0, 1.0), heat(GREY, MAP - 5, -5.0, -4.0)])
def test_the_colour_is_brightest_where_the_map_is_greatest(shown):
    assert shown.shape == GREY.shape and shown.dtype == np.uint8
    row, column = np.unravel_index(shown.sum(axis=2, dtype=int).argmax(), (32, 32))
    assert (row // 8, column // 8) == (1, 2)


def test_a_map_of_one_value_or_of_none_has_the_middle_colour():
    middle = blend(GREY, MAP * 0 + 3, 2.0, 4.0)
    for value in (0.5, np.nan, np.inf):
        values = np.full((4, 4), value, np.float32)
        assert (blend(GREY, values, value, value) == middle).all()


def test_the_picture_shows_through_a_map_but_not_through_heat():
    picture = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)
    assert (blend(picture, MAP, 0, 1) != blend(GREY, MAP, 0, 1)).any()
    assert (heat(picture, MAP, 0, 1) == heat(GREY, MAP, 0, 1)).all()


@pytest.mark.parametrize("show", [blend, heat])
def test_each_colour_is_on_the_bar(show):
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8).repeat(3, 2)
    shown = show(grey, rng.random((16, 16), np.float32), 0, 1).reshape(-1, 1, 3).astype(int)
    bar = add_bar(new_figure(2, 2), 0, 0, 1, over=show is blend).images[0].get_array()
    assert np.abs(shown - bar.reshape(1, -1, 3)).max(axis=2).min(axis=1).max() <= 4


@pytest.mark.parametrize(
    "low, high, text",
    [
        (0.312, 0.5678, "0.31 to 0.57"),
        (0.4512, 0.4963, "0.451 to 0.496"),
        (-12.3, 4.0, "-12.30 to 4.00"),
        (1.0, 1.0, "1.00 to 1.00"),
        (0.0, 0.0, "0.00 to 0.00"),
        (-1.8735e8, 1.254e9, "-1.87e+08 to 1.25e+09"),
        (0.0, 4.2e-7, "0 to 4.2e-07"),
        (np.nan, np.nan, "nan to nan"),
        (-np.inf, np.inf, "-inf to inf"),
    ],
)
def test_a_span_is_written_with_the_digits_that_tell_its_ends_apart(low, high, text):
    assert span_text(low, high) == text
