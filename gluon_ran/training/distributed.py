"""The workers that train one network together, each a process with its share of the data.

All of it rests on one operation, the sum of an array over the workers: by MXNet's parameter server
("dist_sync") or by Horovod. Gradients of a step go as one array, so that servers have equal parts
of it and Horovod adds in the same order each time.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx

DISTRIBUTED = ("dist_sync", "horovod")


class Group:
    """The workers that train together, as one of them sees it; by itself, a lone worker.

    Attributes:
        rank: which of them this is, from 0. The first alone reads and writes the run directory.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum of the workers' arrays, float32 (n,); each gets the same bits.

        All workers call it as many times, each time with the same n.
        """
        return array

    def of_first(self, array: np.ndarray) -> np.ndarray:
        """The first worker's array, float32 (n,), on all of them, to the bit."""
        # A negative zero is what changes nothing when it is added, not even another one.
        return self.sum(array if self.rank == 0 else np.full_like(array, -0.0))

    def give_out(self, arrays: Sequence[Sequence[mx.nd.NDArray]]) -> None:
        """Writes the first worker's arrays over those of all: each array on some devices."""
        if self.count > 1:
            write_flat(arrays, self.of_first(flat([copies[0] for copies in arrays])))

    def least(self, number: int) -> int:
        """The least of the workers' numbers, each below 2**24."""
        numbers = np.zeros(self.count, np.float32)
        numbers[self.rank] = number
        return int(self.sum(numbers).min())

    def told(self, make: Callable[[], Any]) -> Any:
        """What `make` gives on the first worker, which alone calls it, as JSON tells the others.

        Raises:
            RuntimeError: it failed there; that worker itself gets the error as it was.
        """
        if self.count == 1:
            return make()
        if self.rank:
            answer = json.loads(self._text(None))
            if "error" in answer:
                raise RuntimeError(f"worker 0 failed: {answer['error']}")
            return answer["value"]
        try:
            value = make()
            text = json.dumps({"value": value})
        except BaseException as error:
            self._text(json.dumps({"error": str(error)}))
            raise
        self._text(text)
        return value

    def _text(self, text: str | None) -> str:
        """The first worker's text, where all others give None."""
        data = np.frombuffer((text or "").encode(), np.uint8).astype(np.float32)
        length = int(self.of_first(np.array([len(data)], np.float32))[0])
        data = self.of_first(data if text is not None else np.zeros(length, np.float32))
        return data.astype(np.uint8).tobytes().decode()

    @contextmanager
    def training(self) -> Iterator[None]:
        """What the workers do together: one that leaves it by an error ends without the others."""
        yield


def flat(arrays: Sequence[mx.nd.NDArray], *numbers: float) -> np.ndarray:
    """The elements of float32 arrays behind each other, and some numbers behind them, (n,)."""
    parts = [array.asnumpy().ravel() for array in arrays]
    return np.concatenate([*parts, np.array(numbers, np.float32)])


def write_flat(arrays: Sequence[Sequence[mx.nd.NDArray]], values: np.ndarray) -> np.ndarray:
    """Writes what `flat` gave back: each array on some devices. Gives the numbers behind them."""
    place = 0
    for copies in arrays:
        shape, size = copies[0].shape, copies[0].size
        for copy in copies:
            copy[:] = values[place : place + size].reshape(shape)
        place += size
    return values[place:]


# Of a worker that ends ahead of the others.
_exit_code = [1]


def end_with(code: int) -> None:
    """Sets the exit code of a worker that ends by an error or an interrupt, without the others.

    Else it is 1.
    """
    _exit_code[0] = code


class _Joined(Group, ABC):
    """Workers in several processes, with an orderly end."""

    def __init__(self, rank: int, count: int) -> None:
        super().__init__(rank, count)
        self._finished = False
        atexit.register(self._leave)

    @contextmanager
    def training(self) -> Iterator[None]:
        self._finished = False
        yield
        self._finished = True

    def _leave(self) -> None:
        # Both engines wait for all workers at their end, so one that fails would never end, and
        # whoever watches it would never know.
        if not self._finished:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_exit_code[0])
        self._close()

    @abstractmethod
    def _close(self) -> None:
        """Parts from the others, for which all of them wait."""


class _ParameterServer(_Joined):
    """MXNet's own: servers add what workers push, in float32, in the order in which it comes."""

    def __init__(self) -> None:
        self._store = mx.kv.create("dist_sync")
        self._keys: dict[int, int] = {}
        # MXNet numbers workers as they come; for sums it does not matter who is who.
        rank = int(os.environ.get("GLUON_RAN_RANK", self._store.rank))
        super().__init__(rank, self._store.num_workers)

    def sum(self, array: np.ndarray) -> np.ndarray:
        if not array.size:
            return array
        values = mx.nd.array(array, ctx=mx.cpu(), dtype="float32")
        key = self._keys.get(array.size)
        if key is None:
            key = self._keys[array.size] = len(self._keys)
            self._store.init(key, mx.nd.zeros_like(values))
        self._store.pushpull(key, values, out=values)
        return values.asnumpy()

    def _close(self) -> None:
        del self._store  # waits for all workers, and the first then ends the servers


class _Horovod(_Joined):
    """Horovod: workers add among themselves."""

    def __init__(self) -> None:
        import horovod.mxnet as hvd

        hvd.init()
        self._hvd = hvd
        super().__init__(hvd.rank(), hvd.size())

    def sum(self, array: np.ndarray) -> np.ndarray:
        if not array.size:
            return array
        values = mx.nd.array(array, ctx=mx.cpu(), dtype="float32")
        name = f"gluon_ran.{array.size}"
        return self._hvd.allreduce(values, average=False, name=name).asnumpy()

    def _close(self) -> None:
        self._hvd.shutdown()


ALONE = Group()


def join(kvstore: str) -> Group:
    """The workers that this process trains with; the same ones each time it is called.

    Args:
        kvstore: "dist_sync" or "horovod"; with any other the process is alone.

    A process that joins others and then ends without `fit`, or what it does `with
    group.training():`, counts as failed, as the others would wait for it.

    Raises:
        ValueError: the process was not started as one of several, or it was and `kvstore` leaves
            it alone, or Horovod is missing.
    """
    if kvstore in DISTRIBUTED:
        return _join(kvstore)
    sizes = {os.environ.get(name, "1") for name in ("DMLC_NUM_WORKER", "HOROVOD_SIZE")}
    if "GLUON_RAN_RANK" in os.environ and sizes != {"1"}:
        raise ValueError(
            f"this process was started as one of several workers, and kvstore {kvstore} would "
            "leave each by itself: give dist_sync, or horovod where there are no servers"
        )
    return ALONE


@lru_cache(maxsize=None)
def _join(kvstore: str) -> Group:
    # A second store of the process would wait for ever.
    variable = {"dist_sync": "DMLC_PS_ROOT_URI", "horovod": "HOROVOD_RANK"}[kvstore]
    if variable not in os.environ:
        servers = {"dist_sync": "-s 1", "horovod": "-s 0"}[kvstore]
        raise ValueError(
            f"kvstore {kvstore} needs several processes, and this one is alone ({variable} is not "
            f"set): start them by train/launch.py -n 2 {servers} -- COMMAND, or choose device"
        )
    if kvstore == "dist_sync":
        return _ParameterServer()
    try:
        return _Horovod()
    except ImportError as error:
        raise ValueError(
            f"kvstore horovod: Horovod for MXNet can't be imported ({error}): build it as the "
            "README says under Many machines (extra 'horovod'), or choose dist_sync"
        ) from None
