"""Tables in files that people write: what lies between two marks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from gluon_ran._files import write_text


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


def add_flags(parser: argparse.ArgumentParser, readme: Path) -> None:
    """Adds the flags of a script that writes tables: --readme, usually `readme`, and --check."""
    parser.add_argument("--readme", type=Path, default=readme)
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")


def update(args: argparse.Namespace, updated: Callable[[str], str]) -> int:
    """Writes a README anew, or with --check only says whether it would; the exit code.

    Args:
        args: see `add_flags`.
        updated: gives the README as it should be from the one that is; a ValueError or an OSError
            of it is told, and nothing is written.
    """
    try:
        old = args.readme.read_text(encoding="utf-8")
        new = updated(old)
        if not args.check:
            write_text(args.readme, new)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.check:
        print("up to date" if new == old else "out of date: run this without --check")
        return int(new != old)
    print(f"written: {args.readme}")
    return 0
