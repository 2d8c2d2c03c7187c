"""What paper.py has kept: results by budget, experiment and row, and the numbers made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from paper_experiments import EXPERIMENTS, Experiment, Row
from paper_plan import BUDGETS, Budget, of_row
from paper_runs import is_done, read_result

from gluon_ran.training.recipe import DTYPES

# What a result must have, and of which type.
_FIELDS = {
    "name": str, "model": str, "dataset": str, "data": str, "trained_by": str, "command": str,
    "date": str, "recipe": dict, "spec": dict, "machine": dict, "epochs": list, "confusion": list,
    "parameters": int, "best_epoch": int, "threads": int, "seconds": (int, float),
    "final_top1": (int, float), "best_top1": (int, float), "flags": list,
}  # fmt: skip
_ROW_FIELDS = ("epoch", "train_loss", "val_top1")
# What stands behind a published error of an origin.
MARKS = {"printed": "", "remembered": " ?", "reported": " †"}


@dataclass(frozen=True)
class Entry:
    """A row of an experiment with its results.

    Attributes:
        row: the row.
        label: what the table calls it: the row's, and the precision if it is not the budget's.
        results: of `Trainer`, one a seed, by seed.
    """

    row: Row
    label: str
    results: tuple[dict[str, Any], ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Test errors behind the last epoch, in per cent, one a seed."""
        return tuple(100 * (1 - result["final_top1"]) for result in self.results)

    @property
    def best(self) -> tuple[float, ...]:
        """Test errors of the best epochs, in per cent, one a seed."""
        return tuple(100 * (1 - result["best_top1"]) for result in self.results)


@dataclass(frozen=True)
class Table:
    """An experiment at a budget.

    Attributes:
        experiment: the experiment.
        budget: the budget.
        entries: rows that have results.
        missing: labels of the rows that have none.
    """

    experiment: Experiment
    budget: Budget
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """All results of a budget.

    Attributes:
        budget: the budget.
        results: by name, sorted.
        tables: experiments that have results, but those that are `alone`.
        alone: experiments of which one row has results, one that another table has too.
        strays: names of results that are of no row.
    """

    budget: Budget
    results: Mapping[str, dict[str, Any]]
    tables: tuple[Table, ...]
    alone: tuple[str, ...]
    strays: tuple[str, ...]

    def trainings(self) -> dict[str, list[dict[str, Any]]]:
        """The results of one training but for its seed, by its name without the seed.

        They are in the order of the tables, strays at the end.
        """
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self.labels()}
        for name, result in self.results.items():
            found.setdefault(_without_seed(name), []).append(result)
        return found

    def labels(self) -> dict[str, list[str]]:
        """What the experiments call each training of `trainings`; nothing of a stray."""
        found: dict[str, list[str]] = {}
        for table in self.tables:
            for each in table.entries:
                label = f"{table.experiment.name}: {each.label}"
                found.setdefault(_without_seed(each.results[0]["name"]), []).append(label)
        return found


def _without_seed(name: str) -> str:
    return re.sub(r"-seed\d+$", "", name)


def collect(results: Path) -> list[Collected]:
    """The results of every budget that has some, the largest first.

    Args:
        results: folder of the budgets' folders.

    Raises:
        ValueError: there is none, or one is damaged or of other settings; names it.
    """
    found = [collect_budget(results, budget) for budget in reversed(list(BUDGETS.values()))]
    if not any(each.results for each in found):
        raise ValueError(
            f"{results} has no results: train some (benchmarks/paper.py run), or give --results"
        )
    return [each for each in found if each.results]


def collect_budget(results: Path, budget: Budget) -> Collected:
    """The results of a budget, which may be none.

    Raises:
        ValueError: one is damaged or of other settings; names it.
    """
    paths = sorted((results / budget.name).glob("[!.]*.json"))
    there = {path.stem: _read(path) for path in paths}
    tables = [_table(experiment, budget, there, results) for experiment in EXPERIMENTS.values()]
    used = {result["name"] for t in tables for entry in t.entries for result in entry.results}
    strays = tuple(name for name in there if name not in used)
    elsewhere = {
        each.results[0]["name"] for t in tables if len(t.entries) > 1 for each in t.entries
    }
    alone = [
        t for t in tables if len(t.entries) == 1 and t.entries[0].results[0]["name"] in elsewhere
    ]
    shown = tuple(t for t in tables if t.entries and t not in alone)
    return Collected(budget, there, shown, tuple(t.experiment.name for t in alone), strays)


def _read(path: Path) -> dict[str, Any]:
    result = read_result(path)
    try:
        _check(result)
        if result["name"] != path.stem:
            raise ValueError(f"it is named {result['name']}")
    except (KeyError, TypeError, ValueError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is no result of paper.py ({problem}): take it away") from None
    return result


def _check(result: Mapping[str, Any]) -> None:
    """Whether a report can be made of it; a KeyError, TypeError or ValueError if not."""
    for key, kind in _FIELDS.items():
        if not isinstance(result[key], kind):
            raise ValueError(f"{key} is {result[key]!r:.40}")
    for key in ("final_top1", "best_top1"):
        if not 0 <= result[key] <= 1:
            raise ValueError(f"{key} is {result[key]}, not from 0 to 1")
    counts = np.array(result["confusion"])
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind != "i":
        raise ValueError("confusion is no square of counts")
    if (counts < 0).any() or not counts.any():
        raise ValueError("confusion has negative counts, or none")
    if not result["epochs"]:
        raise ValueError("it has no epoch")
    for row in result["epochs"]:
        for key in _ROW_FIELDS:
            value = row[key]
            if value is not None and not isfinite(value) and key != "train_loss":
                raise ValueError(f"{key} of an epoch is {value}")
    int(result["recipe"]["seed"])


def _table(
    experiment: Experiment, budget: Budget, there: Mapping[str, dict], results: Path
) -> Table:
    seeds = sorted({int(result["recipe"]["seed"]) for result in there.values()})
    entries, missing, known = [], [], {}
    for row in experiment.rows:
        if budget.dataset not in (None, experiment.dataset):
            row = replace(row, published=None)  # of other data
        first = known.setdefault(of_row(experiment, row, budget, 0).name, row.label)
        if first != row.label:
            missing.append(f"{row.label} (at this budget the same training as {first})")
            continue
        own = _entries(experiment, row, budget, there, seeds, results)
        entries += own
        missing += [] if own else [row.label]
    return Table(experiment, budget, tuple(entries), tuple(missing))


def _entries(
    experiment: Experiment, row: Row, budget: Budget, there: Mapping[str, dict],
    seeds: Sequence[int], results: Path,
) -> list[Entry]:  # fmt: skip
    """A row's entries, one a precision that it was trained in."""
    entries, taken = [], set()
    for dtype in (None, *DTYPES):
        planned = [of_row(experiment, row, budget, seed, dtype) for seed in seeds]
        mine = [p for p in planned if p.name in there and p.name not in taken]
        if not mine:
            continue
        for each in mine:
            is_done(each, results)  # refuses one of other settings
        taken |= {each.name for each in mine}
        label = row.label if dtype is None else f"{row.label}, {dtype}"
        entries.append(Entry(row, label, tuple(there[each.name] for each in mine)))
    return entries


def spread(values: Sequence[float]) -> str:
    """Lowest and highest of several values, nothing of one."""
    return f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""


def published(row: Row) -> str:
    """A row's published error with the mark of its origin."""
    return f"{row.published.error:.2f}{MARKS[row.published.origin]}" if row.published else ""


def paper_head(table: Table) -> str:
    """Whose errors stand beside a table's, and that they are of another budget."""
    return who_published(table) + ("" if table.budget.comparable else ", trained in full")


def who_published(table: Table) -> str:
    """Whose errors stand beside a table's."""
    origins = {each.row.published.origin for each in table.entries if each.row.published}
    return "port" if origins == {"reported"} else "paper"


def markdown(collected: Collected) -> str:
    """A budget's results in Markdown: what the budget is, and a table an experiment."""
    budget = collected.budget
    about = f"Budget `{budget.name}`: {budget.text}."
    if not budget.comparable:
        about += (
            " **Not comparable with the published errors**, which are of networks trained in full "
            "and stand there for scale."
        )
    return "\n\n".join([about, _made(collected), *map(_markdown_table, collected.tables)])


def _made(collected: Collected) -> str:
    """On which data and machines, when and by which commits the results were made."""
    results = list(collected.results.values())
    data = sorted({result["data"] or result["dataset"] for result in results})
    cpus = sorted(
        {f"{r['machine'].get('usable_cores', '?')} cores of {r['machine'].get('cpu', '?')}"
         for r in results}
    )  # fmt: skip
    days = sorted({result["date"][:10] for result in results})
    commits = sorted({(result.get("commit") or "unknown")[:10] for result in results})
    return (
        f"{', '.join(data)}; {', '.join(cpus)}; {' to '.join(dict.fromkeys((days[0], days[-1])))}; "
        f"commit {', '.join(commits)}. Each training's command is in its JSON."
    )


def _markdown_table(table: Table) -> str:
    known = any(each.row.published for each in table.entries)
    lines = [["network", f"error %, {table.budget.name}", "range", "seeds"]]
    lines += [["---", "---:", "---:", "---:"]]
    for each in table.entries:
        error = f"{mean(each.errors):.2f}"
        lines.append([each.label, error, spread(each.errors), str(len(each.errors))])
    if known:
        last = [f"{paper_head(table)}, error %", "---:"]
        last += [published(each.row) for each in table.entries]
        lines = [[*line, cell] for line, cell in zip(lines, last)]
    experiment = table.experiment
    title = f"**{experiment.title}** (`{experiment.name}`, {experiment.source})"
    rows = ["| " + " | ".join(map(_cell, line)) + " |" for line in lines]
    return "\n".join([title, "", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
