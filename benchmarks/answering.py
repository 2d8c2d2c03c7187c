"""A process that answers each line of its input, and its own start, with a line of JSON."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any


class AnsweringProcess:
    """The process, and what it said when it was ready.

    Args:
        name: for messages.
        command: what to run.
        environment: its variables.

    Attributes:
        greeting: its first answer.

    Raises:
        RuntimeError: the process ended; its own message is on standard error.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = name
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.greeting = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, line: object) -> dict[str, Any]:
        """The answer to a line.

        Raises:
            RuntimeError: the process ended.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            print(line, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self._name} ended: {self._why()}")
        return json.loads(line)

    def _why(self) -> str:
        if self._process.wait(timeout=30) == -signal.SIGKILL:
            return (
                "it was killed, as the system does where memory is short; contenders are in memory "
                "together, so choose smaller batches or fewer of them"
            )
        return "see its message above"

    def close(self) -> int:
        """Ends the process, first kindly; its exit status."""
        try:
            self._process.communicate(timeout=30)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.communicate()
        return self._process.returncode
