"""The machine's own ceiling for throughput.py: oneDNN's matrix product, through MXNet.

Of some sizes the fastest is taken. In float32 and bfloat16 a few products follow one another in one
graph, so that the cast of the first one's input counts for little.
"""

from __future__ import annotations

import time
from typing import Any, Callable

import throughput_protocol as protocol

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx
from mxnet import nd, sym
from mxnet.contrib import amp
from mxnet.gluon import SymbolBlock

# Rows of the first matrix, and edge of the second, a square.
SIZES = ((1024, 1024), (4096, 1024), (2048, 2048))
PRODUCTS = 2

Batch = Callable[[], nd.NDArray]


def float_products(rows: int, edge: int, dtype: str) -> Batch:
    """`PRODUCTS` products, each of the one before it and a matrix of its own.

    Args:
        rows: M of the (M, K) input.
        edge: K, and N of the (N, K) matrices.
        dtype: "float32" or "bfloat16".
    """
    data = sym.var("data", dtype="float32")
    y = data
    for _ in range(PRODUCTS):
        y = sym.FullyConnected(y, num_hidden=edge, no_bias=True)
    if dtype == "bfloat16":
        y = amp.convert_symbol(y, target_dtype=dtype, data_names=["data"])
    graph = SymbolBlock(y, data)
    graph.initialize(mx.init.Xavier())
    graph.hybridize(static_alloc=True, static_shape=True)
    x = nd.random.uniform(-1, 1, (rows, edge))
    return lambda: graph(x)


def int8_products(rows: int, edge: int) -> Batch:
    """`PRODUCTS` times the product of a uint8 and an int8 matrix, summed in int32."""
    low, zero, high = nd.array([-1.0]), nd.zeros(1), nd.ones(1)
    x = nd.random.uniform(0, 1, (rows, edge))
    w = nd.random.uniform(-1, 1, (edge, edge))
    data, min_data, max_data = nd.contrib.quantize(x, zero, high, out_type="uint8")
    weight, min_weight, max_weight = nd.contrib.quantize(w, low, high, out_type="int8")

    def products() -> nd.NDArray:
        for _ in range(PRODUCTS):
            y, *_ = nd.contrib.quantized_fully_connected(
                data=data, min_data=min_data, max_data=max_data,
                weight=weight, min_weight=min_weight, max_weight=max_weight,
                num_hidden=edge, no_bias=True,
            )  # fmt: skip
        return y

    return products


def seconds(products: Batch) -> float:
    """Of the second of two batches."""
    for _ in range(2):
        nd.waitall()
        begin = time.perf_counter()
        products()
        nd.waitall()
    return time.perf_counter() - begin


class ProductEngine(protocol.Engine):
    """Matrix products of the size that is fastest."""

    def build(self) -> None:
        """Tries the sizes."""
        form, self._tried = self.arguments.form, {}
        for rows, edge in SIZES:
            if form == "int8":
                products = int8_products(rows, edge)
            else:
                products = float_products(rows, edge, form)
            flop = 2 * PRODUCTS * rows * edge * edge
            self._tried[f"{rows}x{edge} by {edge}x{edge}"] = rate = flop / seconds(products)
            if rate == max(self._tried.values()):
                self.start, self._flop, self._shape = products, flop, (rows, edge)

    def wait(self) -> None:
        """Waits for MXNet's engine."""
        nd.waitall()

    def number(self, started: nd.NDArray) -> float:
        """The greatest number in the last product."""
        return float(abs(started.asnumpy().astype("float64")).max())

    def describe(self) -> dict[str, Any]:
        """The size, its floating-point operations, and what the others did on trial."""
        return {
            "flop": self._flop,
            "shape": self._shape,
            "tried": self._tried,
            "versions": protocol.versions("mxnet", "numpy"),
        }


ENGINE = ProductEngine
