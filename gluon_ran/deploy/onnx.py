"""Networks as ONNX files, each proved by the scores that ONNX Runtime gives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_path
from gluon_ran.data.pictures import checked_size
from gluon_ran.deploy.onnx_model import INPUT, OUTPUT, ExportError, onnx_model
from gluon_ran.models import Card, ResidualAttentionNet, WeightsError
from gluon_ran.models.by_name import computing
from gluon_ran.models.network import check_input_shape
from gluon_ran.training import find_trained

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter

TOLERANCE = 1e-4
MAX_BYTES = 2**31 - 1  # of any protobuf message, so of an ONNX file


def export_onnx(
    network: HybridBlock | str | Path,
    path: str | Path,
    input_size: int | tuple[int, int] | None = None,
    *,
    dynamic_batch: bool = True,
    card: Card | None = None,
) -> Path:
    """Writes a network to an ONNX file, and proves that ONNX Runtime gives its scores.

    The input "images" is float32 (N, channels, H, W), normalised; the output "scores" is
    (N, classes), or the embedding of a network without classes. The file's metadata hold as JSON
    what a program that serves it needs, as far as the card tells: "normalization" (mean and std of
    RGB of 0 to 255: (x - mean) / std), "class_names", "fit" (see `Card`), "spec".

    Args:
        network: an initialised float32 network of one input and one output; or a run directory or
            weights file that tells its network (see `training.find_trained`).
        path: where to write; a file that is there is replaced.
        input_size: side, or height and width, of the pictures; None: those of the card, else the
            network's own.
        dynamic_batch: take any N, else one picture at a time.
        card: what the metadata say; that of a run directory or weights file if None.

    Returns:
        `path`.

    Raises:
        ExportError: onnx or onnxruntime is missing, the network has an operator that the exporter
            lacks, no weights or too many, `path` can't be written, or the file's scores differ by
            more than 1e-4 of the greatest.
        ValueError: a size that the network or its mean picture does not take, a card of another
            network, or a file that tells no network.
    """
    onnx, runtime = _import_onnx()
    if not isinstance(network, HybridBlock):
        network, card = _load(network, card)
    shape = _picture_shape(network, input_size, card)
    metadata = _metadata(network, card, shape[1:])
    parameters = _parameters(network)
    path = Path(path)
    with _new_file(path) as temporary:
        model = onnx_model(network, parameters, shape, "N" if dynamic_batch else 1)
        onnx.helper.set_model_props(model, metadata)
        temporary.write_bytes(model.SerializeToString())
        del model  # as large as the network, and so is each of what follows
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"MXNet wrote no valid ONNX of this network: {error}") from None
        _compare(runtime, temporary, network, shape, (1, 3) if dynamic_batch else (1,))
    return path


def _import_onnx() -> tuple[ModuleType, ModuleType]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            f"ONNX files need the packages onnx and onnxruntime ({error}): "
            "pip install 'gluon_ran[onnx]'"
        ) from None
    return onnx, onnxruntime


def _load(path: str | Path, card: Card | None) -> tuple[HybridBlock, Card]:
    trained = find_trained(path)
    if trained.card is None:
        raise WeightsError(
            f"nothing tells which network {path} is of: load it, and export the network"
        )
    return trained.network(), card or trained.card


def _picture_shape(
    network: HybridBlock, size: int | tuple[int, int] | None, card: Card | None
) -> tuple[int, int, int]:
    """Channels, height and width."""
    spec = getattr(network, "spec", None) or (card.spec if card is not None else None)
    if size is None and card is not None:
        size = card.size
    if size is None and spec is None:
        raise ExportError("nothing tells the size of the pictures: give input_size")
    height, width = checked_size(spec.input_size if size is None else size)
    shape = (3 if spec is None else spec.in_channels, height, width)
    if isinstance(network, ResidualAttentionNet):
        check_input_shape(spec, (1, *shape))
    return shape


def _metadata(network: HybridBlock, card: Card | None, size: tuple[int, int]) -> dict[str, str]:
    spec = getattr(network, "spec", None)
    if card is None:
        return {} if spec is None else {"spec": json.dumps(json.loads(spec.to_json()))}
    if spec is not None and computing(spec) != computing(card.spec):
        raise ValueError(
            f"the card is of another network than the one given, {spec.name}: give the card of its "
            "weights, or none"
        )
    if card.normalization is not None:
        card.normalization.check_size(size)
    told = {
        "spec": json.loads(card.spec.to_json()),
        "normalization": card.normalization and card.normalization.to_json(),
        "class_names": card.class_names,
        "fit": card.fit,
    }
    return {name: json.dumps(value) for name, value in told.items() if value}


def _parameters(network: HybridBlock) -> dict[str, Parameter]:
    """The network's parameters by structural name, ready to be read."""
    parameters = network._collect_params_with_prefix()
    for name, parameter in parameters.items():
        if parameter._data is None:
            raise ExportError(f"{name} has no values: initialize() the network or load its weights")
        if np.dtype(parameter.dtype) != np.float32:
            raise ExportError(
                f"{name} is {np.dtype(parameter.dtype)}, and files are written of float32 "
                "networks: cast('float32') it first"
            )
    size = sum(4 * int(np.prod(parameter.shape)) for parameter in parameters.values())
    if size > MAX_BYTES:
        raise ExportError(
            f"the network's weights take {size:,} bytes, and an ONNX file can hold {MAX_BYTES:,}: "
            "export a smaller network"
        )
    mx.nd.waitall()  # Else BatchNorm statistics are stale under static_alloc.
    return parameters


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` at the end; fails at once where it can't."""
    if os.path.isdir(path):
        raise ExportError(f"{path} is a folder: name a file in it")
    try:
        with atomic_path(path) as temporary:
            temporary.touch()
            yield temporary
    except OSError as error:
        raise ExportError(f"{path} can't be written: {error.strerror}") from None


def _compare(
    runtime: ModuleType,
    path: Path,
    network: HybridBlock,
    shape: tuple[int, int, int],
    batches: tuple[int, ...],
) -> None:
    """Has ONNX Runtime score random pictures as the network does."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in batches:
        images = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
        scores = _scores(network, images)
        if not np.isfinite(scores).all():
            raise ExportError("the network's scores are not finite: export weights that are")
        difference = _difference(session.run([OUTPUT], {INPUT: images})[0], scores)
        if not difference <= TOLERANCE:
            own = _difference(_scores(network, np.nextafter(images, np.float32(0))), scores)
            raise ExportError(
                f"ONNX Runtime's scores differ by {difference:.1e} of the greatest from MXNet's, "
                f"more than {TOLERANCE}: nothing is written. Pictures that differ in the last bit "
                f"change MXNet's by {own:.1e}; if that is much too, the weights magnify rounding, "
                "as untrained ones do in deep networks: export trained ones"
            )


def _scores(network: HybridBlock, images: np.ndarray) -> np.ndarray:
    context = next(iter(network.collect_params().values())).list_ctx()[0]
    with autograd.pause(train_mode=False):
        return network(mx.nd.array(images, ctx=context)).asnumpy()


def _difference(scores: np.ndarray, expected: np.ndarray) -> float:
    """The greatest difference over the greatest magnitude."""
    return np.abs(scores - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny)
