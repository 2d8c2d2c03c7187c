"""Runs a command on a leash: `launch_watch.py SECONDS COMMAND...`, as train/launch.py starts it.

Each line of standard input is the number of a signal for the command's process group; 0 is none.
Where standard input ends, as it does when the launcher or its connection does, or where SECONDS go
by without a line (0: never), the group is killed. It needs nothing but Python's own library.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str]) -> int:
    """Runs the command; its exit code, or 128 and the number of the signal that ended it."""
    seconds, command = float(argv[0]), argv[1:]
    parent, libc = os.getpid(), ctypes.CDLL(None)
    # Who signals all processes of a job means the command, which ends in its own time.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ASKING}

    def die_with_parent() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
        )
    except OSError as error:
        print(f"{command[0]} can't be started: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_obey, args=(process.pid, seconds), daemon=True).start()
    code = process.wait()
    _signal(process.pid, signal.SIGKILL)  # what it left running
    return code if code >= 0 else 128 - code


def _obey(group: int, seconds: float) -> None:
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], seconds or None)
        received = os.read(0, 4096) if ready else b""
        if not received:
            _signal(group, signal.SIGKILL)
            return
        *lines, waiting = (waiting + received).split(b"\n")
        for line in lines:
            _signal(group, int(line))


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
