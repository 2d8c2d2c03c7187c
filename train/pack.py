#!/usr/bin/env python3
"""Pack a folder of pictures, one folder a class, into a RecordIO file to train from.

Writes OUT.rec, OUT.idx and the names of the classes beside it: NAME_classes.txt for NAME_train.rec
and NAME_val.rec. Each file is written whole or not at all.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from types import TracebackType

from ends import ERRORS, INTERRUPTED, TERMINATED, Terminated, error_text, termination_raises

from gluon_ran.commands.command_line import show_any_name
from gluon_ran.data import DataError, RecordFile, pack_folder
from gluon_ran.data.loading import BROKEN

_LINE_SECONDS = 20.0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="holds one folder a class")
    add("rec", metavar="OUT.rec", help="file to write, as imagenet_train.rec or imagenet_val.rec")
    add("--shorter-side", type=int, metavar="N",
        help="pictures whose shorter side has more pixels shrink to it, as to 256 or, to score at "
        "320, to 366 (default: they stay as they are)")  # fmt: skip
    add("--quality", type=int, default=95, metavar="Q",
        help="of the JPEGs that are made anew, 1 to 95 (default: 95)")  # fmt: skip
    add("--broken", choices=BROKEN, default=BROKEN[0],
        help="skip leaves out pictures that can't be decoded and names them "
        "(default: refuse)")  # fmt: skip
    add("--threads", type=int, metavar="N",
        help="how many decode and encode (default: one a core)")  # fmt: skip
    return parser


class Progress:
    """Shows how many pictures are packed: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self.done = self.count = 0
        self._bar, self._last_line = None, time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        """Takes up that so many are done."""
        if not self.done and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=count, unit="picture", leave=False)
        self.done, self.count = done, count
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            print(f"{done:,} of {count:,} pictures", file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def pack(args: argparse.Namespace) -> None:
    """Packs as the flags say, and says what was packed.

    Raises:
        DataError, OSError: what is wrong with the pictures, or with the place to write to.
    """
    if args.threads is not None and args.threads < 1:
        raise DataError(f"--threads {args.threads}: give at least 1")
    with Progress() as progress:
        count = pack_folder(
            args.folder, args.rec, shorter_side=args.shorter_side, quality=args.quality,
            broken=args.broken, threads=args.threads, progress=progress,
        )  # fmt: skip
    records = RecordFile(args.rec)
    left_out = f", {progress.count - count:,} left out" if progress.count > count else ""
    size = records.path.stat().st_size / 2**20
    print(f"packed {count:,} pictures of {len(records.class_names)} classes to {records.path} "
          f"({size:,.1f} MiB){left_out}")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    logging.basicConfig(level="INFO", format="%(message)s")
    show_any_name()
    try:
        with termination_raises():
            pack(args)
    except KeyboardInterrupt as interrupt:
        print("interrupted; files that were not finished are as they were", file=sys.stderr)
        return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED
    except ERRORS as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
