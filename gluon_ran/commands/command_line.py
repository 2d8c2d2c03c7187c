"""The command line: its parser, where its output goes, and how errors and signals end it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from gluon_ran import __version__
from gluon_ran.commands import convert, export, listing, masks, predict, summarize

INTERRUPTED, CLOSED_PIPE = 130, 141


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m gluon_ran" if as_module else "gluon-ran",
        description="Residual Attention Networks: what there is, what a picture shows, and why.",
        epilog="Results go to stdout, with --json as one JSON document; all else goes to stderr. "
        "Exit codes: 0, 1 for an error, 2 for a wrong command line, 130 behind Ctrl-C, 141 where "
        "nobody reads the results.",
    )
    parser.add_argument("--version", action="version", version=f"gluon_ran {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (listing, summarize, predict, masks, export, convert):
        added = command.add_to(commands)
        added.add_argument("--json", action="store_true", help="print the results as JSON")
        added.set_defaults(run=command.run, parser=added)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code.

    Args:
        argv: the arguments; those of the process if None.
    """
    args = make_parser().parse_args(argv)
    try:
        # What MXNet and its exporters print is no result.
        with redirect_stdout(sys.stderr), warnings.catch_warnings(), _silent_attempts():
            warnings.simplefilter("ignore")
            outcome = args.run(args)
        text = json.dumps(outcome.value, indent=2) if args.json else outcome.text
        try:
            _print(text)
        except OSError as error:
            _leave_stdout()
            if isinstance(error, BrokenPipeError):
                return CLOSED_PIPE  # silently: nobody reads on, as behind `... | head`
            raise OSError(f"the results can't be printed ({error.strerror})") from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, ImportError, ArithmeticError, MemoryError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    for problem in outcome.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if outcome.problems else 0


@contextmanager
def _silent_attempts() -> Iterator[None]:
    """Tells of a download that failed by the error behind its last attempt, not by each of them."""
    log = logging.getLogger("gluon_ran.data.download")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def show_any_name() -> None:
    """Has standard output take names that are no text, or have letters that its encoding lacks."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _print(text: str) -> None:
    show_any_name()
    print(text)
    if sys.stdout is not None:  # as where it was closed ahead of the start
        sys.stdout.flush()


def _leave_stdout() -> None:
    """Has Python, which flushes once more at its end, find a place that takes all."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException) -> str:
    """What an error says, in a line."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})" if str(error) else "not enough memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback"):  # MXNet's own, whose last line says what it is
        lines = lines[-1:]
    return " ".join(lines) or type(error).__name__
