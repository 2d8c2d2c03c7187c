"""The processes of throughput.py's contenders, and the turns that they take."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from answering import AnsweringProcess
from throughput_contenders import Entrant
from turns import say, take_turns


class Obstacle(RuntimeError):
    """Why a contender can't take part; the others go on without it."""


class Worker:
    """A contender's process, ready to be timed.

    Args:
        entrant: what it computes.
        torch_python: the Python that has PyTorch.
        reference: folder of the network to start from.
        warmup: batches behind the first, ahead of any timing, which pay for memory and kernels.

    Attributes:
        description: what the process says of itself.

    Raises:
        Obstacle: it can't take part.
        RuntimeError: the process ended; its own message is on standard error.
    """

    def __init__(
        self,
        entrant: Entrant,
        torch_python: Path | None = None,
        reference: Path | None = None,
        warmup: int = 1,
    ) -> None:
        command = entrant.command(torch_python, reference, warmup)
        self._process = AnsweringProcess(str(entrant), command, entrant.environment())
        self.description = self._process.greeting
        if "obstacle" in self.description:
            self.close()
            raise Obstacle(self.description["obstacle"])

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, batches: int) -> list[float]:
        """Seconds that so many batches take: an entry for all, or, in inference, for each.

        Raises:
            RuntimeError: the process ended.
        """
        return self._process.ask(batches)["seconds"]

    def close(self) -> None:
        """Ends the process: first kindly."""
        self._process.close()


# Of a training step on 64 pictures of 32x32, see `Contender.cost`.
_FULL_COST = 64.0


class Turns(NamedTuple):
    """How the contenders take turns.

    Attributes:
        rounds: turns of each.
        steps: batches of a turn; cheap ones more, see `batches_of`.
        warmup: batches of each ahead of its first turn.
        torch_python: the Python that has PyTorch.
    """

    rounds: int
    steps: int
    warmup: int
    torch_python: Path | None = None

    def batches_of(self, entrant: Entrant) -> int:
        """Batches of a turn: of cheap ones more, at most ten times, so that turns take alike."""
        return self.steps * max(1, min(10, int(_FULL_COST / entrant.cost)))


class Timings(NamedTuple):
    """What one contender did.

    Attributes:
        entrant: the contender.
        description: what its process said of itself.
        batches: of a turn.
        seconds: of each turn, see `Worker.run`.
    """

    entrant: Entrant
    description: dict[str, Any]
    batches: int
    seconds: list[list[float]]


def interleave(
    entrants: Sequence[Entrant], turns: Turns, reference: Path | None
) -> tuple[list[Timings], list[tuple[Entrant, str]]]:
    """Lets contenders take turns.

    All stay alive, and a turn is a few batches, so that what else the machine does hits all alike;
    two never compute at once.

    Args:
        entrants: who takes part.
        turns: how.
        reference: folder of the network that they start from.

    Returns:
        The timings, and who could not take part and why.

    Raises:
        RuntimeError: a contender's process ended.
    """
    with ExitStack() as stack:
        present, absent = [], []
        for entrant in entrants:
            say(f"building {entrant}")
            try:
                worker = Worker(entrant, turns.torch_python, reference, turns.warmup)
            except Obstacle as obstacle:
                absent.append((entrant, str(obstacle)))
            else:
                present.append((entrant, stack.enter_context(worker)))
        runs = [partial(worker.run, turns.batches_of(entrant)) for entrant, worker in present]
        seconds = take_turns(runs, turns.rounds)
        return [
            Timings(entrant, worker.description, turns.batches_of(entrant), mine)
            for (entrant, worker), mine in zip(present, seconds)
        ], absent


def make_reference(model: str, folder: Path, onnx: bool) -> Path:
    """Has the network written that contenders start from and are compared with.

    Args:
        model: gluon_ran's name of the network.
        folder: where to make its folder.
        onnx: write its ONNX file too.

    Raises:
        RuntimeError: the process that writes it failed; its own message is on standard error.
    """
    reference = folder / (f"{model} with ONNX" if onnx else model)
    if not reference.exists():
        say(f"writing the reference of {model}")
        reference.mkdir()
        script = Path(__file__).with_name("throughput_reference.py")
        command = [sys.executable, str(script), model, str(reference), *(["onnx"] if onnx else [])]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            raise RuntimeError(f"no reference of {model} could be written: see the message above")
    return reference
