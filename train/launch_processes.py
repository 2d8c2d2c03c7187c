"""Processes that are started together and ended together, here or over ssh."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from launch_tasks import Task

_WATCH = str(Path(__file__).resolve().with_name("launch_watch.py"))
# A remote process ends itself where nothing has come for so long; it hears something this often.
_SILENCE, _BEAT = 60.0, 10.0
_END_SECONDS = 10.0
# What a remote process gets of the launcher's environment.
_PASSED = (
    "PATH", "PYTHON", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "MXNET_", "DMLC_", "PS_", "OMP_", "DNNL_",
    "HOROVOD_", "GLOO_", "NCCL_", "CUDA_", "GLUON_RAN_",
)  # fmt: skip


class Processes:
    """Started processes, whose lines appear with their names before them.

    Attributes:
        ended: gets (name, exit code) of each that ends, and what else a caller puts there.

    Args:
        tasks: what to start.
        ended: the queue.
    """

    def __init__(self, tasks: list[Task], ended: queue.SimpleQueue) -> None:
        self.ended, self._threads = ended, []
        self._running: dict[str, subprocess.Popen] = {}
        # Two locks, since who reads the lines may not, and signals must go on.
        self._lock, self._printing = threading.Lock(), threading.Lock()
        self._last_beat = time.monotonic()
        self._width = max(len(task.name) for task in tasks)
        self._remote = [task.name for task in tasks if task.host.name]
        try:
            for task in tasks:
                self._start(task)
        except BaseException:
            self.end()
            raise

    def _start(self, task: Task) -> None:
        process = subprocess.Popen(
            _command(task),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=None if task.host.name else {**os.environ, **_own(task)},
            start_new_session=True,  # a terminal's Ctrl-C is the launcher's to pass on
        )  # fmt: skip
        self._running[task.name] = process
        streams = (process.stdout, sys.stdout), (process.stderr, sys.stderr)
        copying = [self._thread(self._copy, task.name, *each) for each in streams]
        self._thread(self._wait, task.name, process, copying)

    def _thread(self, target, *args) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _copy(self, name: str, source: IO[bytes], to: IO[str]) -> None:
        with source:
            for line in source:
                text = line.decode(errors="replace").rstrip("\r\n")
                # What can't be shown is read all the same, or the process would wait for ever.
                with self._printing, suppress(OSError, UnicodeError):
                    to.write(f"{name:{self._width}} | {text}\n")
                    to.flush()

    def _wait(self, name: str, process: subprocess.Popen, copying: list[threading.Thread]) -> None:
        code = process.wait()
        for thread in copying:
            thread.join(_END_SECONDS)
        with self._lock:
            # First, so that what no longer runs can be taken from the queue.
            self.ended.put((name, code if code >= 0 else 128 - code))
            self._running.pop(name, None)
            process.stdin.close()

    def signal(self, number: int, names: list[str]) -> None:
        """Sends a signal to the processes of some names that still run."""
        for name in names:
            with self._lock:
                process = self._running.get(name)
                try:
                    if process is not None:
                        os.write(process.stdin.fileno(), b"%d\n" % number)
                except OSError:  # it has just ended
                    pass

    def beat(self) -> None:
        """Lets remote processes know, now and then, that they are still wanted."""
        if time.monotonic() - self._last_beat > _BEAT:
            self._last_beat = time.monotonic()
            self.signal(0, self._remote)

    def running(self) -> list[str]:
        """Names of those that have not ended."""
        return list(self._running)

    def end(self) -> None:
        """Kills what runs, and waits for it."""
        names = self.running()
        left = [process for process in (self._running.get(n) for n in names) if process is not None]
        self.signal(signal.SIGKILL, names)
        deadline = time.monotonic() + _END_SECONDS
        for process in left:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.1))


def _own(task: Task) -> dict[str, str]:
    return {**task.environment, "PYTHONUNBUFFERED": "1"}


def _command(task: Task) -> list[str]:
    """The watched command, through ssh where it runs elsewhere."""
    if not task.host.name:
        return [sys.executable, _WATCH, "0", *task.command]
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    variables = [f"{name}={value}" for name, value in {**passed, **_own(task)}.items()]
    watched = ["env", *variables, sys.executable, _WATCH, str(_SILENCE), *task.command]
    line = f"cd {shlex.quote(os.getcwd())} && exec {' '.join(map(shlex.quote, watched))}"
    settings = ["-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"]
    return ["ssh", *settings, task.host.name, line]
