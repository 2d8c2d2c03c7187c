"""Ctrl-C as a request: the step in hand is finished first."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """While it is open, the first Ctrl-C only sets `requested`; a second one interrupts at once.

    Outside the main thread, where Python takes no signals, and where Ctrl-C is ignored already, as
    in a background job, nothing changes.

    Attributes:
        requested: whether Ctrl-C has been pressed.
    """

    def __init__(self) -> None:
        self.requested = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._before)

    def __enter__(self) -> StopRequest:
        self._before = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        self._active = in_main and self._before is not signal.SIG_IGN
        if self._active:
            signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._before)
