"""Writes the tables of results/ into benchmarks/README.md, each between its two marks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import scaling_lines
import throughput_report
from marks import between
from provenance import RESULTS, ROOT

TABLES = {"throughput": throughput_report.markdown, "scaling": scaling_lines.table}


def marks(name: str) -> tuple[str, str]:
    """What stands before and behind a table."""
    return f"<!-- benchmarks/readme_tables.py: {name} -->", f"<!-- end of {name} -->"


def updated(readme: str, results: Path) -> str:
    """A README with the tables of all results that are there.

    Raises:
        ValueError: it does not have the marks of one, or a result is not JSON.
        OSError: a result can't be read.
    """
    for name, render in TABLES.items():
        path = results / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            readme = between(readme, *marks(name), render(result))
    return readme


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the results")
    parser.add_argument("--readme", type=Path, default=ROOT / "benchmarks" / "README.md")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    args = parser.parse_args(argv)
    try:
        old = args.readme.read_text(encoding="utf-8")
        new = updated(old, args.results)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.check:
        print("up to date" if new == old else "out of date: run this without --check")
        return int(new != old)
    args.readme.write_text(new, encoding="utf-8")
    print(f"written: {args.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
