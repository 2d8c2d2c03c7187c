"""Memory for large arrays that is taken up again when the last array in it is gone.

The system hands memory out as zeros, and to have it zeroed anew for each batch takes a share of the
time that its pictures are decoded in.
"""

from __future__ import annotations

import numpy as np


class Memory:
    """Gives float32 arrays; each may be kept as long as it is of use, as may its parts."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array with anything in it."""
        size = int(np.prod(shape))
        try:  # at once, as other threads take from it too
            block = self._free.pop()
        except IndexError:
            block = np.empty(0, np.float32)
        if len(block) < size:
            block = np.empty(size, np.float32)
        return np.asarray(_Lease(block, self._free))[:size].reshape(shape)


class _Lease:
    """What an array and its parts refer to in the end, so that it goes with the last of them."""

    def __init__(self, block: np.ndarray, free: list[np.ndarray]) -> None:
        self.__array_interface__ = block.__array_interface__
        self._block, self._free = block, free

    def __del__(self) -> None:
        self._free.append(self._block)
