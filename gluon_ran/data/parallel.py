"""Work in several threads that is taken up in order and no further ahead than told."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Gives `function` of each item, in their order, while threads work on the next ones.

    The threads begin with the first result that is asked for, and end with the last, with an error
    or with the iterator: items that none has begun then are left.

    Args:
        function: called in the threads; an error in it is raised where its result would have come.
        items: taken in the calling thread, as work on them begins.
        threads: how many work.
        ahead: the most items that are worked on, or done, beyond the result that was given last.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures: deque = deque()
        try:
            for item in items:
                futures.append(pool.submit(function, item))
                if len(futures) > ahead:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()
