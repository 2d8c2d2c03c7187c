"""What the commands share: their outcome, the flags of a trained network, and its pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gluon_ran.data import Normalization
from gluon_ran.data.pictures import FITS, FORMATS, decode, fit_picture, read_bytes
from gluon_ran.models import Card, WeightsError
from gluon_ran.models.network import check_input_shape
from gluon_ran.training import Trained, find_trained

if TYPE_CHECKING:
    from PIL import Image

# Of those that have several pictures Pillow reads the first; not every Pillow has all of these.
_MORE_FORMATS = ("GIF", "TIFF", "JPEG2000", "AVIF", "ICO", "QOI")


class Outcome(NamedTuple):
    """What a command gave.

    Attributes:
        value: for programs, made of what JSON has.
        text: the same for a terminal.
        problems: what could not be done, a line each; the exit code is then 1.
    """

    value: Any
    text: str
    problems: tuple[str, ...] = ()


def add_model(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds --model, which must be given where it has no default, --checkpoint and --root."""
    parser.add_argument(
        "--model", required=default is None, default=default, metavar="MODEL",
        help="a name of trained weights, a run directory, or a .params file with its card"
        + (f" (default: {default})" if default else ""),
    )  # fmt: skip
    parser.add_argument("--checkpoint", choices=("best", "last"),
                        help="which one of a run directory (default: best)")  # fmt: skip
    add_root(parser)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Adds --root."""
    parser.add_argument(
        "--root", metavar="PLACE",
        help="folder or web address of trained weights, looked in before the package's own "
        "(default: $GLUON_RAN_WEIGHTS)",
    )  # fmt: skip


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --size and --fit."""
    parser.add_argument(
        "--size", type=picture_size, metavar="N",
        help="side in pixels that pictures are brought to, or HxW (default: that of the model's)",
    )  # fmt: skip
    parser.add_argument(
        "--fit", choices=FITS,
        help="how they come to it: crop cuts what is too long, squash changes the shape, pad adds "
        "grey borders (default: as the model was trained, else crop)",
    )  # fmt: skip


def picture_size(text: str) -> tuple[int, int]:
    """Height and width of N or HxW.

    Raises:
        ArgumentTypeError: it is neither.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a side in pixels nor HxW")
    return int(sides[0]), int(sides[-1])


def find_model(args: argparse.Namespace) -> Trained:
    """The trained network that --model and --checkpoint name, with its card.

    Raises:
        WeightsError, RunError, CheckpointError: there is none, or it is damaged; or a file has no
            card.
    """
    checkpoint = getattr(args, "checkpoint", None)  # not every command can choose one
    if checkpoint is not None and not Path(args.model).is_dir():
        raise WeightsError(f"{args.model} is no run: leave out --checkpoint, or give its run")
    if args.root is not None and Path(args.model).exists():
        raise WeightsError(
            f"--root is where a name is looked for, and {args.model} is a file or folder: leave it "
            "out, or name the folder otherwise"
        )
    trained = find_trained(args.model, checkpoint or "best", args.root)
    if trained.card is None and trained.weights.suffix != ".params":
        raise WeightsError(
            f"{trained.weights} is no .params file: give one with its card, a run directory, or a "
            "name of trained weights"
        )
    if trained.card is None:
        raise WeightsError(
            f"{trained.weights} has no card beside it, so nothing tells which network it is of: "
            "write both with gluon_ran.models.save_with_card"
        )
    return trained


class Pictures(NamedTuple):
    """How pictures are read for a network.

    Attributes:
        size: height and width that they are brought to, in pixels.
        fit: how, one of `data.pictures.FITS`.
        normalization: what they are normalised by.
    """

    size: tuple[int, int]
    fit: str
    normalization: Normalization

    def read(self, path: str) -> np.ndarray:
        """A picture file as uint8, (*size, 3).

        Raises:
            DataError: it can't be read or decoded.
        """
        return self.fitted(decoded(path))

    def fitted(self, picture: Image.Image, scale: int = 1) -> np.ndarray:
        """A picture as uint8, (*size, 3), or so many times as high and wide."""
        return fit_picture(picture, tuple(scale * side for side in self.size), self.fit)


def decoded(path: str) -> Image.Image:
    """A picture file of any size, which may be a pipe.

    Raises:
        DataError: it can't be read or decoded.
    """
    return decode(read_bytes(Path(path)), path, picture_formats())


def picture_formats() -> tuple[str, ...]:
    """What a picture file may be, by Pillow's names."""
    from PIL import Image

    Image.init()
    return tuple(name for name in (*FORMATS, *_MORE_FORMATS) if name in Image.OPEN)


def pictures_for(card: Card, args: argparse.Namespace) -> Pictures:
    """How pictures are read, by the card and the flags.

    Raises:
        ValueError: the network does not take pictures of that size, or in colour.
        WeightsError: nothing tells how they are normalised.
    """
    size = args.size or card.size or card.spec.input_size
    if card.spec.in_channels != 3:
        raise ValueError(
            f"{args.model} takes pictures of {card.spec.in_channels} channels, and files are read "
            "as red, green and blue: give it arrays, by the library"
        )
    check_input_shape(card.spec, (1, 3, *size))
    if card.normalization is None:
        raise WeightsError(
            f"the card of {args.model} does not tell how its pictures are normalised: write it "
            "again with a normalization"
        )
    fit = getattr(args, "fit", None)  # not every command has the flag
    return Pictures(size, fit or card.fit or FITS[0], card.normalization)


def sides(size: tuple[int, int]) -> str:
    """A size as HxW."""
    return f"{size[0]}x{size[1]}"
