"""Writes the tables of results/ into benchmarks/README.md, each between its two marks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import loss_curves
import paper_collect
import pipeline_table
import scaling_lines
import throughput_report
import training_memory
from marks import add_flags, between, update
from paper_plan import BUDGETS
from paper_runs import RESULT_FOLDER
from provenance import RESULTS, ROOT

TABLES = {
    "throughput": throughput_report.markdown,
    "training_memory": training_memory.table,
    "loss_curves": loss_curves.table,
    "scaling": scaling_lines.table,
    "cifar_pipeline": pipeline_table.markdown,
    "imagenet_pipeline": pipeline_table.markdown,
}
# Budgets of paper.py, whose results are a folder.
BUDGET_TABLES = {"paper_short": "short"}


def marks(name: str) -> tuple[str, str]:
    """What stands before and behind a table."""
    return f"<!-- benchmarks/readme_tables.py: {name} -->", f"<!-- end of {name} -->"


def updated(readme: str, results: Path) -> str:
    """A README with the tables of all results that are there.

    Raises:
        ValueError: it does not have the marks of one, or a result is damaged.
        OSError: a result can't be read.
    """
    for name, render in TABLES.items():
        path = results / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            readme = between(readme, *marks(name), render(result))
    for name, budget in BUDGET_TABLES.items():
        found = paper_collect.collect_budget(results / RESULT_FOLDER, BUDGETS[budget])
        if found.tables:
            readme = between(readme, *marks(name), paper_collect.markdown(found))
    return readme


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the results")
    add_flags(parser, ROOT / "benchmarks" / "README.md")
    args = parser.parse_args(argv)
    return update(args, lambda readme: updated(readme, args.results))


if __name__ == "__main__":
    sys.exit(main())
