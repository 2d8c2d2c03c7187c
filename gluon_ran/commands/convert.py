"""`convert`: another implementation's weights as ours."""

from __future__ import annotations

import argparse
from typing import Any

from gluon_ran.commands.common import Outcome
from gluon_ran.models.convert import __main__ as command


def add_to(commands: Any) -> argparse.ArgumentParser:
    """Adds the command."""
    parser = commands.add_parser(
        "convert", help="weights of other implementations as ours",
        description=command.__doc__.replace("gluon_ran.models.convert", "gluon_ran convert"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_flags(parser)
    return parser


def run(args: argparse.Namespace) -> Outcome:
    """Converts weights.

    Raises:
        ValueError, OSError, RuntimeError: see `models.convert`.
    """
    conversion, card = command.run(args)
    value = {
        "model": conversion.spec.name,
        "source": conversion.spec.source,
        "classes": conversion.spec.classes,
        "unused": conversion.unused,
        "checked": args.check,
        "written": [str(args.out), str(card)],
    }
    return Outcome(value, command.report(conversion, card, args))
