"""Rewritings of an inference graph that leave its outputs as they are."""

from __future__ import annotations

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.graph import Graph, is_relu, is_true

import mxnet as mx

# Operators whose outputs are in oneDNN's blocked layout already.
_BLOCKED = ("Convolution", "elemwise_add")


def fold_batch_norms(
    symbol: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray]
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    """Takes BatchNorms that alone read a convolution into its weight and a bias.

    Running statistics make a BatchNorm a scale and a shift of each channel, which a convolution
    before it can do along with its own work.

    Args:
        symbol: the graph.
        arrays: the values of its parameters, by name; they stay as they are.

    Returns:
        The graph, and the values of its parameters.
    """
    graph, arrays = Graph(symbol), dict(arrays)
    readers, folded = graph.readers(), {}
    for number, node in enumerate(list(graph.nodes)):
        if node["op"] != "BatchNorm" or node.get("attrs", {}).get("axis", "1") != "1":
            continue
        source = graph.source(number)
        if len(readers[source]) == 1 and _has_own_weight(graph, source, readers):
            _fold(graph, source, number, arrays)
            folded[number] = source
    graph.bypass(folded)
    return graph.symbol(), arrays


def _has_own_weight(graph: Graph, number: int, readers: dict[int, list[int | None]]) -> bool:
    """Whether a node is a convolution without bias whose weight nothing else reads."""
    node = graph.nodes[number]
    if node["op"] != "Convolution" or not is_true(node, "no_bias", "False"):
        return False
    weight = graph.source(number, 1)
    return graph.nodes[weight]["op"] == "null" and len(readers[weight]) == 1


def _fold(graph: Graph, convolution: int, norm: int, arrays: dict[str, mx.nd.NDArray]) -> None:
    names = [graph.nodes[source]["name"] for source, *_ in graph.nodes[norm]["inputs"][1:]]
    gamma, beta, mean, variance = (arrays[name].asnumpy() for name in names)
    if is_true(graph.nodes[norm], "fix_gamma", "True"):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(graph.nodes[norm].get("attrs", {}).get("eps", 1e-3)))
    node = graph.nodes[convolution]
    weight = graph.nodes[graph.source(convolution, 1)]["name"]
    per_channel = scale.reshape(-1, *[1] * (arrays[weight].ndim - 1))
    arrays[weight] = mx.nd.array(arrays[weight].asnumpy() * per_channel)
    bias = f"{node['name']}_folded_bias"
    arrays[bias] = mx.nd.array(beta - mean * scale)
    node["attrs"]["no_bias"] = "False"
    node["inputs"].append([graph.add_variable(bias), 0, 0])


def fuse_inference_norm_relu(symbol: mx.sym.Symbol, shape: tuple[int, ...]) -> mx.sym.Symbol:
    """BatchNorms and the ReLUs that alone read them as one operator each; for inference alone.

    The operator takes planes alone, (N, C, H, W): norms behind dense layers stay as they are.

    Args:
        symbol: the graph of "data".
        shape: (N, C, H, W) of the data.
    """
    graph = Graph(symbol)
    readers, fused, planes = graph.readers(), {}, _norms_of_planes(symbol, shape)
    for number, node in enumerate(graph.nodes):
        if is_relu(node):
            norm = graph.source(number)
            if graph.nodes[norm]["name"] in planes and len(readers[norm]) == 1:
                graph.nodes[norm]["op"] = "_contrib_BatchNormWithReLU"
                fused[number] = norm
    graph.bypass(fused)
    return graph.symbol()


def _norms_of_planes(symbol: mx.sym.Symbol, shape: tuple[int, ...]) -> set[str]:
    """Names of the BatchNorms over the channels of (N, C, H, W)."""
    internals = symbol.get_internals()
    shapes = dict(zip(internals.list_outputs(), internals.infer_shape(data=shape)[1]))
    return {
        node["name"]
        for node in Graph(symbol).nodes
        if node["op"] == "BatchNorm"
        and node.get("attrs", {}).get("axis", "1") == "1"
        and len(shapes[f"{node['name']}_output"]) == 4
    }


def fuse_convolutions(symbol: mx.sym.Symbol, backend: str = "MKLDNN") -> mx.sym.Symbol:
    """Has oneDNN add and apply ReLUs along with the convolutions before them.

    Convolutions that several nodes read are kept out of that: where both a BatchNorm and a sum read
    one, MXNet's pattern takes in too much, and the outputs are wrong. Convolutions by one that only
    training has use for are left out.

    Args:
        symbol: the graph of "data".
        backend: MXNet's name of the pattern: "MKLDNN", or "MKLDNN_QUANTIZE" before quantisation.
    """
    graph = Graph(symbol)
    by_one = (i for i in range(len(graph.nodes)) if _is_by_one(graph, i))
    graph.bypass({i: graph.source(i) for i in by_one if _is_blocked(graph, graph.source(i))})
    hidden = [
        graph.nodes[number]
        for number, readers in graph.readers().items()
        if graph.nodes[number]["op"] == "Convolution" and len(readers) > 1
    ]
    for node in hidden:
        # The same attributes, and an operator that the pattern does not know.
        node["op"] = "Deconvolution"
    graph = Graph(graph.symbol().get_backend_symbol(backend))
    names = {node["name"] for node in hidden}  # a layer that is called twice has one name
    for node in graph.nodes:
        if node["op"] == "Deconvolution" and node["name"] in names:
            node["op"] = "Convolution"
    return graph.symbol()


def _is_by_one(graph: Graph, number: int) -> bool:
    node = graph.nodes[number]
    return node["op"] == "Convolution" and graph.nodes[graph.source(number, 1)]["op"] == "_ones"


def _is_blocked(graph: Graph, number: int) -> bool:
    """Whether a node's output is blocked: not that of a convolution of three channels."""
    node = graph.nodes[number]
    if node["op"] == "Convolution" and graph.nodes[graph.source(number)]["op"] == "null":
        return False
    return node["op"] in _BLOCKED
