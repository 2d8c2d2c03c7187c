"""Fonts for letters that matplotlib's own font lacks, as of Chinese or Japanese class names."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
# Categories of Unicode that nothing is drawn for: controls, formats, line and paragraph ends.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_told: set[str] = set()


def add_fonts(figure: Any) -> None:
    """Gives the texts of a figure installed fonts for the letters that theirs lack.

    Letters that no installed font has are logged, each once a process, and drawn as boxes.
    """
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    lacking = {text: _lacking(text) for text in figure.findobj(Text)}
    letters = frozenset().union(*lacking.values())
    if not letters:
        return
    # Fonts can be made known to matplotlib while the process runs.
    families, left = _families(letters, len(fontManager.ttflist))
    _tell(left)
    for text, missing in lacking.items():
        own = text.get_fontfamily()
        if missing:
            text.set_fontfamily([*own, *(name for name in families if name not in own)])


def _lacking(text: Any) -> set[str]:
    from matplotlib.font_manager import findfont

    letters = {letter for letter in text.get_text() if ord(letter) > 127}
    letters = {letter for letter in letters if unicodedata.category(letter) not in _UNSEEN}
    if not letters:
        return letters
    return letters - _has(findfont(text.get_fontproperties()), letters)


@lru_cache(maxsize=None)
def _families(letters: frozenset[str], installed: int) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that together have the letters, those with the most first, and what none has.

    Args:
        letters: what is to be drawn.
        installed: how many fonts there are; more than before are looked through anew.
    """
    from matplotlib.font_manager import fontManager

    # The plainest font of a family is the last of its name, and so the one that is looked into.
    fonts = sorted(fontManager.ttflist, key=lambda font: (-_from_plain(font), font.fname))
    paths = {font.name: font.fname for font in fonts}
    found = {name: _has(paths[name], letters) for name in sorted(paths)}
    families, left = [], set(letters)
    while left and found:
        best = max(found, key=lambda name: len(found[name] & left))
        if not found[best] & left:
            break
        families.append(best)
        left -= found[best]
    return tuple(families), frozenset(left)


def _from_plain(font: Any) -> int:
    """How far from upright, regular and of the usual width a font is."""
    from matplotlib.font_manager import weight_dict

    weight = int(weight_dict.get(font.weight, font.weight))
    narrow = font.stretch not in ("normal", 500)
    return abs(weight - 400) + 1000 * (font.style != "normal") + 1000 * narrow


def _has(path: str, letters: Iterable[str]) -> set[str]:
    """Which of the letters a font file has."""
    from matplotlib.ft2font import FT2Font

    if "LastResort" in Path(path).name:  # matplotlib's font of boxes, which has them all
        return set()
    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):  # gone since matplotlib listed it, or damaged
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}


def _tell(letters: frozenset[str]) -> None:
    new = letters - _told
    if new:
        _told.update(new)
        _log.warning(
            "no installed font has the letters %s: boxes are drawn for them; install a font that "
            "has them, as fonts-noto-cjk on Debian for Chinese, Japanese and Korean",
            " ".join(sorted(new)),
        )
