"""Converts the weights of another implementation of Residual Attention Networks to ours.

    python -m gluon_ran.models.convert FILE --out OUT.params

writes OUT.params, plain Gluon weights, and OUT.json, a card that says which network they are of and
how its pictures are normalised. Which implementation and which network it is are read from the
names and shapes of FILE's arrays.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from gluon_ran.models.convert.files import convert, load_converted, save_converted
from gluon_ran.models.convert.mapping import Conversion
from gluon_ran.models.convert.ports import PORTS
from gluon_ran.models.convert.reading import ConversionError
from gluon_ran.models.spec import Spec

from mxnet import nd


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gluon_ran.models.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what the command line takes, and the sources at the end of its help."""
    sources = "\n".join(f"  {port.name:<14} {port.about}" for port in PORTS.values())
    parser.epilog = f"sources:\n{sources}"
    add = parser.add_argument
    add("file", type=Path, help=".params, .npz, or a PyTorch state dict: .pth, .pth.tar, .pt, .pkl")
    add("--out", type=Path, required=True, help="where to write, a name that ends in .params")
    add("--source", choices=tuple(PORTS), help="whose weights; by default, whose names they have")
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the Spec that arrays don't show, for example strides=[1,2,2,1]",
    )
    add("--check", action="store_true", help="read the result back, compare it, and run it once")
    add("--force", action="store_true", help="replace files that are there")


def _changes(settings: list[str]) -> dict[str, Any]:
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConversionError(f"--set {setting}: give FIELD=VALUE")
        if name not in {field.name for field in fields(Spec)} - {"source"}:
            raise ConversionError(f"--set {setting}: Spec has no field {name!r} to set")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


def check(conversion: Conversion, path: Path) -> None:
    """Proves that the written network is the converted one.

    Raises:
        ConversionError: it isn't.
    """
    net = load_converted(path)
    for name, parameter in net._collect_params_with_prefix().items():
        if not np.array_equal(parameter.data().asnumpy(), conversion.arrays[name], equal_nan=True):
            raise ConversionError(f"{path}: {name} is not what was converted")


def check_scores(conversion: Conversion) -> None:
    """Proves that the scores of a random picture are numbers.

    Raises:
        ConversionError: they aren't.
    """
    spec, net = conversion.spec, conversion.network()
    scores = net(nd.random.uniform(0, 1, (1, spec.in_channels, *spec.input_size))).asnumpy()
    if not np.isfinite(scores).all():
        raise ConversionError("the scores of a random picture are not finite; nothing is written")


def report(conversion: Conversion, card: Path, args: argparse.Namespace) -> str:
    """What was converted and written, in a few lines."""
    spec, arrays = conversion.spec, conversion.arrays
    size = sum(array.size for name, array in arrays.items() if "running" not in name)
    lines = [
        f"{spec.name}: {spec.classes} classes, {size / 1e6:.2f} M parameters",
        f"  {spec.source}",
        f"  takes RGB of 0 to 255, less {_rounded(conversion.normalization.mean)}, over "
        f"{_rounded(conversion.normalization.std)}",
    ]
    for reason in sorted(set(conversion.unused.values())):
        count = sum(1 for other in conversion.unused.values() if other == reason)
        lines.append(f"  {count} arrays left out: {reason}")
    lines.append(f"written: {args.out}, {card}" + ", checked" * args.check)
    return "\n".join(lines)


def _rounded(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values.tolist()) + ")"


def run(args: argparse.Namespace) -> tuple[Conversion, Path]:
    """Converts as the flags say; what was converted, and the card that was written.

    Raises:
        ValueError, OSError, RuntimeError: the file is no network that is known, or can't be read or
            written.
    """
    conversion = convert(args.file, args.source, **_changes(args.set))
    if args.check:
        check_scores(conversion)
    card = save_converted(conversion, args.out, args.force)
    if args.check:
        check(conversion, args.out)
    return conversion, card


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    args = make_parser().parse_args(argv)
    try:
        conversion, card = run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(conversion, card, args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
