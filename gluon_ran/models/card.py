"""A file of weights with a card beside it: NAME.json says what NAME.params is the weights of.

Arrays alone don't tell a network from another with the same arrays, nor what its pictures are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_path, sha256_of
from gluon_ran.data import Normalization
from gluon_ran.data.pictures import FITS, check_choice, checked_size
from gluon_ran.models.baseline import Baseline
from gluon_ran.models.params_file import write_params_file
from gluon_ran.models.spec import Spec
from gluon_ran.models.weights import WeightsError
from gluon_ran.models.zoo import spec_from_json

from mxnet import nd
from mxnet.gluon import HybridBlock


@dataclass(frozen=True, eq=False)
class Card:
    """What weights are of.

    Attributes:
        spec: the network.
        normalization: what its pictures are normalised by; None where that is not known.
        class_names: one name a class; empty where they are not known.
        size: height and width of the pictures, in pixels; None where they are not known.
        fit: how pictures of other sizes come to it, one of `data.pictures.FITS`; None where that is
            not known.

    Raises:
        ValueError: there are other than `spec.classes` class names.
    """

    spec: Spec | Baseline
    normalization: Normalization | None = None
    class_names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    fit: str | None = None

    def __post_init__(self) -> None:
        if self.class_names and len(self.class_names) != self.spec.classes:
            raise ValueError(
                f"{len(self.class_names)} class names for {self.spec.classes} classes: give a name "
                "for each, or none"
            )


def save_with_card(
    weights: HybridBlock | Mapping[str, nd.NDArray],
    card: Card,
    path: str | Path,
    force: bool = False,
) -> Path:
    """Writes weights to `path`, a `.params` file, and their card beside it; the card's path.

    Args:
        weights: an initialised network, or arrays by their names in `save_parameters`.
        card: what they are of.
        path: where.
        force: replace files that are there.

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
    with atomic_path(path) as new_weights, atomic_path(beside) as new_card:
        if isinstance(weights, HybridBlock):
            nd.waitall()  # Else stale BatchNorm statistics are written under static_alloc.
            named = weights._collect_params_with_prefix()
            weights = {name: parameter._reduce() for name, parameter in named.items()}
        write_params_file(new_weights, weights)
        normalization = card.normalization
        content = {
            "sha256": sha256_of(new_weights),
            "spec": json.loads(card.spec.to_json()),
            "normalization": None if normalization is None else normalization.to_json(),
            "class_names": list(card.class_names),
            "size": card.size,
            "fit": card.fit,
        }
        new_card.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return beside


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
        content = json.loads(beside.read_text(encoding="utf-8"))
        normalization = content["normalization"]
        card = Card(
            spec_from_json(json.dumps(content["spec"])),
            None if normalization is None else Normalization.from_json(normalization),
            tuple(map(str, content["class_names"])),
            None if content["size"] is None else checked_size(tuple(content["size"])),
            content["fit"],
        )
        if card.fit is not None:
            check_choice("fit", card.fit, FITS)
        checksum = content["sha256"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{beside} is no card of weights, or damaged ({type(error).__name__}: {error}): write "
            f"{weights.name} and its card again, or take that file away to go without"
        ) from None
    if sha256_of(weights) != checksum:
        raise WeightsError(
            f"{beside} is the card of other weights than {weights}, their SHA-256 differ: write or "
            "copy both again"
        )
    return card


def card_path(weights: Path) -> Path:
    """Where the card of a `.params` file lies.

    Raises:
        WeightsError: the name ends otherwise.
    """
    if weights.suffix != ".params":
        raise WeightsError(f"{weights} does not end in .params, as Gluon's weights do")
    return weights.with_suffix(".json")
