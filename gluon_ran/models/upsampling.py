"""Align-corners bilinear interpolation as matrix products: exact, the same bits in every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gluon_ran import _runtime  # noqa: F401

from mxnet import nd
from mxnet.gluon import HybridBlock

# Up to this many pixels a plane is faster as one product; beyond it, as one product a direction.
MATRIX_PIXELS = 64


class Trace:
    """What a network's graph is built for, shared by its blocks.

    A symbolic trace does not know the shapes of its inputs, but the number of rows of an
    interpolation matrix is part of the graph. The outermost block writes the size here first.

    Attributes:
        size: height and width of the pictures, in pixels.
        blocked: follow each operator that oneDNN lacks by a product with one that it has, so that
            what comes next stays in its blocked layout: faster on CPUs, most of all in bfloat16.
        portable: build the graph of operators that ONNX has too: interpolation by MXNet's own
            operator whatever the method, L2 norms written out.
        dtype: of what flows through it.
    """

    def __init__(self, size: tuple[int, int], blocked: bool = False) -> None:
        self.size, self.blocked, self.portable, self.dtype = size, blocked, False, "float32"

    def plane(self, stride: int) -> tuple[int, int]:
        """Height and width of the planes at a stride, in pixels."""
        return self.size[0] // stride, self.size[1] // stride


class Blocked(HybridBlock):
    """Gives what it gets; in a blocked trace out of a depthwise 1x1 convolution by one.

    Args:
        channels: C.
        trace: what the graph is built for.
    """

    def __init__(self, channels: int, trace: Trace) -> None:
        super().__init__()
        self._channels, self._trace = channels, trace

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to itself."""
        if not self._trace.blocked:
            return x
        channels, dtype = self._channels, _dtype_of(F, x, self._trace)
        ones = F.ones((channels, 1, 1, 1), dtype=dtype)
        return F.Convolution(
            x, ones, kernel=(1, 1), num_filter=channels, num_group=channels, no_bias=True
        )


def _dtype_of(F: Any, x: Any, trace: Trace) -> str:
    """The type of an array, or of the graph where it is a symbol."""
    return np.dtype(x.dtype).name if F is nd else trace.dtype


def interpolation_matrix(F: Any, source: int, target: int, dtype: str = "float32") -> Any:
    """Matrix that takes `source` points to `target` points by linear interpolation, ends on ends.

    Entry (i, j) is max(0, 1 - |i (n - 1) / (m - 1) - j|) for n points to m. Numerator and
    denominator are integers, exact in float32, so each entry is rounded once (in float16 twice).

    Args:
        F: `mxnet.nd` or `mxnet.sym`.
        source: n, at least 1.
        target: m, at least 2.
        dtype: float32, float16 or float64.

    Returns:
        (m, n) of that type.
    """
    last, exact = target - 1, "float32" if dtype == "float16" else dtype
    i = F.reshape(F.arange(0, target, dtype=exact), shape=(target, 1)) * (source - 1)
    j = F.reshape(F.arange(0, source, dtype=exact), shape=(1, source)) * last
    matrix = F.relu(last - F.abs(F.broadcast_sub(i, j))) / last
    return matrix if dtype == exact else F.cast(matrix, dtype=dtype)


@dataclass(frozen=True)
class Plane:
    """The planes of a stage, and the layers that need to know them.

    Attributes:
        channels: C.
        stride: stride relative to the picture.
        method: see `Spec.upsampling`.
        trace: what the graph is built for.
    """

    channels: int
    stride: int
    method: str
    trace: Trace

    def upsample(self, level: int = 0) -> Upsample:
        """Interpolation to the plane that lies `level` halvings down."""
        return Upsample(self.method, self.channels, self.stride << level, self.trace)

    def blocked(self) -> Blocked:
        """A layer that brings the plane back to the blocked layout."""
        return Blocked(self.channels, self.trace)


class Upsample(HybridBlock):
    """Bilinear interpolation with aligned corners to twice the height and width.

    Args:
        method: "matrix", "separable", "bilinear" or "auto"; see `Spec.upsampling`.
        channels: C.
        stride: stride of the output plane relative to the picture.
        trace: what the graph is built for.
    """

    def __init__(self, method: str, channels: int, stride: int, trace: Trace) -> None:
        super().__init__()
        self._method, self._channels = method, channels
        self._stride, self._trace = stride, trace
        with self.name_scope():
            self.blocked = Blocked(channels, trace)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H / 2, W / 2) to (N, C, H, W)."""
        if F is nd:
            height, width = 2 * x.shape[2], 2 * x.shape[3]
        else:
            height, width = self._trace.plane(self._stride)
        if self._method == "bilinear" or self._trace.portable:
            return F.contrib.BilinearResize2D(x, height=height, width=width)
        dtype = _dtype_of(F, x, self._trace)
        rows = interpolation_matrix(F, height // 2, height, dtype)
        columns = interpolation_matrix(F, width // 2, width, dtype)
        shape = (-1, self._channels, height, width)
        pixels = (height // 2) * (width // 2)
        whole = self._method == "matrix" or (self._method == "auto" and pixels <= MATRIX_PIXELS)
        product = _whole_plane if whole else _each_direction
        return self.blocked(F.reshape(product(F, x, rows, columns, shape), shape=shape))


def _whole_plane(F: Any, x: Any, rows: Any, columns: Any, shape: tuple[int, ...]) -> Any:
    """One product of each flattened plane with the Kronecker product of both matrices."""
    pixels = shape[2] * shape[3]
    rows = F.expand_dims(F.expand_dims(rows, axis=1), axis=3)
    columns = F.expand_dims(F.expand_dims(columns, axis=0), axis=2)
    both = F.reshape(F.broadcast_mul(rows, columns), shape=(pixels, pixels // 4))
    planes = F.reshape(x, shape=(-1, pixels // 4))
    return F.FullyConnected(planes, both, num_hidden=pixels, no_bias=True, flatten=False)


def _each_direction(F: Any, x: Any, rows: Any, columns: Any, shape: tuple[int, ...]) -> Any:
    """Columns by a product over the last axis; rows as channels of a 1-D convolution of width 1.

    The convolution spares both transposes that a product over the rows would need.
    """
    _, _, height, width = shape
    y = F.FullyConnected(x, columns, num_hidden=width, no_bias=True, flatten=False)
    y = F.reshape(y, shape=(-1, height // 2, width))
    rows = F.expand_dims(rows, axis=2)
    return F.Convolution(y, rows, kernel=(1,), num_filter=height, no_bias=True)
