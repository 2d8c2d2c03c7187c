"""MXNet networks as ONNX models, through MXNet's exporter."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models import ResidualAttentionNet

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter

if TYPE_CHECKING:  # an extra, imported where it is used
    import onnx

INPUT, OUTPUT = "images", "scores"
# The highest that MXNet's exporter writes; its IR version, so that older runtimes take the file.
_OPSET, _IR = 13, 7


class ExportError(RuntimeError):
    """A network that can't be exported: says why and what to do."""


def onnx_model(
    network: HybridBlock,
    parameters: dict[str, Parameter],
    shape: tuple[int, int, int],
    batch: int | str,
) -> onnx.ModelProto:
    """The ONNX model of a network: the input "images", the output "scores", weights as constants.

    Args:
        network: an initialised network.
        parameters: its own, by the names that the model gives them.
        shape: channels, height and width of the pictures.
        batch: N, or the name of a number that is open.

    Raises:
        ExportError: it has several outputs, or an operator that the exporter lacks.
    """
    import onnx

    symbol = _symbol(network, (1, *shape))
    shapes = {parameter.name: parameter.shape for parameter in parameters.values()}
    graph = _graph(symbol, {**shapes, INPUT: (1, *shape)})
    (output,) = graph.output
    names = {parameter.name: name for name, parameter in parameters.items()}
    # The prefix counts the networks of the process, so files of one network would differ.
    _rename(graph, {**names, output.name: OUTPUT}, network.prefix)
    outputs = [size.dim_value for size in output.type.tensor_type.shape.dim[1:]]
    info, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        graph.node,
        type(network).__name__,
        [info(INPUT, float32, (batch, *shape))],
        [info(OUTPUT, float32, (batch, *outputs))],
        [*graph.initializer, *_weights(symbol, parameters)],
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    return onnx.helper.make_model(
        graph, opset_imports=[opset], ir_version=_IR, producer_name="gluon_ran"
    )


def _symbol(network: HybridBlock, shape: tuple[int, ...]) -> mx.sym.Symbol:
    with ExitStack() as stack:
        if isinstance(network, ResidualAttentionNet):
            stack.enter_context(network.traced_for(shape, portable=True))
        symbol = network(mx.sym.var(INPUT))
    if not isinstance(symbol, mx.sym.Symbol) or len(symbol) != 1:
        raise ExportError("the network has several outputs: wrap it in a block that gives one")
    return symbol


def _graph(symbol: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]]) -> onnx.GraphProto:
    """MXNet's translation, with the weights as inputs: else it makes each number an object."""
    import onnx

    names = symbol.list_inputs()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # MXNet's use of onnx
            # The public export_model claims whatever opset onnx has, not those that it writes.
            from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

            return MXNetGraph().create_onnx_graph_proto(
                symbol,
                {},
                [shapes[name] for name in names],
                [onnx.TensorProto.FLOAT] * len(names),
                opset_version=_OPSET,
                dynamic=False,
            )
    except (AttributeError, NotImplementedError, mx.base.MXNetError) as error:
        raise ExportError(
            f"MXNet can't write this network as ONNX ({error}): build it of other layers, such as "
            "nn.BatchNorm in place of SyncBatchNorm, and load its weights"
        ) from None


def _rename(graph: onnx.GraphProto, names: dict[str, str], prefix: str) -> None:
    """Gives what nodes read and write other names; those without one lose the prefix."""

    def renamed(name: str) -> str:
        return names.get(name) or name.replace(prefix, "")

    for node in graph.node:
        node.name = renamed(node.name)
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)


def _weights(symbol: mx.sym.Symbol, parameters: dict[str, Parameter]) -> Iterator[onnx.TensorProto]:
    """The arrays that the graph reads."""
    import onnx

    used, ones = set(symbol.list_inputs()), _fixed_scales(symbol)
    for name, parameter in parameters.items():
        if parameter.name in used:
            values = parameter.list_data()[0].asnumpy()
            values = np.ones_like(values) if parameter.name in ones else values
            yield onnx.numpy_helper.from_array(values, name)


def _fixed_scales(symbol: mx.sym.Symbol) -> set[str]:
    """Names of the scales of norms that have none: MXNet does not read them, ONNX does."""
    nodes = json.loads(symbol.tojson())["nodes"]
    norms = [node for node in nodes if node["op"] == "BatchNorm"]
    fixed = [n for n in norms if n.get("attrs", {}).get("fix_gamma", "True") in ("True", "1")]
    return {nodes[node["inputs"][1][0]]["name"] for node in fixed}
