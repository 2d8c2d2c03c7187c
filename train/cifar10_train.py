#!/usr/bin/env python3
"""Train a Residual Attention Network on CIFAR-10, or on another data set by --dataset.

Ctrl-C ends a run; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys

import cli


def make_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the recipe."""
    return cli.make_parser(__doc__, dataset="cifar10")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    return cli.main(make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
