#!/usr/bin/env python3
"""Train a Residual Attention Network on ImageNet, or other pictures that don't fit in memory.

They are streamed from DIR/NAME_train.rec and DIR/NAME_val.rec, as train/pack.py or MXNet's im2rec
makes them, with the .idx beside each and the classes' names in NAME_classes.txt or classes.txt.

Ctrl-C ends a run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys

import cli
from flags import STREAM


def make_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe."""
    return cli.make_parser(__doc__, dataset=STREAM)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    return cli.main(make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
