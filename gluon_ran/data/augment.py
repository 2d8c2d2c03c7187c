"""Augments whole batches of uint8 pictures; every choice comes from an explicit generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gluon_ran.data.dataset import DataError

CROP_MODES = ("reflect", "zero")
FLIPS = ("none", "random", "alternating")


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are varied; the defaults are those of CIFAR.

    Attributes:
        crop_padding: pixels added on each side before a crop of the old size at random; 0: none.
        crop_mode: what is added: 'reflect' (the mirrored picture) or 'zero' (what normalisation
            brings to about zero, the mean colour).
        flip: 'none', 'random' (left and right exchanged in half of the pictures) or 'alternating'
            (drawn once a picture, then exchanged every other epoch, so that two epochs show both;
            after Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024).
        cutout: side of the square that is filled with the mean colour, in pixels; its centre is
            anywhere in the picture, so a part may fall outside (DeVries and Taylor, 2017); 0: none.
        rotation: the most degrees that a picture is turned either way; 0: none.

    Raises:
        DataError: a setting has no meaning.
    """

    crop_padding: int = 4
    crop_mode: str = "reflect"
    flip: str = "random"
    cutout: int = 0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for field, choices in (("crop_mode", CROP_MODES), ("flip", FLIPS)):
            if getattr(self, field) not in choices:
                raise DataError(
                    f"{field} {getattr(self, field)!r} is unknown: choose from {', '.join(choices)}"
                )
        for field in ("crop_padding", "cutout"):
            value = getattr(self, field)
            if not isinstance(value, (int, np.integer)) or value < 0:
                raise DataError(f"{field} must be a whole number of pixels from 0, not {value!r}")
        if not 0 <= self.rotation <= 180:
            raise DataError(f"rotation must be 0 to 180 degrees, not {self.rotation!r}")


def augment(
    images: np.ndarray,
    settings: Augmentation,
    rng: np.random.Generator,
    *,
    fill: np.ndarray | int = 0,
    flipped: np.ndarray | None = None,
    together: int | None = None,
    share: slice = slice(None),
) -> np.ndarray:
    """Varies a batch: turns, crops, flips, then cuts out.

    Args:
        images: uint8, (B, H, W, 3); left as it is.
        settings: what to do.
        rng: where the choices come from.
        fill: uint8 colour, (3,), of 'zero' borders and of cutout.
        flipped: bool, (B,): which pictures 'alternating' exchanges; it needs them, no other does.
        together: pictures of the larger batch that choices are made for; None: this is all of it.
        share: which of these are `images`.

    Returns:
        uint8, (B, H, W, 3), new.

    Raises:
        DataError: the crop's border is too wide to mirror, or `flipped` is missing.
    """
    height, width = images.shape[1:3]
    count = len(images) if together is None else together
    if settings.rotation:
        images = rotate(images, rng.uniform(-settings.rotation, settings.rotation, count)[share])
    if settings.crop_padding:
        shifts = rng.integers(0, 2 * settings.crop_padding + 1, (2, count))[:, share]
        padded = pad(images, settings.crop_padding, settings.crop_mode, fill)
        images = crop(padded, shifts[0], shifts[1], (height, width))
    else:
        images = images.copy()
    if settings.flip == "random":
        flipped = rng.random(count)[share] < 0.5
    elif settings.flip == "alternating" and flipped is None:
        raise DataError("flip='alternating' needs `flipped`: which pictures to exchange this epoch")
    if settings.flip != "none":
        images[flipped] = images[flipped, :, ::-1]
    if settings.cutout:
        centres = rng.integers(0, (height, width), (count, 2))[share]
        cut_out(images, centres[:, 0], centres[:, 1], settings.cutout, fill)
    return images


def pad(images: np.ndarray, width: int, mode: str, fill: np.ndarray | int = 0) -> np.ndarray:
    """Adds `width` pixels, mirrored or of colour `fill`, on each side of (B, H, W, 3) pictures."""
    if mode == "reflect":
        if width >= min(images.shape[1:3]):
            raise DataError(
                f"crop_padding {width} is too wide to mirror pictures of "
                f"{images.shape[1]}x{images.shape[2]}: choose less"
            )
        return np.pad(images, ((0, 0), (width, width), (width, width), (0, 0)), mode="reflect")
    count, rows, columns, channels = images.shape
    padded = np.empty((count, rows + 2 * width, columns + 2 * width, channels), np.uint8)
    # By rows: NumPy is slow at repeating as little as three bytes.
    row = np.empty((columns + 2 * width, channels), np.uint8)
    row[:] = fill
    padded.reshape(count, rows + 2 * width, row.size)[:] = row.ravel()
    padded[:, width : width + rows, width : width + columns] = images
    return padded


def crop(
    images: np.ndarray, tops: np.ndarray, lefts: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Cuts from each picture the window of `size` with its corner at (`tops`, `lefts`), (B,)."""
    channels = images.shape[3]
    windows = sliding_window_view(images, (*size, channels), axis=(1, 2, 3))[:, :, :, 0]
    return windows[np.arange(len(images)), tops, lefts]


def cut_out(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray, side: int, fill: np.ndarray | int
) -> None:
    """Fills, in place, a square of `side` pixels around (`rows`, `columns`), each (B,)."""

    def covered(centres: np.ndarray, length: int) -> np.ndarray:
        distance = np.arange(length) - (centres[:, None] - side // 2)
        return (distance >= 0) & (distance < side)

    hidden = covered(rows, images.shape[1])[:, :, None] & covered(columns, images.shape[2])[:, None]
    images[hidden] = fill


def rotate(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Turns each picture about its centre, bilinearly; its edge goes on into the corners.

    Args:
        images: uint8, (B, H, W, 3).
        degrees: (B,), anticlockwise.

    Returns:
        uint8, (B, H, W, 3).
    """
    count, height, width, channels = images.shape
    cosine = np.cos(np.deg2rad(degrees))[:, None, None]
    sine = np.sin(np.deg2rad(degrees))[:, None, None]
    down = (np.arange(height) - (height - 1) / 2)[None, :, None]
    right = (np.arange(width) - (width - 1) / 2)[None, None, :]
    y = np.clip(cosine * down + sine * right + (height - 1) / 2, 0, height - 1)
    x = np.clip(cosine * right - sine * down + (width - 1) / 2, 0, width - 1)
    top = np.minimum(y.astype(np.int64), max(height - 2, 0))
    left = np.minimum(x.astype(np.int64), max(width - 2, 0))
    low, far = ((y - top).astype(np.float32), (x - left).astype(np.float32))
    first = (np.arange(count)[:, None, None] * height + top) * width + left
    pixels = images.reshape(-1, channels)
    step_down, step_right = width * (height > 1), int(width > 1)
    turned = np.full((count, height, width, channels), 0.5, np.float32)
    for offset, weight in (
        (0, (1 - low) * (1 - far)),
        (step_right, (1 - low) * far),
        (step_down, low * (1 - far)),
        (step_down + step_right, low * far),
    ):
        turned += pixels[first + offset] * weight[..., None]
    return turned.astype(np.uint8)
