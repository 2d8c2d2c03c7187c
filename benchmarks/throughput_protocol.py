"""What a contender of throughput.py does in a process of its own, and how it answers.

Standard input brings a number of batches a line; standard output answers each line, and the start,
with a line of JSON. The process ends when its input does. Standard library alone, since contenders
live in different environments.
"""

from __future__ import annotations

import abc
import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

# Variables that may change the speed, and so belong to the result.
_PREFIXES = (
    "MXNET_EXEC_", "MXNET_CPU_", "MXNET_ENGINE_", "MXNET_MKLDNN_", "MXNET_BACKWARD_",
    "OMP_", "GOMP_", "KMP_", "DNNL_", "ONEDNN_", "MALLOC_", "GLIBC_", "THP_", "LD_PRELOAD",
)  # fmt: skip


class Obstacle(RuntimeError):
    """Why a contender can't take part here; the others go on without it."""


class Engine(abc.ABC):
    """A contender; each kind of library has its own subclass.

    Making one loads the libraries, `build` and all behind it are what is timed.

    Args:
        arguments: see `parser`.

    Attributes:
        start: made by `build`; starts a batch, and need not wait for its end; gives what `number`
            takes.
    """

    start: Callable[[], Any]

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments

    @abc.abstractmethod
    def build(self) -> None:
        """Makes everything that the first batch needs, and `start`."""

    def wait(self) -> None:  # noqa: B027  (nothing to wait for unless a library computes behind)
        """Returns when nothing is left to compute."""

    @abc.abstractmethod
    def number(self, started: Any) -> float:
        """A number that tells whether a batch went well, by being finite: a loss, or a score."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What belongs to the result: versions, parameters, shape of a batch."""

    def check(self) -> dict[str, float]:
        """Compares with the reference; the differences, relative to the greatest value.

        Raises:
            RuntimeError: this contender computes something else.
        """
        return {}


def timed(engine: Engine, batches: int) -> dict[str, Any]:
    """Seconds that so many batches take, from an idle engine to an idle engine.

    A training step may start before the one before it has ended, as it may in a training loop, so
    `seconds` has one entry for all. In inference somebody waits for each batch: an entry each.

    Raises:
        RuntimeError: the last batch's number is not finite, so that nothing of use was timed.
    """
    together = batches if engine.arguments.job == "training" else 1
    seconds = []
    engine.wait()
    for _ in range(batches // together):
        begin = time.perf_counter()
        for _ in range(together):
            last = engine.start()
        engine.wait()
        seconds.append(time.perf_counter() - begin)
    number = engine.number(last)
    if not math.isfinite(number):
        raise RuntimeError(f"a batch ended with {number}: this contender does not compute")
    return {"seconds": seconds, "number": number}


def answers(
    make: Callable[[argparse.Namespace], Engine], arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """What to tell the parent: first the contender itself, warmed up, then each timing.

    Args:
        make: loads the libraries and makes the engine.
        arguments: see `parser`.
    """
    begin = time.perf_counter()
    engine = make(arguments)
    loaded = time.perf_counter()
    engine.build()
    last = engine.start()
    engine.wait()
    costs = {
        "import_seconds": loaded - begin,
        "first_batch_seconds": time.perf_counter() - loaded,
        "first_batch_number": engine.number(last),
    }
    timed(engine, arguments.warmup)
    costs["peak_memory_mib"] = peak_memory()  # ahead of the comparison, which needs memory too
    yield {
        **engine.describe(),
        **costs,
        "differences": engine.check(),
        "environment": environment(),
    }
    for line in sys.stdin:
        yield timed(engine, int(line))


def peak_memory() -> float | None:
    """The most memory that this process ever had, in MiB; None where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, and of Python."""
    # Not __version__: that of gluoncv 0.10.5.post0 says 0.11.0.
    found = {package: metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}


def environment() -> dict[str, str]:
    """The variables that may change the speed."""
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIXES)}


def parser() -> argparse.ArgumentParser:
    """The command line of a worker."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = line.add_argument
    add("engine", help="the module that has the engine, as a class called ENGINE")
    add("job", choices=("training", "inference", "product"))
    add("form", help="what the engine makes of the network")
    add("--model", help="name of the network")
    add("--reference", type=Path, help="the folder that throughput_reference.py wrote")
    add("--batch-size", type=int, default=1, help="pictures a batch")
    add("--size", type=int, nargs=2, help="height and width of the pictures, in pixels")
    add("--warmup", type=int, default=1, help="batches behind the first, ahead of any timing")
    return line


def serve(make: Callable[[argparse.Namespace], Engine], arguments: argparse.Namespace) -> None:
    """Answers the parent until it hangs up; an obstacle is an answer too."""
    # What a library prints must not get among the answers.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            for answer in answers(make, arguments):
                print(json.dumps(answer), file=channel, flush=True)
        except Obstacle as obstacle:
            print(json.dumps({"obstacle": str(obstacle)}), file=channel, flush=True)
