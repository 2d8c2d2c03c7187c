"""Ctrl-C and SIGTERM as a request: the step in hand is finished first."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType

import numpy as np

from gluon_ran.training.distributed import Group

_ECHO_SECONDS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While it is open, the first SIGINT (Ctrl-C) or SIGTERM is noted; a second ends at once.

    Outside the main thread, where Python takes no signals, nothing changes; nor does a signal that
    is ignored already, as Ctrl-C in a background job.

    Attributes:
        signal: the number of the signal that has come; None for none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        # A launcher passes on what a terminal or a batch system may have sent to all as well.
        self._echo = _ECHO_SECONDS if "GLUON_RAN_RANK" in os.environ else 0.0
        self._came = -math.inf
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def agreed(self, group: Group) -> bool:
        """Whether a signal has come to any of the workers, which all call it behind the same step.

        `signal` is then the same for all.
        """
        if group.count > 1:
            came = group.sum(np.array([self.signal == each for each in _SIGNALS], np.float32))
            if not came.any():
                return False
            self.signal = max(number for number, times in zip(_SIGNALS, came) if times)
        return self.requested

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._came = number, time.monotonic()
            if self._echo:
                return
        elif time.monotonic() - self._came < self._echo:
            return
        elif self._echo:
            os._exit(128 + number)
        self._restore()
        # A handler in Python would wait for what MXNet is doing.
        if signal.SIGTERM in self._before:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {n: h for n, h in handlers.items() if h is not signal.SIG_IGN}
            for number in self._before:
                signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
