"""Where the log "gluon_ran" of a training script goes: the console and the run's train.log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO

import gluon_ran
from gluon_ran.training.monitor import LOG


@contextmanager
def console() -> Iterator[None]:
    """Shows the log on the console, and keeps it for the log file to come."""
    shown, early = logging.StreamHandler(), MemoryHandler(sys.maxsize, sys.maxsize)
    shown.setLevel(logging.INFO)
    before, level, propagate = list(LOG.handlers), LOG.level, LOG.propagate
    LOG.addHandler(shown)
    LOG.addHandler(early)
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    try:
        yield
    finally:
        for handler in set(LOG.handlers) - set(before):
            LOG.removeHandler(handler)
            handler.close()
        LOG.setLevel(level)
        LOG.propagate = propagate


class _LogFile(logging.FileHandler):
    """A log file that a full disk leaves short: the console has each line too."""

    def _open(self) -> TextIO:
        # Names of files need not be text.
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Says nothing, where the standard handler prints a traceback a line."""

    def close(self) -> None:
        """Closes it, whether or not the last lines fit."""
        with suppress(OSError):
            super().close()


def quiet() -> None:
    """Leaves what all workers have to say to the first."""
    for handler in LOG.handlers:
        handler.setLevel(logging.WARNING)


def log_to_file(path: Path) -> None:
    """Appends the log to a file: a line that says that a process starts, and what came so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.setLevel(logging.DEBUG)
    start = ("started: gluon_ran %s, process %d", (gluon_ran.__version__, os.getpid()))
    handler.handle(LOG.makeRecord(LOG.name, logging.INFO, __file__, 0, *start, None))
    for early in [each for each in LOG.handlers if isinstance(each, MemoryHandler)]:
        early.setTarget(handler)
        LOG.removeHandler(early)
        early.close()
    LOG.addHandler(handler)
