"""gluon_ran.visualize._fonts: letters that the usual font lacks are drawn by one that has them."""

import logging
from functools import lru_cache

import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from gluon_ran.visualize import _fonts
from gluon_ran.visualize._figure import as_array, new_figure

# Of the fonts that come with matplotlib STIXGeneral has the one, DejaVu Serif the other, and
# DejaVu Sans, the usual one, neither.
STIX, SERIF = "ℊ", "\u1d15"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing told or looked up before."""
    monkeypatch.setattr(_fonts, "_told", set())
    monkeypatch.setattr(_fonts, "_families", lru_cache(None)(_fonts._families.__wrapped__))


@pytest.fixture
def only(monkeypatch):
    """Has no fonts installed but those of some families."""
    every = list(fontManager.ttflist)

    def only(*names):
        fonts = [font for font in every if font.name in names]
        monkeypatch.setattr(fontManager, "ttflist", fonts)

    return only


def drawn(*texts):
    """The families of each text of a figure that has been drawn, and its pixels."""
    figure = new_figure(2, 1)
    for place, text in enumerate(texts):
        figure.text(0, place / len(texts), text, parse_math=False)
    pixels = as_array(figure)
    families = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    return [families[text] for text in texts], pixels


def test_a_lacking_letter_gets_a_font_that_has_it(only):
    only("DejaVu Sans")
    (usual,), boxes = drawn(f"a {STIX}")
    only("DejaVu Sans", "STIXGeneral", "cmr10")
    plain, lacking = drawn("a", f"a {STIX}")[0]
    assert plain == usual and lacking == [*usual, "STIXGeneral"]
    assert not np.array_equal(drawn(f"a {STIX}")[1], boxes)


def test_all_texts_of_a_figure_are_looked_up_once(only, monkeypatch):
    only("DejaVu Sans", "STIXGeneral", "DejaVu Serif")
    looked, real = [], _fonts._families
    monkeypatch.setattr(_fonts, "_families", lambda *given: looked.append(1) or real(*given))
    usual, one, other = drawn("a", STIX, SERIF)[0]
    assert set(one) == set(other) == {*usual, "STIXGeneral", "DejaVu Serif"}
    assert len(looked) == 1


def test_a_figure_that_is_drawn_again_gets_no_more_fonts(only):
    only("DejaVu Sans", "STIXGeneral")
    figure = new_figure(2, 1)
    text = figure.text(0, 0, STIX)
    as_array(figure)
    families = text.get_fontfamily()
    as_array(figure)
    assert text.get_fontfamily() == families


def test_letters_that_no_font_has_are_told_once(only, caplog):
    only("DejaVu Sans")
    with caplog.at_level(logging.WARNING):
        drawn(f"a {STIX}")
        drawn(f"b {STIX}", "c")
        assert [f"the letters {STIX}:" in record.message for record in caplog.records] == [True]
        drawn(f"{STIX}{SERIF}")
    assert f"the letters {SERIF}:" in caplog.records[1].message and len(caplog.records) == 2


@pytest.mark.parametrize("text", ["क", "ש", "\u3000"])
def test_what_can_not_be_drawn_is_no_warning_of_matplotlibs(only, caplog, text):
    only("cmr10")
    figure = new_figure(2, 1)
    figure.text(0, 0, text, fontfamily="cmr10")
    as_array(figure)
    assert "no installed font has" in caplog.text


def test_a_font_that_is_added_is_found(only):
    only("DejaVu Sans")
    (usual,) = drawn(STIX)[0]
    only("DejaVu Sans", "STIXGeneral")
    assert drawn(STIX)[0] == [[*usual, "STIXGeneral"]]


def test_usual_letters_look_for_no_font(monkeypatch):
    monkeypatch.setattr(_fonts, "_families", lambda *given: pytest.fail("it looked"))
    drawn("Häuser, ‘x’ – 5 µm\u200d")


def test_a_font_that_is_gone_or_damaged_is_passed_over(only, tmp_path, monkeypatch):
    only("STIXGeneral")
    (tmp_path / "damaged.ttf").write_bytes(b"none")
    whole = list(fontManager.ttflist)
    for name in ("damaged.ttf", "gone.ttf"):
        entry = type(whole[0])(fname=str(tmp_path / name), name="a", style="normal")
        monkeypatch.setattr(fontManager, "ttflist", [entry, *whole])
        _fonts._families.cache_clear()
        assert _fonts._families(frozenset(STIX), 1) == (("STIXGeneral",), frozenset())
