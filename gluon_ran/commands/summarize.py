"""`summary`: what a network costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from gluon_ran.commands.common import Outcome, add_root, find_model, picture_size
from gluon_ran.models import WeightsError, find_spec, list_baselines, list_models, summary
from gluon_ran.models.zoo import did_you_mean
from gluon_ran.training import Trained


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
    if args.root is None and args.model in (*list_models(), *list_baselines()):
        spec, size = find_spec(args.model), args.size
    else:
        card = _find(args).card
        spec, size = card.spec, args.size or card.size
    result = summary(spec, size, verbose=False)
    return Outcome(asdict(result), str(result))


def _find(args: argparse.Namespace) -> Trained:
    try:
        return find_model(args)
    except WeightsError as error:
        hint = did_you_mean(args.model, [*list_models(), *list_baselines()])
        raise WeightsError(
            f"{error}{hint}" if "did you mean" not in str(error) else error
        ) from None
