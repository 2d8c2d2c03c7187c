"""`summary`: what a network costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gluon_ran.commands.common import Outcome, add_root, find_model, picture_size
from gluon_ran.models import (
    Baseline,
    Spec,
    WeightsError,
    find_spec,
    list_baselines,
    list_models,
    list_pretrained,
    summary,
)
from gluon_ran.models.pretrained import locate, no_weights
from gluon_ran.models.zoo import did_you_mean
from gluon_ran.training import RunDirectory
from gluon_ran.training.trained import card_of


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "summary", help="parameters, multiply-accumulates and shapes of a network",
        description="Count a network's parameters and multiply-accumulates, and show the shape "
        "behind each stage. Nothing is computed.",
    )  # fmt: skip
    parser.add_argument(
        "model", metavar="NAME",
        help="a network's name, a name of trained weights, a run directory, or a .params file with "
        "its card",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=picture_size, metavar="N",
        help="side of the pictures in pixels, or HxW (default: the network's own)",
    )  # fmt: skip
    add_root(parser)
    return parser


def run(args: argparse.Namespace) -> Outcome:
    """Counts what a network costs.

    Raises:
        ValueError: there is no such network, or it does not take pictures of that size.
        RunError, CheckpointError: a run directory is damaged.
    """
    spec, own_size = _network(args)
    result = summary(spec, args.size or own_size, verbose=False)
    return Outcome(asdict(result), str(result))


def _network(args: argparse.Namespace) -> tuple[Spec | Baseline, tuple[int, int] | None]:
    """What NAME names, and the size of its pictures, where it has one of its own."""
    networks, path = [*list_models(), *list_baselines()], Path(args.model)
    if args.root is None and args.model in networks:
        return find_spec(args.model), None
    if path.is_dir():  # it needs no checkpoint yet
        card = card_of(RunDirectory.open(path))
        return card.spec, card.size
    if len(path.parts) == 1 and path.suffix != ".params" and not path.exists():
        found = locate(args.model, args.root)
        if found is None and args.model in networks:
            raise no_weights(args.model, args.root)
        if found is None:
            known = sorted({*networks, *list_pretrained(args.root)})
            hint = did_you_mean(args.model, known) or "; gluon-ran list shows those there are"
            raise WeightsError(f"no network, run or trained weights are called {args.model}{hint}")
        return found[1].spec, found[1].size
    card = find_model(args).card
    return card.spec, card.size
