"""Networks made fast for inference on CPUs, each proved by its scores on calibration batches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_paths
from gluon_ran.deploy.fusion import fold_batch_norms
from gluon_ran.deploy.precisions import BUILDERS
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.models.params_file import write_params_file
from gluon_ran.training.fusion import has_onednn
from gluon_ran.training.precision import cpu_has_bfloat16

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, SymbolBlock

# The greatest relative difference of the scores that a precision is allowed; see `disagreement`.
BOUNDS = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.2}

# Pictures of random numbers that scores are compared on where no calibration is given.
_RANDOM_PICTURES = 8


class OptimizeError(RuntimeError):
    """A network that can't be made faster: says why and what to do."""


class OptimizedNetwork(Block):
    """A network that is ready to serve: its graph and weights are made for inference on the CPU.

    Attributes:
        precision: "float32", "bfloat16" or "int8".
        picture_shape: (channels, height, width) that it takes, in batches of any number.
        symbol: its graph, of "data".
        disagreement: of its scores with the original's on the calibration batches; see
            `disagreement`.

    Args:
        symbol: the graph of "data".
        arrays: the values of its parameters.
        precision: see above.
        picture_shape: see above.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        arrays: dict[str, mx.nd.NDArray],
        precision: str,
        picture_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.precision, self.picture_shape, self.symbol = precision, picture_shape, symbol
        self.disagreement = float("nan")
        self.graph = SymbolBlock(symbol, mx.sym.var("data", dtype="float32"))
        for name, parameter in self.graph.collect_params().items():
            value = arrays[name]
            parameter.shape, parameter.dtype = value.shape, value.dtype
            parameter.grad_req = "null"  # else gradients are allocated first
            parameter.initialize(mx.init.Zero(), ctx=mx.cpu(), force_reinit=True)
            parameter.set_data(value)
        self.graph.hybridize(static_alloc=True, static_shape=True)

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """Float32 (N, channels, H, W) to float32 (N, classes) scores before the softmax.

        Raises:
            ValueError: not a float32 array, or another picture size than it was made for.
        """
        if not isinstance(x, mx.nd.NDArray) or x.dtype != np.float32:
            kind = f"{np.dtype(x.dtype).name} " if hasattr(x, "dtype") else ""
            raise ValueError(
                f"this network takes float32 NDArrays, not {kind}{type(x).__name__}: give it "
                "mx.nd.array(normalised_pictures, dtype='float32')"
            )
        if x.shape[1:] != self.picture_shape:
            raise ValueError(
                f"this network was made for pictures of shape {self.picture_shape}, not "
                f"{x.shape[1:]}: call optimize with calibration batches of that size"
            )
        with autograd.pause(train_mode=False):
            return self.graph(x)

    def export(self, path: str | Path) -> tuple[Path, Path]:
        """Writes PATH-symbol.json and PATH-0000.params, to serve without being made again.

        `SymbolBlock.imports(symbol, ["data"], params)` reads them, with any MXNet 1.9.1 that has
        oneDNN; hybridize it with `static_alloc=True, static_shape=True`.

        Returns:
            Both files.

        Raises:
            OSError: they can't be written; files that were there stay.
        """
        if not Path(path).parent.is_dir():
            raise FileNotFoundError(f"there is no folder {Path(path).parent} to write to")
        symbol, parameters = Path(f"{path}-symbol.json"), Path(f"{path}-0000.params")
        states = set(self.symbol.list_auxiliary_states())
        arrays = {
            f"{'aux' if name in states else 'arg'}:{name}": parameter.data()
            for name, parameter in self.graph.collect_params().items()
        }
        text = self.symbol.tojson(remove_amp_cast=False)
        with atomic_paths(parameters, symbol) as (new_parameters, new_symbol):
            write_params_file(new_parameters, arrays)
            new_symbol.write_text(text, encoding="utf-8")
        return symbol, parameters


def optimize(
    net: HybridBlock,
    precision: str = "float32",
    calibration: Iterable[Any] | None = None,
    *,
    bound: float | None = None,
) -> OptimizedNetwork:
    """Makes a copy of a trained network that is faster, and proves that it gives the same scores.

    In all precisions BatchNorms become part of the convolutions before them, and oneDNN adds and
    applies ReLUs along with the convolutions. "bfloat16" computes what has a oneDNN form in
    bfloat16. "int8" quantises convolutions, norms, sums and pooling; ranges of their outputs are
    those of least entropy loss on the calibration batches (Migacz 2017); interpolations, masks'
    sigmoids and the classifier stay float32.

    Args:
        net: a float32 network of one input and one output with its weights. They stay as they are;
            a hybridized one may be traced anew at its next call.
        precision: "float32", "bfloat16" or "int8".
        calibration: batches of normalised pictures as the network will see them, each an array
            (N, channels, H, W) or a pair of it and labels, all of one picture size. int8 takes its
            ranges from the first 512 pictures; on all of them the scores are compared. Eight
            pictures of random numbers if None, not for int8.
        bound: the greatest disagreement that is accepted; that of `BOUNDS` if None.

    Raises:
        OptimizeError: the scores differ by more than `bound`, or this machine or build of MXNet
            can't compute in that precision.
        ValueError: an unknown precision, no calibration where it is needed, or an unfit network
            or batches.
        RuntimeError: the network has no weights yet; MXNet names the first that is missing.
    """
    _check_precision(precision, calibration)
    pictures = _pictures(net, calibration)
    symbol, arrays = _trace(net, precision, pictures.shape)
    with mx.cpu():  # whatever the caller's device is
        symbol, arrays = fold_batch_norms(symbol, arrays)
        symbol, arrays = BUILDERS[precision](symbol, arrays, pictures)
        optimized = OptimizedNetwork(symbol, arrays, precision, pictures.shape[1:])
    optimized.disagreement = disagreement(net, optimized, pictures)
    if not np.isfinite(optimized.disagreement):
        raise OptimizeError(
            f"scores of the network or of its {precision} copy are no finite numbers, or all the "
            "same: look at its weights"
        )
    limit = BOUNDS[precision] if bound is None else bound
    if not optimized.disagreement <= limit:
        raise OptimizeError(
            f"the {precision} network's scores differ from the original's by "
            f"{optimized.disagreement:.2g} of their size on {len(pictures)} pictures, more than "
            f"{limit:g}: choose another precision{_advice(precision)}"
        )
    return optimized


def disagreement(net: Block, other: Block, pictures: np.ndarray, batch_size: int = 64) -> float:
    """How far two networks' scores are apart: the norm of the difference over the norm of `net`'s.

    Each picture's mean score is taken off first, since a softmax does not see it.

    Args:
        net: the one to compare with, on any device.
        other: the other one, on the CPU.
        pictures: float32 (N, channels, H, W).
        batch_size: pictures at a time.
    """
    context = next(iter(net.collect_params().values())).list_ctx()[0]
    starts = range(0, len(pictures), batch_size)
    parts = [mx.nd.array(pictures[i : i + batch_size], ctx=mx.cpu()) for i in starts]
    with autograd.pause(train_mode=False):
        expected = np.concatenate([net(x.as_in_context(context)).asnumpy() for x in parts])
        given = np.concatenate([other(x).asnumpy() for x in parts])
    if expected.shape[1] > 1:
        expected = expected - expected.mean(1, keepdims=True)
        given = given - given.mean(1, keepdims=True)
    size = np.linalg.norm(expected)
    return float(np.linalg.norm(given - expected) / size) if size else float("nan")


def _check_precision(precision: str, calibration: Iterable[Any] | None) -> None:
    if precision not in BUILDERS:
        raise ValueError(f"no precision is called {precision!r}; there are: {', '.join(BUILDERS)}")
    if precision == "int8" and calibration is None:
        raise ValueError("int8 needs calibration batches: some hundred of the pictures it will see")
    if not has_onednn():
        raise OptimizeError(
            "this MXNet computes without oneDNN: install the CPU build, and leave "
            "MXNET_MKLDNN_ENABLED unset"
        )
    if precision == "bfloat16" and not cpu_has_bfloat16():
        raise OptimizeError(
            "bfloat16 needs a CPU with avx512_bf16 or amx_bf16, which this one lacks: choose "
            "float32 or int8"
        )


def _advice(precision: str) -> str:
    return ", or calibrate on more pictures of the kind it will see" if precision == "int8" else ""


def _pictures(net: HybridBlock, calibration: Iterable[Any] | None) -> np.ndarray:
    """All calibration pictures as one float32 array."""
    if calibration is None:
        if not isinstance(net, ResidualAttentionNet):
            raise ValueError("give calibration batches: nothing else tells this network's pictures")
        shape = (_RANDOM_PICTURES, net.spec.in_channels, *net.spec.input_size)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)
    batches = [_images(batch) for batch in calibration]
    if not batches or any(batch.ndim != 4 for batch in batches):
        shapes = sorted({batch.shape for batch in batches})
        raise ValueError(f"calibration must be batches (N, channels, H, W), not {shapes}")
    if len({batch.shape[1:] for batch in batches}) > 1:
        shapes = sorted({batch.shape[1:] for batch in batches})
        raise ValueError(f"calibration batches must have one picture size, not {shapes}")
    pictures = np.concatenate(batches)
    if not pictures.size:
        raise ValueError("there are no pictures in the calibration batches")
    if not np.isfinite(pictures).all():
        raise ValueError("calibration pictures must be finite numbers")
    return pictures


def _images(batch: Any) -> np.ndarray:
    if isinstance(batch, (tuple, list)):
        batch = batch[0]
    array = batch.asnumpy() if isinstance(batch, mx.nd.NDArray) else batch
    return np.asarray(array, np.float32)


def _trace(
    net: HybridBlock, precision: str, shape: tuple[int, ...]
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    """The network's graph for pictures of a shape, and copies of its weights."""
    if not isinstance(net, HybridBlock):
        raise ValueError(f"optimize takes a HybridBlock, not {type(net).__name__}")
    mx.nd.waitall()  # Else BatchNorm statistics are stale under static_alloc.
    # The first device's, as MXNet's mean of all would be of other statistics than any has.
    parameters = net.collect_params().values()
    arrays = {p.name: p.list_data()[0].copyto(mx.cpu()) for p in parameters}
    others = {np.dtype(array.dtype).name for array in arrays.values()} - {"float32"}
    if others:
        raise ValueError(
            f"the network has {', '.join(sorted(others))} weights: call its cast('float32') first"
        )
    return _symbol(net, precision, shape), arrays


def _symbol(net: HybridBlock, precision: str, shape: tuple[int, ...]) -> mx.sym.Symbol:
    data = mx.sym.var("data", dtype="float32")
    if not isinstance(net, ResidualAttentionNet):
        symbol = net(data)
        if not isinstance(symbol, mx.sym.Symbol) or len(symbol.list_outputs()) > 1:
            raise ValueError("optimize takes networks of one output: this one has several")
        return symbol
    blocked, net.blocked = net.blocked, precision == "bfloat16"
    try:
        with net.traced_for(shape):
            return net(data)
    finally:
        net.blocked = blocked
