"""gluon_ran.visualize._fonts: letters that the usual font lacks are drawn by one that has them."""

import logging
import warnings

import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from gluon_ran.visualize import _fonts
from gluon_ran.visualize._figure import as_array, new_figure, set_title

# Of the fonts that come with matplotlib STIXGeneral has it, and DejaVu Sans, the usual one, not.
LETTER = "ℊ"


@pytest.fixture(autouse=True)
def fresh():
    _fonts._families.cache_clear()
    yield
    _fonts._families.cache_clear()


@pytest.fixture
def only(monkeypatch):
    """Has no fonts installed but those of some families."""

    def only(*names):
        fonts = [font for font in fontManager.ttflist if font.name in names]
        monkeypatch.setattr(fontManager, "ttflist", fonts)

    return only


def titled(text):
    figure = new_figure(2, 1)
    ax = figure.add_subplot()
    set_title(ax, text, 4)
    (title,) = (found for found in figure.findobj(Text) if found.get_text() == text)
    return figure, title


def test_a_lacking_letter_gets_a_font_that_has_it(only):
    only("DejaVu Sans", "STIXGeneral", "cmr10")
    figure, title = titled(f"a {LETTER}")
    usual = title.get_fontfamily()
    drawn = as_array(figure)
    assert title.get_fontfamily() == [*usual, "STIXGeneral"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a glyph that is missing
        figure.canvas.draw()
    only("DejaVu Sans")
    _fonts._families.cache_clear()
    assert not np.array_equal(drawn, as_array(titled(f"a {LETTER}")[0]))


def test_letters_of_several_fonts_get_them_all(only):
    only("DejaVu Sans", "STIXGeneral", "DejaVu Serif")
    figure, title = titled(f"{LETTER}\u1d15")
    usual = title.get_fontfamily()
    as_array(figure)
    assert set(title.get_fontfamily()) == {*usual, "STIXGeneral", "DejaVu Serif"}


def test_what_no_font_has_is_told_once(only, caplog):
    only("DejaVu Sans")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            as_array(titled(f"a {LETTER}")[0])
    (record,) = caplog.records
    assert f"the letters {LETTER}:" in record.message and "install a font" in record.message


def test_usual_letters_look_for_no_font(only, monkeypatch):
    monkeypatch.setattr(_fonts, "_families", lambda letters: pytest.fail("it looked"))
    figure, title = titled("Häuser, ‘x’ – 5 µm\u200d")
    usual = title.get_fontfamily()
    as_array(figure)
    assert title.get_fontfamily() == usual


def test_a_font_that_is_gone_or_damaged_is_passed_over(only, tmp_path, monkeypatch):
    only("STIXGeneral")
    (tmp_path / "damaged.ttf").write_bytes(b"none")
    whole = list(fontManager.ttflist)
    for name in ("damaged.ttf", "gone.ttf"):
        entry = type(whole[0])(fname=str(tmp_path / name), name="a", style="normal")
        monkeypatch.setattr(fontManager, "ttflist", [entry, *whole])
        _fonts._families.cache_clear()
        assert _fonts._families(frozenset(LETTER)) == ("STIXGeneral",)
