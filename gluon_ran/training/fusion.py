"""Operators of a graph that one oneDNN operator computes together."""

from __future__ import annotations

import os
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.graph import Graph, is_relu, is_true

import mxnet as mx

# Channels in a block of oneDNN's widest layout.
_BLOCK = 16


def has_onednn() -> bool:
    """Whether MXNet was built with oneDNN, and the user has not turned it off."""
    enabled = os.environ.get("MXNET_MKLDNN_ENABLED", "1") not in ("0", "false")
    return enabled and mx.runtime.Features().is_enabled("MKLDNN")


def fuse_norm_relu(graph: mx.sym.Symbol, shape: tuple[int, ...]) -> mx.sym.Symbol:
    """The graph with BatchNorms and the ReLUs that alone read them as one operator each.

    It keeps a bit a number for the backward pass where the ReLU alone keeps its whole output, and
    goes over memory once less each way. The numbers are the same; to the bit where oneDNN takes
    the same code for both, as it does for usual shapes.

    The operator takes it for granted that its gradient has its input's memory layout, and where it
    has not, it fails or, of a plain and a blocked one, gives wrong gradients. So norms stay as they
    are behind grouped convolutions, or where anything but ungrouped convolutions reads them, or
    with channels that don't fill blocks of 16 on either side. Frozen norms, which use their running
    statistics in training, stay too: the operator has no such form.

    Args:
        graph: a graph of "data" in float32 that keeps oneDNN's blocked layout throughout, as
            `ResidualAttentionNet.blocked` ones do; casts come after this.
        shape: (N, C, H, W) of the data.
    """
    rewritten = Graph(graph)
    nodes, readers = rewritten.nodes, rewritten.readers()
    sizes = graph.infer_shape(data=shape)[0]
    channels = {name: size[0] for name, size in zip(graph.list_arguments(), sizes)}
    fused = {}
    for number, node in enumerate(nodes):
        norm = rewritten.source(number) if is_relu(node) else None
        if norm is None or not _is_batch_norm(nodes[norm]) or len(readers[norm]) > 1:
            continue
        source, scale = (nodes[rewritten.source(norm, position)] for position in (0, 1))
        if (
            channels[scale["name"]] % _BLOCK == 0
            and (source["op"] != "Convolution" or _is_blocked_convolution(source))
            and all(r is not None and _is_blocked_convolution(nodes[r]) for r in readers[number])
        ):
            nodes[norm]["op"] = "_contrib_BatchNormWithReLU"
            fused[number] = norm
    rewritten.bypass(fused)
    return rewritten.symbol()


def _is_batch_norm(node: dict[str, Any]) -> bool:
    attributes = node.get("attrs", {})
    frozen = is_true(node, "use_global_stats", "False")
    return node["op"] == "BatchNorm" and not frozen and attributes.get("axis", "1") == "1"


def _is_blocked_convolution(node: dict[str, Any]) -> bool:
    attributes = node.get("attrs", {})
    return (
        node["op"] == "Convolution"
        and attributes.get("num_group", "1") == "1"
        and int(attributes["num_filter"]) % _BLOCK == 0
    )
