"""Prepares a graph of both passes of a step to be run on one device, by MXNet's executor."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx

# MXNet reads them where it prepares a graph. Without the first it would take a graph that it need
# not derive for one of inference. The second plans the memory that outputs share in five ways, and
# takes the least.
_SETTINGS = {"MXNET_SUBGRAPH_BACKEND": "NONE", "NNVM_AUTO_SEARCH_MATCH_RANGE": "1"}


# The settings are the process's, and so is its standard error.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def settings_of_bind() -> Iterator[None]:
    """What MXNet must be told where it prepares a graph of both passes."""
    with _ONE_AT_A_TIME:
        yield from _changed_settings()


def _changed_settings() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update(_SETTINGS)
    try:
        with _without_lines(b"MXNET_SUBGRAPH_BACKEND=NONE is detected"):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_lines(text: bytes) -> Iterator[None]:
    """Keeps lines with a text, which MXNet's C++ prints, from standard error."""
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            os.write(2, b"".join(line for line in kept if text not in line))


def bind_both_passes(
    graph: mx.sym.Symbol,
    context: mx.Context,
    known: Mapping[str, mx.nd.NDArray],
    shapes: Mapping[str, tuple[int, ...]],
    shared: mx.executor.Executor | None = None,
) -> mx.executor.Executor:
    """An executor of a graph that needs no further gradients.

    Args:
        graph: what `with_gradients` gave, or what was made of it.
        context: the device.
        known: inputs that are there already; others are made.
        shapes: of inputs that are not.
        shared: an executor that never runs at the same time, whose memory this one uses too.
    """
    sizes, _, auxiliary_sizes = graph.infer_shape(**shapes)

    def arrays(names: list[str], sizes: list[tuple[int, ...]]) -> dict[str, mx.nd.NDArray]:
        return {
            name: known[name] if name in known else mx.nd.empty(size, ctx=context)
            for name, size in zip(names, sizes)
        }

    with settings_of_bind():
        return graph.bind(
            context,
            args=arrays(graph.list_arguments(), sizes),
            aux_states=arrays(graph.list_auxiliary_states(), auxiliary_sizes),
            grad_req="null",
            shared_exec=shared,
        )
