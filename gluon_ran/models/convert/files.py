"""Converted weights on disk: a `.params` file, and its Spec as JSON beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gluon_ran._files import atomic_path
from gluon_ran.models.convert.mapping import Conversion, convert_arrays
from gluon_ran.models.convert.reading import ConversionError, read_arrays
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import Spec
from gluon_ran.models.weights import load_weights

from mxnet import nd


def convert(path: str | Path, source: str | None = None, **changes: Any) -> Conversion:
    """Reads another implementation's weights.

    Args:
        path: see `read_arrays`.
        source: see `convert_arrays`.
        **changes: see `convert_arrays`.

    Raises:
        ConversionError: the file can't be read, or its arrays are no network that is known.
        ValueError: an unknown Spec field, or a value that it does not take.
    """
    arrays = read_arrays(path)
    try:
        return convert_arrays(arrays, source, **changes)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None


def load_foreign(
    path: str | Path, source: str | None = None, **changes: Any
) -> ResidualAttentionNet:
    """The network of another implementation's weights, ready to run; see `convert`."""
    return convert(path, source, **changes).network()


def save_converted(conversion: Conversion, path: str | Path, force: bool = False) -> Path:
    """Writes the weights to `path`, a `.params` file, and the Spec beside it; the Spec's path.

    Args:
        conversion: what to write.
        path: where.
        force: replace files that are there.

    Raises:
        ConversionError: a file is there already, its folder is not, or `path` does not end in
            `.params`.
    """
    weights, spec = _paths(path)
    for there in (weights, spec):
        if there.exists() and not force:
            raise ConversionError(f"{there} exists already: name another file, or replace it")
    if not weights.parent.is_dir():
        raise ConversionError(f"there is no folder {weights.parent}: make it, or name another")
    arrays = {name: nd.array(array) for name, array in conversion.arrays.items()}
    with atomic_path(weights) as temporary:
        nd.save(str(temporary), arrays)
    with atomic_path(spec) as temporary:
        temporary.write_text(conversion.spec.to_json(), encoding="utf-8")
    return spec


def load_converted(path: str | Path) -> ResidualAttentionNet:
    """The network that `save_converted` wrote to `path`, ready to run.

    Raises:
        ConversionError: the Spec is missing.
        WeightsError: the weights are, or they are another network's.
        ValueError: the Spec is damaged.
    """
    weights, spec = _paths(path)
    if not spec.is_file():
        raise ConversionError(f"there is no Spec {spec}: convert the weights again")
    net = ResidualAttentionNet(Spec.from_json(spec.read_text(encoding="utf-8")))
    load_weights(net, weights)
    return net


def _paths(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    if path.suffix != ".params":
        raise ConversionError(f"{path} does not end in .params, as Gluon's weights do")
    return path, path.with_suffix(".json")
