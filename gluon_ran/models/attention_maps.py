"""What the attention modules of a network compute for pictures: before their masks, and behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.attention import AttentionModule

from mxnet import autograd, nd, sym
from mxnet.gluon import HybridBlock, SymbolBlock


class AttentionMaps(NamedTuple):
    """What the mask of an attention module does (figure 1 of the paper), each (N, C, h, w).

    Attributes:
        before: T, what the trunk branch gives.
        mask: M, the soft mask: in (0, 1), or (-1, 1) for the attention "channel".
        after: H, which is (1 + M) T, or M T where the learning is "naive"; the module's last units
            take it.
    """

    before: Any
    mask: Any
    after: Any


def mask_graph(net: HybridBlock, shape: tuple[int, ...]) -> sym.Symbol | None:
    """The symbol of all masks for pictures "data" of a shape; None without modules.

    Args:
        net: a ResidualAttentionNet.
        shape: (N, channels, H, W).
    """
    masks = [maps.mask for maps in _trace(net, shape)]
    return sym.Group(masks) if masks else None


def attention_graph(net: HybridBlock, shape: tuple[int, ...]) -> sym.Symbol | None:
    """The symbol of all AttentionMaps, one module's three behind the other's; see `mask_graph`."""
    arrays = [array for maps in _trace(net, shape) for array in maps]
    return sym.Group(arrays) if arrays else None


def _trace(net: HybridBlock, shape: tuple[int, ...]) -> list[AttentionMaps]:
    """The symbols of each module's maps, in the order of the forward pass."""
    with net.traced_for(shape), ExitStack() as stack:
        notes = [_note(module, stack) for module in _modules(net)]
        net(sym.var("data", dtype=net.dtype))
    return [AttentionMaps(**each) for each in notes]


def _modules(block: HybridBlock) -> Iterator[AttentionModule]:
    for child in block._children.values():
        if isinstance(child, AttentionModule):
            yield child
        else:
            yield from _modules(child)


def _note(module: AttentionModule, stack: ExitStack) -> dict[str, sym.Symbol]:
    """A dictionary that gets the module's maps, by field, from its next pass; `stack` ends it."""
    notes: dict[str, sym.Symbol] = {}
    for hook in (
        module.trunk.register_forward_hook(lambda _, inputs, output: notes.update(before=output)),
        module.head.register_forward_hook(lambda _, inputs, output: notes.update(mask=output)),
        module.post.register_forward_pre_hook(lambda _, inputs: notes.update(after=inputs[0])),
    ):
        stack.enter_context(hook)
    return notes


class KeptGraphs:
    """The last graph of each kind, since making one takes far longer than a pass.

    As attributes of the network Gluon would take their blocks for parts of it.
    """

    def __init__(self) -> None:
        self._kept: dict[Callable, tuple[tuple, SymbolBlock]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptGraphs:
        """A copied network has none yet: MXNet's graphs can't be copied."""
        return KeptGraphs()

    def forget(self) -> None:
        """Has the next pass make its graph anew."""
        self._kept.clear()

    def masks(self, net: HybridBlock, x: nd.NDArray) -> list[nd.NDArray]:
        """See `ResidualAttentionNet.masks`."""
        return self._outputs(mask_graph, net, x)

    def attention(self, net: HybridBlock, x: nd.NDArray) -> list[AttentionMaps]:
        """See `ResidualAttentionNet.attention`."""
        arrays, width = self._outputs(attention_graph, net, x), len(AttentionMaps._fields)
        return [AttentionMaps(*arrays[i : i + width]) for i in range(0, len(arrays), width)]

    def _outputs(
        self, make: Callable[..., sym.Symbol | None], net: HybridBlock, x: nd.NDArray
    ) -> list[nd.NDArray]:
        """What the graph that `make` gives for a network and a shape computes, without training."""
        key = (x.shape[2:], net.blocked, net.dtype)
        if make not in self._kept or self._kept[make][0] != key:
            graph = make(net, x.shape)
            if graph is None:
                return []
            data = sym.var("data", dtype=net.dtype)
            self._kept[make] = key, SymbolBlock(graph, data, params=net.collect_params())
        with autograd.pause():
            output = self._kept[make][1](x)
        return output if isinstance(output, (list, tuple)) else [output]
