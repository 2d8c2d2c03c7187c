"""A contender of throughput.py in a process of its own; see throughput_protocol.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from throughput_protocol import Engine, parser, serve


def make(arguments: argparse.Namespace) -> Engine:
    """The engine that the command line names; its module imports the libraries."""
    return import_module(arguments.engine).ENGINE(arguments)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the contender from the command line, then answers the parent until it hangs up."""
    serve(make, parser().parse_args(argv))


if __name__ == "__main__":
    main()
