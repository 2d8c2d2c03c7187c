"""Ctrl-C, SIGTERM and a lost terminal as a request: the step in hand is finished first."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType

import numpy as np

from gluon_ran.training.distributed import Group

# Within so long a signal that comes again is the one before.
ECHO_SECONDS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While it is open, the first SIGINT (Ctrl-C) or SIGTERM is noted; a second ends at once.

    The hang-up of a lost terminal counts as SIGTERM, and never as a second signal: its shell and
    the system may both tell it.

    Outside the main thread, where Python takes no signals, nothing changes; nor does a signal that
    is ignored already, as Ctrl-C in a background job or nohup's hang-up.

    Attributes:
        signal: the number of the signal that has come, SIGINT or SIGTERM; None for none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        # Whoever started it passes on what a terminal or a batch system may have sent to all.
        passed_on = {"GLUON_RAN_RANK", "GLUON_RAN_PASSED_ON"} & os.environ.keys()
        self._echo = ECHO_SECONDS if passed_on else 0.0
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
        self._restore(*_SIGNALS)
        # A handler in Python would wait for what MXNet is doing.
        if signal.SIGTERM in self._before:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self._take(signal.SIGTERM, frame)

    def _restore(self, *numbers: int) -> None:
        for number in self._before.keys() & numbers:
            signal.signal(number, self._before[number])

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            handlers = {n: signal.getsignal(n) for n in (*_SIGNALS, signal.SIGHUP)}
            self._before = {n: h for n, h in handlers.items() if h is not signal.SIG_IGN}
            for number in self._before:
                signal.signal(number, self._hang_up if number == signal.SIGHUP else self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(*self._before)
