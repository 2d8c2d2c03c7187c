"""Running statistics of norms, put back where a step is left out.

Each pass moves them, one with infinities in it to no numbers, and then no later step mends them.

Each device normalises its own pictures, so each has statistics of its own. Those of the first
device, of the first worker, are the network's: they are saved, evaluated and exported. The others'
are used for nothing, so a run that goes on without them gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training.distributed import Group

import mxnet as mx
from mxnet.gluon import Parameter


class Statistics:
    """What a network keeps besides what it learns, on some devices.

    Args:
        parameters: those of the network; the ones that have no gradients count.
        contexts: the devices.
    """

    def __init__(self, parameters: Iterable[Parameter], contexts: Sequence[mx.Context]) -> None:
        self._parameters = [each for each in parameters if not each._differentiable]
        self._contexts = contexts
        self._kept: list[mx.nd.NDArray] = []

    def keep(self) -> None:
        """Copies them: as one array a device, since an operator each would take longer."""
        if self._parameters:
            self._kept = [
                mx.nd.concat(*(each.data(c).reshape(-1) for each in self._parameters), dim=0)
                for c in self._contexts
            ]
            # MXNet does not know that the backward pass writes to them.
            mx.nd.waitall()

    def settle(self, group: Group) -> None:
        """Gives all devices of all workers those of the first."""
        if len(self._contexts) == group.count == 1:
            return
        mx.nd.waitall()
        for each in self._parameters:
            first, *others = each.list_data()
            for other in others:
                first.copyto(other)
        group.give_out([each.list_data() for each in self._parameters])

    def put_back(self) -> None:
        """Makes them what they were at the last `keep`."""
        mx.nd.waitall()
        for context, kept in zip(self._contexts, self._kept):
            place = 0
            for each in self._parameters:
                data = each.data(context)
                data[:] = kept[place : place + data.size].reshape(data.shape)
                place += data.size
