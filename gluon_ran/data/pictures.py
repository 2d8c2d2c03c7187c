"""Decodes pictures of any mode and size, strictly, and brings them to the size of a network."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Tuple

import numpy as np

from gluon_ran.data.dataset import DataError
from gluon_ran.data.jpeg import JPEG_START, jpeg_end, with_more_data

if TYPE_CHECKING:
    from PIL import Image

FITS = ("crop", "squash", "pad")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")

# Mid-grey: near the mean of most data sets, so near what normalisation makes zero.
_BORDER = (128, 128, 128)
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
# By its value, what Pillow's `transpose` takes.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_PNG_DEPTH = 24  # where a PNG has its bits a channel

# Gives the least side that a picture of some (width, height) may be decoded to.
LeastSide = Callable[[Tuple[int, int]], float]


class _Strict:
    """Holds Pillow's switch for half pictures off while any thread decodes."""

    lock = threading.Lock()
    threads = 0
    before = False


def read_bytes(path: Path) -> bytes:
    """The contents of a file.

    Raises:
        DataError: it can't be read.
    """
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: give a file in it") from None
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}): check path and rights") from None


def decode(
    encoded: bytes,
    where: object,
    formats: tuple[str, ...] = FORMATS,
    at_least: int | LeastSide = 0,
) -> Image.Image:
    """Decodes a picture, upright as its EXIF data say, to RGB as `to_rgb` does.

    Args:
        encoded: the file's contents.
        where: the file, for the message.
        formats: what it may be, of `FORMATS`.
        at_least: a JPEG may come smaller by a whole factor, with no side below this, in pixels, or
            below what this gives for its (width, height) as stored; 0: it may not.

    Raises:
        DataError: it is of none of the formats, damaged or cut short.
    """
    from PIL import UnidentifiedImageError

    if not encoded:
        raise DataError(f"{where}: its picture can't be decoded (it is empty); make the file again")
    end = jpeg_end(encoded) if encoded.startswith(JPEG_START) else 0
    if end is None:
        raise DataError(f"{where}: its JPEG is cut short or damaged; copy or make the file again")
    try:
        picture = _load(encoded, formats, at_least)
        if end and _ends_grey(picture):
            padded = _load(with_more_data(encoded, end), formats, at_least)
            if not np.array_equal(np.asarray(padded), np.asarray(picture)):
                raise DataError(f"{where}: its JPEG lacks data; copy or make the file again")
        return to_rgb(_upright(picture))
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:  # its own message names an object in memory
        reason = f"it is no {', '.join(formats[:-1])} or {formats[-1]}"
    except Exception as error:  # Pillow answers damage with errors of many kinds
        reason = str(error)
    raise DataError(
        f"{where}: its picture can't be decoded ({reason}); copy or make the file again"
    )


@contextmanager
def _strictly() -> Iterator[None]:
    """Has Pillow refuse what is cut short, which GluonCV's import switches off for all."""
    from PIL import ImageFile

    with _Strict.lock:
        if not _Strict.threads:
            _Strict.before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _Strict.threads += 1
    try:
        yield
    finally:
        with _Strict.lock:
            _Strict.threads -= 1
            if not _Strict.threads:
                ImageFile.LOAD_TRUNCATED_IMAGES = _Strict.before


def _load(encoded: bytes, formats: tuple[str, ...], at_least: int | LeastSide) -> Image.Image:
    from PIL import Image

    with _strictly(), Image.open(io.BytesIO(encoded), formats=formats) as picture:
        side = math.ceil(at_least(picture.size)) if callable(at_least) else at_least
        if side:
            picture.draft(None, (side, side))
        picture.load()
        return picture


def _upright(picture: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose writes the EXIF data anew, and fails where they are damaged.
    turn = _TURNS.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damage there, to which Pillow has errors of many kinds, is none of pixels
        return 1


def _ends_grey(picture: Image.Image) -> bool:
    """Whether the last pixel has the colour that a decoder gives to what is missing."""
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    # Of CMYK Pillow turns the values round.
    return set(last if isinstance(last, tuple) else (last,)) <= {127, 128}


def to_rgb(picture: Image.Image) -> Image.Image:
    """Brings a picture of any mode to RGB.

    Grey becomes three equal channels, of 16 bits by scaling, not by a cut; what is transparent
    shows white behind it.

    Raises:
        ValueError: the pixels are floating-point numbers, whose range is unknown.
    """
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("floating-point numbers have no known range")
    if picture.mode.startswith("I"):  # Pillow's own conversion cuts at 255
        deep = np.clip(np.asarray(picture), 0, 65535).astype(np.uint32)
        transparent = picture.info.get("transparency")
        if isinstance(transparent, int):
            deep[deep == transparent] = 65535
        picture = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def is_plain(encoded: bytes) -> bool:
    """Whether a picture that `decode` takes is a JPEG or PNG that every reader decodes alike.

    It is RGB or grey, of 8 bits, opaque, and upright without EXIF data to say so.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as picture:
        return (
            picture.format in ("JPEG", "PNG")
            and picture.mode in ("RGB", "L")
            and (picture.format, encoded[_PNG_DEPTH]) != ("PNG", 16)
            and "transparency" not in picture.info
            and _orientation(picture) == 1
        )


def fit_picture(picture: Image.Image, size: tuple[int, int], fit: str) -> np.ndarray:
    """Brings an RGB picture to a size, bilinearly and averaging where it shrinks.

    Args:
        picture: of any size.
        size: height and width, in pixels.
        fit: 'crop' keeps the shape and cuts what is too long, evenly on both sides; 'squash'
            changes the shape and keeps all; 'pad' keeps shape and all, with mid-grey borders.

    Returns:
        uint8, (*size, 3).
    """
    from PIL import Image

    target, source = np.array(size[::-1]), np.array(picture.size)
    if fit == "pad":
        inner = np.maximum(np.rint(source * (target / source).min()), 1).astype(int)
        canvas = Image.new("RGB", size[::-1], _BORDER)
        left, top = (target - inner) // 2
        canvas.paste(picture.resize(tuple(inner.tolist()), Image.BILINEAR), (int(left), int(top)))
        return np.asarray(canvas)
    kept = np.minimum(target / (target / source).max(), source) if fit == "crop" else source
    corner = (source - kept) / 2
    box = (*corner.tolist(), *np.minimum(corner + kept, source).tolist())
    return resized_crop(picture, box, size)


def resized_crop(
    picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """Brings a part of an RGB picture to a size, bilinearly and averaging where it shrinks.

    Args:
        picture: of any size.
        box: the part's left, top, right and bottom, in pixels and fractions of them.
        size: height and width, in pixels.

    Returns:
        uint8, (*size, 3).
    """
    from PIL import Image

    left, top, right, bottom = box
    if (bottom - top, right - left) == size and left == int(left) and top == int(top):
        return np.asarray(picture.crop((int(left), int(top), int(right), int(bottom))))
    return np.asarray(picture.resize(size[::-1], Image.BILINEAR, box=box))


def crop_to_width(
    picture: Image.Image, box: tuple[int, int, int, int], width: int, mirrored: bool
) -> np.ndarray:
    """Brings a part of an RGB picture to a width, as `resized_crop` does, and keeps its height.

    Args:
        picture: of any size.
        box: the part's left, top, right and bottom, in pixels.
        width: in pixels.
        mirrored: whether left and right are exchanged.

    Returns:
        uint8, (bottom - top, width, 3).
    """
    from PIL import Image, ImageOps

    part = picture.crop(box)
    part = part.resize((width, part.height), Image.BILINEAR)
    return np.asarray(ImageOps.mirror(part) if mirrored else part)


def checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width from either, or from one side of a square.

    Raises:
        DataError: not one or two whole numbers of pixels above 0.
    """
    sides = tuple(size) if isinstance(size, Iterable) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise DataError(f"the size of pictures is {size!r}: give one side, or height and width")
    return int(sides[0]), int(sides[1])


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises DataError where a setting is not one of its choices."""
    if value not in choices:
        raise DataError(f"{name} {value!r} is unknown: choose from {', '.join(choices)}")
