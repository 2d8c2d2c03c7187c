"""`masks`: what each attention module of a trained network makes of a picture."""

from __future__ import annotations

import argparse
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from gluon_ran.commands.common import (
    Outcome,
    add_model,
    add_picture_flags,
    decoded,
    find_model,
    pictures_for,
)
from gluon_ran.models import ResidualAttentionNet, WeightsError
from gluon_ran.visualize import plot_attention, save_attention_arrays

import mxnet as mx

# Comes with the package.
_MODEL = "cifar_attention56_thin"
# Pixels of the longer side of the picture that masks are drawn over, at least.
_SHOWN = 256


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "masks", help="where a network looks in a picture",
        description="Draw, for each attention module of a trained network, the feature before its "
        "soft mask, the mask, and the feature behind it.",
    )  # fmt: skip
    parser.add_argument("picture", metavar="PICTURE", help="a picture file")
    add_model(parser, _MODEL)
    parser.add_argument(
        "--out", type=_png, default=Path("masks.png"), metavar="PNG",
        help="the figure (default: masks.png)",
    )  # fmt: skip
    parser.add_argument(
        "--arrays", type=_npz, metavar="NPZ", help="write the maps as NumPy arrays too"
    )
    parser.add_argument(
        "--channels", type=_channels, default=(), metavar="N,...",
        help="channels to show beside their means, counted from 0, as 0,5",
    )  # fmt: skip
    add_picture_flags(parser)
    return parser


def _png(text: str) -> Path:
    return _ending(text, ".png")


def _npz(text: str) -> Path:
    return _ending(text, ".npz")


def _ending(text: str, suffix: str) -> Path:
    if not text.lower().endswith(suffix):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {suffix}, as what is written")
    return Path(text)


def _channels(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no channels from 0, as in 0,5")
    return tuple(map(int, parts))


def run(args: argparse.Namespace) -> Outcome:
    """Draws the masks of a picture.

    Raises:
        ValueError: the network can't be found, has no modules or not these channels, or the picture
            can't be read.
        RunError, CheckpointError: a run directory is damaged.
        OSError: a file can't be written.
    """
    trained = find_model(args)
    spec = trained.card.spec
    pictures = pictures_for(trained.card, args)
    picture = decoded(args.picture)
    net = trained.network()
    if not isinstance(net, ResidualAttentionNet) or not sum(spec.modules):
        raise WeightsError(f"{spec.name} has no attention modules, so there are no masks to draw")
    maps = net.attention(mx.nd.array(pictures.normalization(pictures.fitted(picture)[None])))
    modules = [{"shape": list(m.shape[1:]), **_range(m)} for _, m, _ in maps]
    if not all(isfinite(each["mean"]) for each in modules):
        raise WeightsError("the network's masks are not finite: give weights that are")
    written = [args.out]
    if args.arrays is not None:
        save_attention_arrays(maps, args.arrays, args.channels)
        written.append(args.arrays)
    title = f"{spec.name}: {Path(args.picture).name}"
    shown = pictures.fitted(picture, ceil(_SHOWN / max(pictures.size)))
    plot_attention(shown, maps, args.out, args.channels, title)
    value = {
        "model": spec.name,
        "weights": str(trained.weights),
        "picture": args.picture,
        "size": list(pictures.size),
        "fit": pictures.fit,
        "modules": modules,
        "written": list(map(str, written)),
    }
    lines = [
        "module {}  {}  {:.3f} to {:.3f}, mean {:.3f}".format(
            number, "x".join(map(str, m["shape"])), m["least"], m["greatest"], m["mean"]
        )
        for number, m in enumerate(value["modules"], 1)
    ]
    head = "soft masks over all channels (the figure has their means over the channels)"
    return Outcome(value, "\n".join([head, *lines, f"written: {', '.join(value['written'])}"]))


def _range(mask: mx.nd.NDArray) -> dict[str, float]:
    array = mask.asnumpy()
    return {
        "least": float(array.min()),
        "greatest": float(array.max()),
        "mean": float(array.mean()),
    }
