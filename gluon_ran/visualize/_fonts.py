"""Fonts for letters that matplotlib's own font lacks, as of Chinese or Japanese class names."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

_log = logging.getLogger(__name__)


def add_fonts(figure: Any) -> None:
    """Gives the texts of a figure installed fonts for the letters that theirs lack.

    What no installed font has is logged, once a process, and drawn as a box.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        lacking = _lacking(text)
        if lacking:
            text.set_fontfamily([*text.get_fontfamily(), *_families(lacking)])


def _lacking(text: Any) -> frozenset[str]:
    from matplotlib.font_manager import findfont, get_font

    foreign = {letter for letter in text.get_text() if ord(letter) > 127 and letter.isprintable()}
    if not foreign:
        return frozenset()
    font = get_font(findfont(text.get_fontproperties()))
    return frozenset(letter for letter in foreign if not font.get_char_index(ord(letter)))


@lru_cache(maxsize=None)
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Families that together have the letters, as far as any has, those with the most first."""
    from matplotlib.font_manager import fontManager

    # The regular font of a family is the last of its name, and so the one that is looked into.
    fonts = sorted(fontManager.ttflist, key=lambda font: (-_from_regular(font), font.fname))
    paths = {font.name: font.fname for font in fonts}
    found = {name: _has(paths[name], letters) for name in sorted(paths)}
    families, left = [], set(letters)
    while left and found:
        best = max(found, key=lambda name: len(found[name] & left))
        if not found[best] & left:
            break
        families.append(best)
        left -= found[best]
    if left:
        _log.warning(
            "no installed font has the letters %s: boxes are drawn for them; install a font that "
            "has them, as fonts-noto-cjk on Debian for Chinese, Japanese and Korean",
            " ".join(sorted(left)),
        )
    return tuple(families)


def _from_regular(font: Any) -> int:
    from matplotlib.font_manager import weight_dict

    weight = int(weight_dict.get(font.weight, font.weight))
    return abs(weight - 400) + (0 if font.style == "normal" else 1000)


def _has(path: str, letters: frozenset[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    if "LastResort" in path:  # matplotlib's font of boxes, which has them all
        return set()
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # gone since matplotlib listed it, or damaged
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}
