"""How a graph for inference computes in float32, bfloat16 and int8."""

from __future__ import annotations

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.deploy.calibration import histograms, output_range
from gluon_ran.deploy.fusion import fuse_convolutions, fuse_inference_norm_relu
from gluon_ran.models.graph import Graph
from gluon_ran.training.precision import cast_to_bfloat16

import mxnet as mx

# Pictures that int8's ranges are taken from: more cost time and change them little.
CALIBRATION_PICTURES = 512

_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # MXNet's name for it


def _float32(
    symbol: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray], pictures: np.ndarray
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    return fuse_inference_norm_relu(fuse_convolutions(symbol), pictures.shape), arrays


def _bfloat16(
    symbol: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray], pictures: np.ndarray
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    symbol, arrays = _float32(symbol, arrays, pictures)
    return _cast_weights(cast_to_bfloat16(symbol), arrays)


def _cast_weights(
    symbol: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray]
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    """Casts once the weights that each pass would cast anew."""
    graph, arrays = Graph(symbol), dict(arrays)
    readers, needless = graph.readers(), {}
    for number, node in enumerate(graph.nodes):
        if node["op"] != "amp_cast" or node["attrs"]["dtype"] != "bfloat16":
            continue
        source = graph.source(number)
        weight = graph.nodes[source]
        if weight["name"] in arrays and len(readers[source]) == 1:
            arrays[weight["name"]] = _rounded(arrays[weight["name"]])
            weight.setdefault("attrs", {})["__dtype__"] = "12"
            needless[number] = source
    graph.bypass(needless)
    return graph.symbol(), arrays


def _rounded(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """An array in bfloat16, rounded to nearest even as oneDNN does; MXNet's own cast truncates."""
    bits = array.asnumpy().view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return mx.nd.array(rounded.astype(np.uint32).view(np.float32)).astype(_BFLOAT16)


def _int8(
    symbol: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray], pictures: np.ndarray
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    from mxnet.contrib.quantization import calib_graph, quantize_graph

    symbol = fuse_convolutions(symbol, "MKLDNN_QUANTIZE")
    arguments, states = (
        {name: arrays[name] for name in names if name in arrays}
        for names in (symbol.list_arguments(), symbol.list_auxiliary_states())
    )
    quantized, _, _, collector = quantize_graph(
        symbol,
        arguments,
        states,
        excluded_sym_names=_kept_in_float32(symbol),
        excluded_op_names=["elemwise_mul", "Flatten"],
        calib_mode="entropy",
        quantized_dtype="auto",
        quantize_mode="smart",
        logger=None,  # any other has each operator's name printed
    )
    collected = histograms(symbol, arguments, states, pictures[:CALIBRATION_PICTURES], collector)
    collector.min_max_dict = {name: output_range(each) for name, each in collected.items()}
    quantized, given, states = calib_graph(
        quantized, arguments, states, collector, "customize", "auto", logger=None
    )
    return quantized.get_backend_symbol("MKLDNN_QUANTIZE"), {**given, **states}


def _kept_in_float32(symbol: mx.sym.Symbol) -> list[str]:
    """Names of interpolations and classifier; the first are convolutions of one dimension too."""
    return [
        node["name"]
        for node in Graph(symbol).nodes
        if node["op"] in ("Convolution", "FullyConnected", "_sg_mkldnn_fully_connected")
    ]


# A graph without foldable norms, the values of its parameters, pictures: the graph and values.
BUILDERS = {"float32": _float32, "bfloat16": _bfloat16, "int8": _int8}
