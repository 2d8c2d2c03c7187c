"""Operators of a graph that one oneDNN operator computes together."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import Any

from gluon_ran import _runtime  # noqa: F401

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
    content = json.loads(graph.tojson())
    nodes = content["nodes"]
    readers = defaultdict(list)
    for node in (*nodes, {"op": "head", "inputs": content["heads"]}):
        for source, *_ in node["inputs"]:
            readers[source].append(node)
    channels = {
        name: size[0]
        for name, size in zip(graph.list_arguments(), graph.infer_shape(data=shape)[0])
    }
    fused = {}
    for number, node in enumerate(nodes):
        norm = node["inputs"][0][0] if _is_relu(node) else None
        if norm is None or not _is_batch_norm(nodes[norm]) or len(readers[norm]) > 1:
            continue
        source, scale = (nodes[inputs[0]] for inputs in nodes[norm]["inputs"][:2])
        if (
            channels[scale["name"]] % _BLOCK == 0
            and (source["op"] != "Convolution" or _is_blocked_convolution(source))
            and all(map(_is_blocked_convolution, readers[number]))
        ):
            nodes[norm]["op"] = "_contrib_BatchNormWithReLU"
            fused[number] = norm
    for inputs in (*(node["inputs"] for node in nodes), content["heads"]):
        for reference in inputs:
            reference[0] = fused.get(reference[0], reference[0])
    return mx.sym.load_json(json.dumps(content))


def _is_relu(node: dict[str, Any]) -> bool:
    return node["op"] == "Activation" and node["attrs"]["act_type"] == "relu"


def _is_batch_norm(node: dict[str, Any]) -> bool:
    attributes = node.get("attrs", {})
    frozen = attributes.get("use_global_stats") in ("True", "1")
    return node["op"] == "BatchNorm" and not frozen and attributes.get("axis", "1") == "1"


def _is_blocked_convolution(node: dict[str, Any]) -> bool:
    attributes = node.get("attrs", {})
    return (
        node["op"] == "Convolution"
        and attributes.get("num_group", "1") == "1"
        and int(attributes["num_filter"]) % _BLOCK == 0
    )
