"""Graphs that train in float32, bfloat16 or float16, and which of them a machine can run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.training.fusion import fuse_norm_relu, has_onednn

import mxnet as mx
from mxnet.contrib import amp
from mxnet.gluon import HybridBlock, ParameterDict, SymbolBlock

# Operators that oneDNN has no bfloat16 form of; MXNet's own bfloat16 loops are slow, so float32.
_FLOAT32_IN_BFLOAT16 = [
    "Dropout", "InstanceNorm", "L2Normalization", "_plus_scalar",
]  # fmt: skip

_IN_BFLOAT16 = [
    "Convolution", "FullyConnected", "_sg_mkldnn_conv", "_sg_mkldnn_fully_connected",
]  # fmt: skip

# Beyond 200 arrays the operator writes past its own memory and the process dies.
_ALL_FINITE_ARRAYS = 100


def check_dtype(dtype: str, contexts: Sequence[mx.Context]) -> None:
    """Refuses a precision that the devices can't train in.

    Raises:
        ValueError: says what is lacking and what to choose.
    """
    on_gpu = contexts[0].device_type == "gpu"
    if dtype == "float16" and not on_gpu:
        raise ValueError(
            "float16 trains on GPUs only, and this run is on the CPU: choose float32 or bfloat16"
        )
    if dtype == "bfloat16" and on_gpu:
        raise ValueError("bfloat16 trains on CPUs only: choose float16 or float32 on a GPU")
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        raise ValueError(
            "bfloat16 needs a CPU with avx512_bf16 or amx_bf16, which this one lacks: "
            "choose float32"
        )


def cpu_has_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the CPU multiplies in bfloat16 and MXNet was built to do so."""
    try:
        words = Path(cpuinfo).read_text(encoding="utf-8").split()
    except OSError:
        return False
    built = mx.runtime.Features().is_enabled("MKLDNN")
    return built and not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)


def training_graph(net: HybridBlock, dtype: str, shape: tuple[int, ...]) -> HybridBlock:
    """A hybridized block that computes what `net` does, in a precision, with `net`'s parameters.

    Parameters, gradients, normalisation statistics and the classifier stay in float32; casts
    around the convolutions and the interpolations do the rest. In a blocked network BatchNorms
    take the ReLUs behind them along (`fuse_norm_relu`). No other network of the process is touched.

    Args:
        net: an initialised network of one input.
        dtype: "float32", "bfloat16" or "float16".
        shape: (N, C, H, W) of the batches; N may differ from call to call.
    """
    data = mx.sym.var("data", dtype="float32")
    graph = SymbolBlock(symbol_of(net, dtype, shape), data, params=net.collect_params())
    graph.hybridize(static_alloc=True, static_shape=True)
    return graph


def symbol_of(
    net: HybridBlock, dtype: str, shape: tuple[int, ...], fused: bool = True
) -> mx.sym.Symbol:
    """The network as a symbol of "data", for a precision; see `training_graph`.

    Without `fused` norms don't take ReLUs along, to the same numbers.
    """
    with ExitStack() as stack:
        if isinstance(net, ResidualAttentionNet):
            stack.enter_context(net.traced_for(shape))
        graph = net(mx.sym.var("data", dtype="float32"))
    if fused and getattr(net, "blocked", False) and has_onednn():
        graph = fuse_norm_relu(graph, shape)
    if dtype == "float32":
        return graph
    if dtype == "bfloat16":
        return cast_to_bfloat16(graph)
    return amp.convert_symbol(
        graph,
        target_dtype=dtype,
        excluded_sym_names=_classifiers(graph),
        data_names=["data"],
    )


def cast_to_bfloat16(graph: mx.sym.Symbol) -> mx.sym.Symbol:
    """The graph of "data" with casts around what oneDNN multiplies in bfloat16, fused or not."""
    return amp.convert_symbol(
        graph,
        target_dtype="bfloat16",
        target_dtype_ops=_IN_BFLOAT16,
        fp32_ops=_FLOAT32_IN_BFLOAT16,
        excluded_sym_names=_classifiers(graph),
        data_names=["data"],
    )


def inference_copy(
    graph: mx.sym.Symbol, parameters: ParameterDict, contexts: Sequence[mx.Context]
) -> HybridBlock:
    """A block that computes a symbol of "data" with copies of a network's parameters.

    An inference pass leaves the weights it used in another memory layout, some time later; the
    next training step with them then gives other bits from run to run. Copies spare them that.
    Of parameters that differ between devices, as BatchNorm's statistics do, the first device's are
    taken, as they are in a checkpoint.

    Args:
        graph: what to compute.
        parameters: the network's.
        contexts: the devices that they are on.
    """
    block = SymbolBlock(graph, mx.sym.var("data", dtype="float32"))
    for name, copy in block.collect_params().items():
        copy.grad_req = "null"
        copy._load_init(parameters[name].list_data()[0], list(contexts), cast_dtype=True)
    block.hybridize()
    return block


def _classifiers(graph: mx.sym.Symbol) -> list[str]:
    """Names of the dense layers with weights of their own; the interpolations have none."""
    nodes = json.loads(graph.tojson())["nodes"]
    return [
        node["name"]
        for node in nodes
        if node["op"].endswith(("FullyConnected", "fully_connected"))
        and nodes[node["inputs"][1][0]]["op"] == "null"
    ]


class LossScale:
    """Keeps float16 gradients in range: halves at an overflow, doubles after 2,000 good steps.

    Attributes:
        active: whether losses are scaled at all; only float16 needs it.
        value: factor of the next step's loss.
        good_steps: steps since it last changed.
    """

    def __init__(self, active: bool, value: float = 1.0, good_steps: int = 0) -> None:
        self.active, self.value, self.good_steps = active, value, good_steps

    @classmethod
    def of(cls, dtype: str, count: int = 1) -> LossScale:
        """The scale that training in `dtype` starts with, by batches of `count` pictures.

        Gradients are of the sum over a batch, so those of larger ones overflow sooner.
        """
        if dtype != "float16":
            return cls(False)
        return cls(True, max(2.0 ** (15 - (count - 1).bit_length()), 1.0))

    def after(self, finite: bool) -> None:
        """Moves on behind a step whose gradients were finite or not."""
        if not finite:
            self.value, self.good_steps = max(self.value / 2, 1.0), 0
        elif self.good_steps + 1 == 2000:
            self.value, self.good_steps = min(self.value * 2, 2.0**24), 0
        else:
            self.good_steps += 1


def all_finite(arrays: Sequence[mx.nd.NDArray]) -> bool:
    """Whether every number of every array is finite; the arrays share a device."""
    groups = [arrays[i : i + _ALL_FINITE_ARRAYS] for i in range(0, len(arrays), _ALL_FINITE_ARRAYS)]
    return all(mx.nd.multi_all_finite(*g, num_arrays=len(g)).asscalar() for g in groups)
