"""Prints the table of all networks, and keeps the README's copy of it.

Parameters and multiply-accumulates are counted on the built networks; our errors are those of the
weights that come with the package, and of the last epochs in results/. The paper's figures are
data here: `?` marks what is remembered of the paper and was not seen in a copy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from marks import add_flags, between, update
from provenance import RESULTS, ROOT
from record_run import is_plain

from gluon_ran.models import list_baselines, list_models, summary
from gluon_ran.models.pretrained import PACKAGED

BEGIN = "<!-- benchmarks/model_table.py writes what follows -->"
END = "<!-- end of the table -->"


class Reported(NamedTuple):
    """What the paper prints of a network: parameters, MACs, and its errors."""

    parameters: str = ""
    macs: str = ""
    error: str = ""


# arXiv 1704.06904, tables 2 to 6. ImageNet: top-1 / top-5; CIFAR: CIFAR-10 / CIFAR-100.
REPORTED = {
    "attention56": Reported("31.9 M", "6.2 G", "ImageNet 21.76 / 5.9"),
    "attention92": Reported("51.3 M", "10.4 G", "ImageNet at 320: 19.5 / 4.8"),
    "attentionnext56": Reported("31.9 M ?", "6.3 G ?", "ImageNet 21.2 / 5.6"),
    "attentioninception56": Reported("31.9 M ?", "6.3 G ?", "ImageNet 20.36 / 5.29 ?"),
    "cifar_attention56_thin": Reported(error="CIFAR 5.52"),
    "cifar_attention92_thin": Reported("1.9 M", error="CIFAR 4.99 / 21.71"),
    "cifar_attention128_thin": Reported(error="CIFAR 4.44 ?"),
    "cifar_attention164_thin": Reported(error="CIFAR 4.31 ?"),
    "cifar_attention236_thin": Reported("5.1 M", error="CIFAR 4.14 / 21.16"),
    "cifar_attention452_thin": Reported("8.6 M", error="CIFAR 3.90 / 20.45"),
    "cifar_preresnet164": Reported("1.7 M", error="CIFAR 5.46 / 24.33"),
    "cifar_wideresnet28_10": Reported("36.5 M", error="CIFAR 4.17 / 20.50"),
}


def our_errors(results: Path = RESULTS, weights: Path = PACKAGED) -> dict[str, list[str]]:
    """Errors in per cent that our runs ended with, by network, each with data and epochs.

    Args:
        results: folder of recorded runs.
        weights: folder of trained weights' cards, whose errors come first.
    """
    runs = []
    for path in sorted(weights.glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        training = card["training"]
        runs.append({"model": path.stem, "spec": card["spec"], **training})
        runs[-1]["final_top1"] = training["measured"]["top1"]
    runs += [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    ]
    errors: dict[str, list[str]] = {}
    for run in runs:
        if "final_top1" in run and is_plain(run):
            data = run["data"].partition(",")[0] or run["dataset"]
            text = f"{data}, {run['recipe']['epochs']} epochs: {100 - 100 * run['final_top1']:.2f}"
            errors.setdefault(run["model"], []).append(text)
    return errors


def table(names: Sequence[str], errors: dict[str, list[str]]) -> str:
    """The table in Markdown, a row a network.

    Args:
        names: what to list.
        errors: see `our_errors`.
    """
    lines = [
        "| network | picture | parameters | MACs | paper: parameters, MACs | paper: error % "
        "| ours: error % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        cost, paper = summary(name, verbose=False), REPORTED.get(name, Reported())
        cells = [
            f"`{name}`",
            "x".join(map(str, cost.input_shape[2:])),
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.macs / 1e9:.3f} G",
            ", ".join(filter(None, (paper.parameters, paper.macs))),
            paper.error,
            "; ".join(errors.get(name, [])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def updated(readme: str) -> str:
    """A README with the table as it is now.

    Raises:
        ValueError: it does not have the marks.
    """
    between(readme, BEGIN, END, "")  # before the networks are built, which takes a while
    return between(readme, BEGIN, END, table([*list_models(), *list_baselines()], our_errors()))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_flags(parser, ROOT / "README.md")
    return update(parser.parse_args(argv), updated)


if __name__ == "__main__":
    sys.exit(main())
