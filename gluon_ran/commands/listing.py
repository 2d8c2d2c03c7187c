"""`list`: the networks that there are, and the trained weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from gluon_ran.commands.common import Outcome, add_root, sides
from gluon_ran.models import Spec, WeightsError, find_spec, list_baselines, list_models
from gluon_ran.models.pretrained import list_pretrained, locate
from gluon_ran.models.zoo import did_you_mean

_HEAD = ("network", "picture", "depth", "unit", "modules", "classes", "trained weights")


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "list", help="the networks, and the trained weights that there are",
        description="List the networks by name, GluonCV's last, and the trained weights that there "
        "are. What a network costs is told by `summary NAME`.",
    )  # fmt: skip
    parser.add_argument(
        "pattern", nargs="?", default="*", help="names to list, as 'cifar*' (default: all)"
    )
    parser.add_argument("--pretrained", action="store_true", help="only those with weights")
    add_root(parser)
    return parser


def run(args: argparse.Namespace) -> Outcome:
    """Lists the networks whose names fit a pattern.

    Raises:
        WeightsError: the root is no folder and no address.
        ValueError: no name fits.
    """
    trained, problems = [], []
    try:
        trained = list_pretrained(args.root)
    except WeightsError as error:
        if args.root is not None or args.pretrained:
            raise
        problems.append(str(error))  # a stale variable hides no networks
    zoo = [] if args.pretrained else [*list_models(), *list_baselines()]
    names = [*zoo, *(name for name in trained if name not in zoo)]
    fitting = [name for name in names if fnmatchcase(name, args.pattern)]
    if args.pretrained and not names:
        raise ValueError(
            "there are no trained weights; --root names a folder or an address of your own"
        )
    if not fitting:
        what = "trained network" if args.pretrained else "network"
        hint = did_you_mean(args.pattern, names) or "; without a pattern all are listed"
        raise ValueError(f"no {what} is called {args.pattern!r}{hint}")
    rows = []
    for name in fitting:
        try:
            rows.append(_row(name, args.root, name in trained))
        except WeightsError as error:
            problems.append(str(error))
    return Outcome(rows, _table(rows), tuple(problems))


def _row(name: str, root: str | None, trained: bool) -> dict[str, Any]:
    found = locate(name, root, download=False) if trained else None
    spec = found[1].spec if found else find_spec(name)
    ours = isinstance(spec, Spec)
    training = found[1].training if found else None
    return {
        "name": name,
        "size": list((found and found[1].size) or spec.input_size),
        "depth": spec.trunk_depth if ours else None,
        "unit": spec.unit if ours else None,
        "modules": list(spec.modules) if ours else None,
        "classes": spec.classes,
        "source": spec.source if ours else "GluonCV",
        "weights": str(found[0]) if found else None,
        **_measured(training or {}),
    }


def _measured(training: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of a card says of the accuracy, which anybody may have written."""
    measured = training.get("measured")
    top1 = measured.get("top1") if isinstance(measured, Mapping) else None
    known = isinstance(top1, (int, float)) and isinstance(training.get("data"), str)
    return {"data": training["data"], "top1": top1} if known else {"data": None, "top1": None}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    weights = "yes" if row["weights"] else ""
    if row["top1"] is not None:
        weights = f"{100 * row['top1']:.2f} % on {row['data']}"
    return (
        row["name"],
        sides(row["size"]),
        str(row["depth"] or ""),
        row["unit"] or "GluonCV's",
        " ".join(map(str, row["modules"] or ())),
        str(row["classes"]),
        weights,
    )
