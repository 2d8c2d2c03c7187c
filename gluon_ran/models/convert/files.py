"""Converted weights on disk: a `.params` file with its card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gluon_ran.models.card import Card, read_card, save_with_card
from gluon_ran.models.convert.mapping import Conversion, convert_arrays
from gluon_ran.models.convert.reading import ConversionError, read_arrays
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.weights import WeightsError, load_weights
from gluon_ran.models.zoo import build

from mxnet import nd
from mxnet.gluon import HybridBlock


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
    """Writes the weights to `path`, a `.params` file, and their card beside it; the card's path.

    Args:
        conversion: what to write.
        path: where.
        force: replace files that are there.

    Raises:
        WeightsError: see `save_with_card`.
    """
    arrays = {name: nd.array(array) for name, array in conversion.arrays.items()}
    return save_with_card(arrays, Card(conversion.spec, conversion.normalization), path, force)


def load_converted(path: str | Path) -> HybridBlock:
    """The network that `save_converted` wrote to `path`, ready to run.

    Raises:
        WeightsError: the weights or their card are missing, damaged or no pair.
    """
    card = read_card(path)
    if card is None and not Path(path).is_file():
        raise WeightsError(f"there are no weights at {path}: check the path")
    if card is None:
        raise WeightsError(f"{path} has no card beside it: convert the weights again")
    net = build(card.spec)
    load_weights(net, path)
    return net
