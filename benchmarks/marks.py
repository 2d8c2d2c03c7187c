"""Tables in files that people write: what lies between two marks."""

from __future__ import annotations


def between(text: str, begin: str, end: str, new: str) -> str:
    """A text with something new between two marks.

    Raises:
        ValueError: it does not have the marks, each once and in order.
    """
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last or begin in after or end in after:
        raise ValueError(f"the README has no place for the table: {begin} and {end}, each once")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"
