"""How a script ends that a signal asks to: in order, with an exit code that tells which."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gluon_ran.commands.command_line import one_line

import mxnet as mx

# What ends a script by a line that says what is wrong. All else is a defect, and has its traceback.
ERRORS = (ValueError, OSError, ArithmeticError, RuntimeError, ImportError, MemoryError)
# Exit codes: behind Ctrl-C, and behind SIGTERM or a hang-up (EX_TEMPFAIL: start it again).
INTERRUPTED, TERMINATED = 130, 75


class Terminated(KeyboardInterrupt):
    """SIGTERM, or the hang-up of a lost terminal."""


def error_text(error: BaseException) -> str:
    """What an error says; of MXNet's and Python's own, which may go on for pages, in a line."""
    foreign = isinstance(error, (mx.base.MXNetError, ImportError, MemoryError))
    return one_line(error) if foreign else str(error)


@contextmanager
def termination_raises() -> Iterator[None]:
    """Has these signals end what goes on as Ctrl-C does, where they can be taken.

    What is ignored stays so, as nohup's hang-up.

    Raises:
        Terminated: one came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        for each in before:  # one that comes again must not end the ending
            signal.signal(each, signal.SIG_IGN)
        raise Terminated

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {number: was for number, was in before.items() if was is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, take)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
