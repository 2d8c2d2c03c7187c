#!/usr/bin/env python3
"""Train a Residual Attention Network on pictures of your own.

They lie in DIR/train/CLASS/ and DIR/test/CLASS/, in DIR/CLASS/ alone (a fifth is then taken for the
test), or in RecordIO files as MXNet's im2rec makes them.

Ctrl-C ends a run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys

import cli


def make_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe."""
    return cli.make_parser(__doc__, dataset=None)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    return cli.main(make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
