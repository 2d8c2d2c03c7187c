"""How contenders take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def take_turns(runs: Sequence[Callable[[], Result]], rounds: int) -> list[list[Result]]:
    """Calls each in each round, and never two at once; gives the results of each."""
    results: list[list[Result]] = [[] for _ in runs]
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        # Each round starts with another one, so that none always follows the same.
        for offset in range(len(runs)):
            index = (turn + offset) % len(runs)
            results[index].append(runs[index]())
    return results


def positive(text: str) -> int:
    """A number from the command line, from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def say(text: str) -> None:
    """Tells on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)
