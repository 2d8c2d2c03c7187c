"""Trained weights by name: those that come with the package, and those of a root of one's own.

Each NAME.params has its card NAME.json beside it, which says what network it is of and has its
SHA-256; whatever else lies there is refused. A root is a folder, or a base address on the web.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Union
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

from gluon_ran._files import write_text
from gluon_ran.data import DataError
from gluon_ran.data.download import download, download_text, mxnet_home
from gluon_ran.models.baseline import BASELINES
from gluon_ran.models.card import Card, card_path, parse_card, read_card
from gluon_ran.models.specs import SPECS
from gluon_ran.models.weights import WeightsError
from gluon_ran.models.zoo import did_you_mean

VARIABLE = "GLUON_RAN_WEIGHTS"
PACKAGED = Path(__file__).resolve().parents[1] / "weights"

_log = logging.getLogger(__name__)

# Of an address that is quoted already, or needs none.
_UNQUOTED = "/%:@!$&'()*+,;=~"

# A folder, or a base address without the slash at its end.
_Place = Union[Path, str]


def list_pretrained(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Names that there are trained weights for.

    Args:
        root: see `find_pretrained`. A base address can't be listed, so of one these are the names
            that were downloaded so far.

    Raises:
        WeightsError: the root is no folder and no address.
    """
    folders = map(_folder_of, _places(root))
    return sorted({name for folder in folders for name in _names_in(folder)})


def find_pretrained(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """The file of trained weights, proved by the SHA-256 in the card beside it.

    Args:
        name: one of `list_pretrained(root)`, or any other that the base address has.
        root: where to look before the package's own weights: a folder of NAME.params and
            NAME.json, as `save_with_card` writes them; or the address, http:// or https://, of
            such a folder on the web, from which both are downloaded once, to MXNet's folder
            (`$MXNET_HOME` or ~/.mxnet). file:// is the folder itself. None: what the environment
            variable GLUON_RAN_WEIGHTS names, if it is set.

    Raises:
        WeightsError: there are none of that name, they are damaged, without a card or with that of
            others, or can't be downloaded; what lies in MXNet's folder and is damaged is downloaded
            again first.
    """
    found = locate(name, root)
    if found is None:
        raise no_weights(name, root)
    return found[0]


def locate(
    name: str, root: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[Path, Card] | None:
    """`find_pretrained` with the card; None where there are no weights of that name.

    Without `download`, of an address only what was downloaded before.
    """
    if not re.fullmatch(r"[^./\\][^/\\]*", name):
        return None
    for place in _places(root):
        if download and not isinstance(place, Path):
            found = _at_address(name, place)
        else:
            found = _in_folder(name, _folder_of(place))
        if found is not None:
            return found
    return None


def no_weights(name: str, root: str | os.PathLike[str] | None = None) -> WeightsError:
    """The error that there are no weights of a name, with the names of those that there are."""
    names = list_pretrained(root)
    looked = " and ".join(map(_described, _places(root)))
    there = f"there are for {', '.join(names)}" if names else "there are none at all"
    hint = "" if name in SPECS or name in BASELINES else did_you_mean(name, names)
    return WeightsError(f"there are no weights for {name!r} in {looked}; {there}{hint}")


def _places(root: str | os.PathLike[str] | None) -> list[_Place]:
    """Where to look, in this order."""
    variable = os.environ.get(VARIABLE)
    if root is not None:
        return [_place(os.fspath(root), "root"), PACKAGED]
    return [_place(variable, VARIABLE), PACKAGED] if variable else [PACKAGED]


def _place(text: str, source: str) -> _Place:
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.netloc and not parts.query + parts.fragment:
            return urlunsplit((*parts[:2], quote(parts.path, _UNQUOTED), "", "")).rstrip("/")
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise WeightsError(
                f"{source} is {text!r}: give a folder, or an address that begins with http://, "
                "https:// or file:/// and has neither ? nor #"
            )
        text = url2pathname(parts.path)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"{source}: there is no folder of weights at {folder}: check the path")
    return folder


def _described(place: _Place) -> str:
    if place == PACKAGED:
        return "the package"
    return str(place) if isinstance(place, Path) else f"{place} (which can't be listed)"


def _folder_of(place: _Place) -> Path:
    """The folder itself, or the one that an address's files are kept in."""
    if isinstance(place, Path):
        return place
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", place.partition("://")[2])[:60]
    digest = hashlib.sha256(place.encode()).hexdigest()
    return mxnet_home() / "models" / "gluon_ran" / f"{readable}-{digest[:12]}"


def _names_in(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("[!.]*.params") if card_path(path).is_file()]


def _in_folder(name: str, folder: Path) -> tuple[Path, Card] | None:
    weights = folder / f"{name}.params"
    if not weights.is_file() and not card_path(weights).is_file():
        return None
    card = read_card(weights)
    if card is None:
        raise WeightsError(
            f"{weights} has no card beside it, so nothing tells its network or proves it whole: "
            "write both with save_with_card"
        )
    return weights, card


def _at_address(name: str, address: str) -> tuple[Path, Card] | None:
    folder, damage = _folder_of(address), ""
    try:
        found = _in_folder(name, folder)
        if found is not None:
            return found
    except WeightsError as error:
        damage = str(error)
        _log.warning("downloaded again: %s", damage)
    here = f" (what was there before is of no use: {damage})" if damage else ""
    try:
        found = _downloaded(name, address, folder)
    except (DataError, OSError) as error:
        raise WeightsError(f"{error}{here}") from None
    if found is None and damage:
        raise WeightsError(f"{address} has no weights {name!r} any more{here}")
    return found


def _downloaded(name: str, address: str, folder: Path) -> tuple[Path, Card] | None:
    """Downloads the weights that the address's card names, then keeps the card."""
    url = f"{address}/{quote(name)}"
    text = download_text(f"{url}.json")
    if text is None:
        return None
    try:
        _, checksum = parse_card(text)
    except ValueError as error:
        raise WeightsError(
            f"{url}.json is no card of weights ({error}): check the address"
        ) from None
    weights = download(f"{url}.params", folder / f"{name}.params", checksum)
    write_text(card_path(weights), text)
    return _in_folder(name, folder)
