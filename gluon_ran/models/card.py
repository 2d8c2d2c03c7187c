"""A file of weights with a card beside it: NAME.json says what NAME.params is the weights of.

Arrays alone don't tell a network from another with the same arrays, nor what its pictures are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_paths, sha256_of
from gluon_ran.data import Normalization
from gluon_ran.data.pictures import FITS, check_choice, checked_size
from gluon_ran.models.baseline import Baseline
from gluon_ran.models.params_file import write_params_file
from gluon_ran.models.spec import Spec
from gluon_ran.models.weights import WeightsError
from gluon_ran.models.zoo import spec_from_json

from mxnet import nd
from mxnet.gluon import HybridBlock

# What float16 may change of an array, in norm; rounding changes at most half of it.
_LOST = 2**-10


@dataclass(frozen=True, eq=False)
class Card:
    """What weights are of.

    Attributes:
        spec: the network.
        normalization: what its pictures are normalised by; None where that is not known.
        class_names: one name a class; empty where they are not known.
        size: height and width of the pictures, in pixels, or one side of squares, which becomes
            both; None where they are not known.
        fit: how pictures of other sizes come to it, one of `data.pictures.FITS`; None where that is
            not known.
        training: how the weights were trained and how good they are, as an object of JSON; None
            where that is not known. `benchmarks/package_weights.py` writes one.

    Raises:
        ValueError: there are other than `spec.classes` class names, `size` or `fit` is none, or
            `training` is no object.
    """

    spec: Spec | Baseline
    normalization: Normalization | None = None
    class_names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    fit: str | None = None
    training: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.class_names and len(self.class_names) != self.spec.classes:
            raise ValueError(
                f"{len(self.class_names)} class names for {self.spec.classes} classes: give a name "
                "for each, or none"
            )
        if self.size is not None:
            object.__setattr__(self, "size", checked_size(self.size))
        if self.fit is not None:
            check_choice("fit", self.fit, FITS)
        if self.training is not None and not isinstance(self.training, Mapping):
            raise ValueError(f"training is an object of JSON, not {self.training!r}")


def save_with_card(
    weights: HybridBlock | Mapping[str, nd.NDArray],
    card: Card,
    path: str | Path,
    force: bool = False,
    half: bool = False,
) -> Path:
    """Writes weights to `path`, a `.params` file, and their card beside it; the card's path.

    Args:
        weights: an initialised network, or arrays by their names in `save_parameters`.
        card: what they are of.
        path: where.
        force: replace files that are there.
        half: write float32 arrays in float16, all but those of one axis, which are few (scales,
            shifts and running statistics), and those of which it would change more than a
            thousandth, as where numbers overflow. `load_weights` brings them back to float32.

    Raises:
        WeightsError: a file is there already, its folder is not, or `path` does not end in
            `.params`.
    """
    path = Path(path)
    beside = card_path(path)
    for there in (path, beside):
        if there.exists() and not force:
            raise WeightsError(f"{there} exists already: name another file, or replace it")
    if not path.parent.is_dir():
        raise WeightsError(f"there is no folder {path.parent}: make it, or name another")
    with atomic_paths(beside, path) as (new_card, new_weights):
        if isinstance(weights, HybridBlock):
            nd.waitall()  # Else stale BatchNorm statistics are written under static_alloc.
            named = weights._collect_params_with_prefix()
            # The first device's: MXNet's mean of all would be of other statistics than any has.
            weights = {name: parameter.list_data()[0] for name, parameter in named.items()}
        write_params_file(new_weights, _halved(weights) if half else weights)
        new_card.write_text(_as_json(card, sha256_of(new_weights)), encoding="utf-8")
    return beside


def _as_json(card: Card, checksum: str) -> str:
    normalization = card.normalization
    content = {
        "sha256": checksum,
        "spec": json.loads(card.spec.to_json()),
        "normalization": None if normalization is None else normalization.to_json(),
        "class_names": list(card.class_names),
        "size": card.size,
        "fit": card.fit,
    }
    if card.training is not None:
        content["training"] = dict(card.training)
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _halved(weights: Mapping[str, nd.NDArray]) -> dict[str, np.ndarray]:
    return {name: _in_halves(array.asnumpy()) for name, array in weights.items()}


def _in_halves(array: np.ndarray) -> np.ndarray:
    """The array in float16, or as it is where it would not survive that."""
    if array.dtype != np.float32 or array.ndim == 1:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        half = array.astype(np.float16)
        lost = np.linalg.norm((half - array).astype(np.float64))
    return half if lost <= _LOST * np.linalg.norm(array.astype(np.float64)) else array


def read_card(path: str | Path) -> Card | None:
    """The card beside a `.params` file; None where there is none.

    Raises:
        WeightsError: the card is damaged, or not the one of these weights.
    """
    weights = Path(path)
    beside = card_path(weights)
    if not beside.is_file():
        return None
    if not weights.is_file():
        raise WeightsError(f"there are no weights at {weights}, only their card: check the path")
    try:
        card, checksum = parse_card(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{beside} is no card of weights, or damaged ({error}): write {weights.name} and its "
            "card again, or take that file away to go without"
        ) from None
    try:
        found = sha256_of(weights)
    except OSError as error:
        raise WeightsError(
            f"{weights} can't be read ({error.strerror}): check its rights, or take it away"
        ) from None
    if found != checksum:
        raise WeightsError(
            f"{beside} is the card of other weights than {weights}, their SHA-256 differ: write or "
            "copy both again"
        )
    return card


def parse_card(text: str) -> tuple[Card, str]:
    """A card, and the SHA-256 of its weights.

    Raises:
        ValueError: the text is none.
    """
    try:
        content = json.loads(text)
        normalization = content["normalization"]
        card = Card(
            spec_from_json(json.dumps(content["spec"])),
            None if normalization is None else Normalization.from_json(normalization),
            tuple(map(str, content["class_names"])),
            None if content["size"] is None else tuple(content["size"]),
            content["fit"],
            content.get("training"),  # older cards have none
        )
        if not re.fullmatch("[0-9a-f]{64}", content["sha256"]):
            raise ValueError(f"its SHA-256 is {content['sha256']!r}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return card, content["sha256"]


def card_path(weights: Path) -> Path:
    """Where the card of a `.params` file lies.

    Raises:
        WeightsError: the name ends otherwise.
    """
    if weights.suffix != ".params":
        raise WeightsError(f"{weights} does not end in .params, as Gluon's weights do")
    return weights.with_suffix(".json")
