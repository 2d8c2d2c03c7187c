import base64
import io

import numpy as np
import pytest
from PIL import Image

from gluon_ran.visualize.report import Html, details, figures, join, page, picture, table, tag


def embedded(html):
    data = html.partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def save(path, pixels, **more):
    Image.fromarray(pixels).save(path, **more)
    return path


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert tag("a", "x", href='"><script>', class_="c") == (
        '<a href="&quot;&gt;&lt;script&gt;" class="c">x</a>'
    )
    assert join("<", Html("<br>")) == "&lt;<br>"
    assert details("<s>", "<t>").count("&lt;") == 2
    assert figures(tag("i", "x")) == '<div class="figures"><i>x</i></div>'


def test_a_picture_of_few_colours_is_embedded_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 6, (40, 60, 3), np.uint8) * 50
    path = save(tmp_path / "a.png", pixels, dpi=(20, 20))
    html = picture(path, 'an "alt" < text', "below")
    np.testing.assert_array_equal(embedded(html), pixels)
    assert 'alt="an &quot;alt&quot; &lt; text"' in html and "<figcaption>below</figcaption>" in html
    assert 'width="312" height="208"' in html  # 3 inches by 2
    assert "wide" not in html


def test_areas_and_thin_lines_keep_their_colours(tmp_path):
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[:100, :, 0] = np.arange(300) % 256
    pixels[:100, :, 1] = np.arange(100)[:, None]
    pixels[150:, :] = 242  # a pale area
    pixels[160, 10:40] = (0, 158, 115)
    found = embedded(picture(save(tmp_path / "a.png", pixels), "alt")).astype(int)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 256
    np.testing.assert_array_equal(found[100:], pixels[100:])
    assert np.abs(found - pixels).max() < 30


def test_a_large_picture_is_shrunk_and_scrolls(tmp_path):
    path = save(tmp_path / "a.png", np.full((100, 3000, 3), 200, np.uint8), dpi=(200, 200))
    html = picture(path, "alt")
    assert embedded(html).shape == (50, 1500, 3) and '<div class="wide">' in html


def test_a_table_has_its_heads_groups_and_caption():
    groups = [("", 1), ("ours", 2), ("theirs", 1)]
    html = table(["a", "b", "c", "d"], [["x", "1", "2", "<"]], "below", groups, 3, [1])
    assert (
        '<th scope="row">x</th><td class="text">1</td><td>2</td><td class="apart">&lt;</td>' in html
    )
    assert '<th colspan="2" scope="colgroup">ours</th>' in html
    assert '<th colspan="1" scope="colgroup" class="apart">theirs</th>' in html
    assert html.index("</table>") < html.index("<figcaption>below")


def test_a_page_is_whole_or_not_there(tmp_path):
    page("a < b", [tag("p", "one"), "two & three"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        text.startswith('<!DOCTYPE html>\n<html lang="en">') and "<title>a &lt; b</title>" in text
    )
    assert "<p>one</p>\ntwo &amp; three</main>" in text and 'name="viewport"' in text
    with pytest.raises(OSError, match="elsewhere"):
        page("a", [], tmp_path / "elsewhere" / "page.html")
