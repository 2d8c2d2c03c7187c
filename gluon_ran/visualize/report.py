"""Pages of results: one HTML file that asks for nothing else, and reads on paper and on a phone.

What is put together from `Html` stays as it is; every other text is escaped.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_PER_INCH = 104  # CSS pixels an inch of a figure: its 7 points are read as 10 pixels
_NARROW = 4  # inches up to which a figure can be read on a phone
_COLOURS = 256
_WIDEST = 1500  # pixels of an embedded figure

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem 1.1rem 4rem; max-width: 76rem; background: #fff; color: #222;
  font: 1.05rem/1.55 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.5rem; margin: 3.5rem 0 0.8rem; padding-top: 0.8rem; border-top: 2px solid #222; }
h3 { font-size: 1.2rem; margin: 2.6rem 0 0.4rem; }
p, li { max-width: 42rem; }
a { color: #00558a; }
code { font: 0.85em/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.source, figcaption { color: #555; font-size: 0.92rem; line-height: 1.45; }
.nowrap { white-space: nowrap; }
.warning { border-left: 4px solid #d55e00; background: #fdf4ee; padding: 0.6rem 0.9rem;
  max-width: 40rem; }
.scroll { overflow-x: auto; background: linear-gradient(to right, #fff 30%, #fff0) 0 0,
  linear-gradient(to left, #fff 30%, #fff0) 100% 0,
  linear-gradient(to right, #0003, #0000) 0 0, linear-gradient(to left, #0003, #0000) 100% 0;
  background-repeat: no-repeat; background-size: 2.5rem 100%, 2.5rem 100%, 0.8rem 100%, 0.8rem 100%;
  background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: 0.95rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; border-bottom: 1.5px solid #222; }
th, td { padding: 0.32rem 0.75rem; text-align: right; }
th { font-weight: 600; vertical-align: bottom; }
thead th { min-width: 3.7rem; }
td { white-space: nowrap; vertical-align: baseline; }
th[scope="colgroup"] { text-align: left; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0.1rem; white-space: normal;
  min-width: 8.5rem; }
tbody th { font-weight: 400; vertical-align: baseline; }
thead { border-top: 1.5px solid #222; border-bottom: 1px solid #222; }
tbody tr + tr { border-top: 1px solid #e4e4e4; }
.apart { min-width: 6.5rem; border-left: 3px double #222; background: #0000000a; color: #555; }
td.text, th.text { text-align: left; white-space: normal; min-width: 12rem; }
td.text code { display: block; min-width: 28rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
figure { margin: 1.2rem 0; max-width: 100%; }
.figures figure { margin: 0.8rem 0; }
.figures figcaption { max-width: 22rem; }
img { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide img { max-width: max(100%, 40rem); }
figcaption { padding-top: 0.4rem; max-width: 42rem; }
summary { cursor: pointer; padding: 0.35rem 0; }
@media (max-width: 34rem) { th, td { padding: 0.32rem 0.4rem; }
  th:first-child { min-width: 7rem; } h2 { margin-top: 2.5rem; } }
@media print { .scroll { overflow: visible; background: none; }
  details > summary { list-style: none; } h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; } }
"""


class Html(str):
    """Markup, which is not escaped again."""


def tag(name: str, *children: str, **attributes: str | int) -> Html:
    """An element; the `_` at the end of an attribute's name, as in `class_`, goes.

    Args:
        name: of the element.
        children: text, which is escaped, or `Html`.
        attributes: whose values are escaped.
    """
    given = "".join(f' {k.rstrip("_")}="{escape(str(v))}"' for k, v in attributes.items())
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Text, which is escaped, and `Html`, one behind the other."""
    return Html("".join(c if isinstance(c, Html) else escape(c) for c in children))


def picture(path: str | os.PathLike[str], alt: str, caption: str = "") -> Html:
    """A figure with a PNG inside the page, in 256 colours and of at most 1,500 pixels across.

    It is shown at the size that its dots an inch ask for, and no wider than the screen; one that
    could then not be read on a phone scrolls by itself.

    Args:
        path: the PNG.
        alt: what it shows, for those who can't see it.
        caption: beneath it.

    Raises:
        OSError: it can't be read.
    """
    from PIL import Image

    with Image.open(path) as image:
        inches = [edge / image.info.get("dpi", (200, 200))[0] for edge in image.size]
        small = image.convert("RGB")
    if small.width > _WIDEST:
        small = small.resize((_WIDEST, round(_WIDEST * small.height / small.width)), Image.LANCZOS)
    buffer = io.BytesIO()
    _indexed(np.asarray(small)).save(buffer, "png", optimize=True)
    data = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(_PER_INCH * edge) for edge in inches)
    shown = Html(f'<img src="{data}" alt="{escape(alt)}" width="{width}" height="{height}">')
    if inches[0] > _NARROW:
        shown = tag("div", shown, class_="wide")
    return tag("figure", shown, *([tag("figcaption", caption)] if caption else []))


def _indexed(pixels: np.ndarray) -> Image.Image:
    """A picture in its own colours, or in the 256 that are next to all of them.

    Half of these are its most frequent ones, so that areas stay as they are; each further one is
    the colour that is farthest from those before it, so that thin lines do too. Pillow's ways mix
    the one or tint the other.
    """
    from PIL import Image

    packed = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    chosen = list(np.argsort(-counts, kind="stable")[: _COLOURS // 2])
    distance, nearest = np.full(len(found), np.iinfo(np.int64).max), np.zeros(len(found), np.uint8)
    for number in range(min(_COLOURS, len(found))):
        if number == len(chosen):
            chosen.append(int(np.argmax(distance)))
        here = ((colours - colours[chosen[number]]) ** 2).sum(axis=1)
        nearest[here < distance] = number
        distance = np.minimum(distance, here)
    image = Image.fromarray(nearest[inverse].reshape(pixels.shape[:2]), "P")
    image.putpalette(colours[chosen].astype(np.uint8).tobytes())
    return image


def figures(*children: Html) -> Html:
    """Pictures side by side, as many as there is room for."""
    return tag("div", *children, class_="figures")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    groups: Sequence[tuple[str, int]] = (),
    apart: int | None = None,
    text: Sequence[int] = (),
) -> Html:
    """A table that scrolls by itself where the screen is narrow; the first column names its rows.

    Args:
        head: one text a column.
        rows: the same of each row.
        caption: beneath it.
        groups: texts above the columns' heads, each with the number of its columns.
        apart: the column from which on a line and another colour set the columns apart.
        text: columns with text rather than numbers.
    """

    def style(column: int, group: bool = False) -> dict[str, str]:
        names = ["apart"] if apart is not None and column >= apart else []
        names += ["text"] if column in text and not group else []
        return {"class_": " ".join(names)} if names else {}

    heads = [tag("tr", *(tag("th", c, scope="col", **style(i)) for i, c in enumerate(head)))]
    if groups:
        starts = [sum(count for _, count in groups[:i]) for i in range(len(groups))]
        cells = [
            tag("th", name, colspan=count, scope="colgroup", **style(start, group=True))
            for (name, count), start in zip(groups, starts)
        ]
        heads.insert(0, tag("tr", *cells))
    body = [
        tag("tr", tag("th", row[0], scope="row", **style(0)),
            *(tag("td", cell, **style(i)) for i, cell in enumerate(row[1:], 1)))
        for row in rows
    ]  # fmt: skip
    whole = tag("table", tag("thead", *heads), tag("tbody", *body))
    # Not a caption of the table's own, which would scroll with it.
    below = [tag("figcaption", caption)] if caption else []
    return tag("figure", tag("div", whole, class_="scroll"), *below)


def details(summary: str, *children: str) -> Html:
    """What opens on a click."""
    return tag("details", tag("summary", summary), *children)


def page(title: str, body: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes a page, at once or not at all.

    Raises:
        OSError: the folder is not there or can't be written.
    """
    from gluon_ran._files import write_text

    head = join(
        Html('<meta charset="utf-8">\n'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
        tag("title", title),
        Html(f"\n<style>{_STYLE}</style>"),
    )
    main = tag("main", Html("\n".join(join(each) for each in body)))
    whole = Html(f'<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{main}\n</body>\n</html>\n')
    write_text(Path(path), f"<!DOCTYPE html>\n{whole}")
