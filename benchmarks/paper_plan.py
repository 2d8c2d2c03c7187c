"""Which trainings an experiment needs at a budget: their names and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from paper_experiments import Experiment, Row

from gluon_ran.training import RECIPES, Recipe, get_recipe

# The scripts' flags of a Recipe's fields, where they are not called as these.
_FLAGS = {"mixup": "--mix-up"}


@dataclass(frozen=True)
class Budget:
    """How much of a training is done.

    Attributes:
        name: on the command line.
        text: what it is, beside every figure of it.
        recipe: the named recipe; None: the experiment's.
        changes: fields of it that differ.
        dataset: in place of the experiment's; None: that one.
        flags: further flags of the training script.
        seeds: one run each.
        comparable: whether its errors may stand beside the paper's without a word.
        shows: what can be learned from its errors, where not `comparable`.
    """

    name: str
    text: str
    recipe: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    flags: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    comparable: bool = False
    shows: str = "What can be compared are rows of one table with each other, at this budget."


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke", "one epoch of 1,437 digits: whether each row trains, no result", "digits",
            {"epochs": 1, "warmup_epochs": 0}, "digits",
            shows="Nothing can be compared, not even rows of one table: it shows that each trains.",
        ),
        Budget(
            "short", "4 epochs of the recipe 'short' in bfloat16, two at 16 pixels and one at 24, "
            "each residual unit begun as the identity, in place of the 200 or 205 epochs published",
            "short",
            {"epochs": 4, "progressive_sizes": ((16, 2), (24, 1)), "dtype": "bfloat16"},
            flags=("--zero-init",), seeds=(0, 1),
        ),
        Budget(
            "full", "the paper's or the port's own recipe, as far as it is known, to its end; the "
            "thin networks are inferred from the paper's parameter counts", comparable=True,
        ),
    )
}  # fmt: skip


class Planned(NamedTuple):
    """A training to do.

    Attributes:
        name: of its run directory and result.
        budget: that it is part of.
        dataset: what it trains on.
        model: of the zoo.
        spec: fields of the Spec that differ.
        recipe: how it trains.
        flags: of the training script.
    """

    name: str
    budget: Budget
    dataset: str
    model: str
    spec: dict[str, Any]
    recipe: Recipe
    flags: tuple[str, ...]

    def result(self, results: Path) -> Path:
        """The file of its result."""
        return results / self.budget.name / f"{self.name}.json"

    def run(self, runs: Path) -> Path:
        """Its run directory."""
        return runs / self.budget.name / self.name


def plan(
    experiments: Sequence[Experiment],
    budget: Budget,
    seeds: Sequence[int] | None = None,
    dtype: str | None = None,
    only: Sequence[Row] | None = None,
) -> list[Planned]:
    """The trainings of experiments, each once, all rows of a seed ahead of the next seed.

    Args:
        experiments: what to train.
        budget: how much.
        seeds: one run each; the budget's if None.
        dtype: precision; the budget's if None.
        only: rows to train; all if None.
    """
    found = {}
    for seed in budget.seeds if seeds is None else seeds:
        for experiment in experiments:
            for row in experiment.rows:
                if only is None or any(row is each for each in only):
                    planned = of_row(experiment, row, budget, seed, dtype)
                    found.setdefault(planned.name, planned)
    return list(found.values())


def of_row(
    experiment: Experiment, row: Row, budget: Budget, seed: int, dtype: str | None = None
) -> Planned:
    """The training of a row; rows of several experiments that are one training get one name."""
    base = RECIPES[budget.recipe or experiment.recipe]
    own = _scaled(row.recipe, base, budget, experiment)
    changes = {**budget.changes, **own}
    usual = changes.get("dtype", base.dtype)
    if dtype not in (None, usual):
        changes["dtype"] = dtype
    recipe = get_recipe(base.name, **changes, seed=seed)
    dataset = budget.dataset or experiment.dataset
    shown = [*row.spec.values(), *(f"{key}{_flag_value(v)}" for key, v in own.items())]
    shown += [base.name] if budget.recipe is None else []
    shown += [dtype] if dtype not in (None, usual) else []
    name = "-".join(map(str, (dataset, row.model, *shown, f"seed{seed}")))
    flags = ["--dataset", dataset, "--model", row.model, "--recipe", base.name]
    for key, value in {**row.spec, **changes, "seed": seed}.items():
        flags += [_FLAGS.get(key, f"--{key.replace('_', '-')}"), _flag_value(value)]
    return Planned(name, budget, dataset, row.model, row.spec, recipe, (*flags, *budget.flags))


def _scaled(
    changes: dict[str, Any], base: Recipe, budget: Budget, experiment: Experiment
) -> dict[str, Any]:
    """A row's changes, with as much less warm-up as the budget has fewer epochs, but one."""
    epochs, full = budget.changes.get("epochs", base.epochs), RECIPES[experiment.recipe].epochs
    if "warmup_epochs" not in changes or epochs >= full:
        return changes
    scaled = round(changes["warmup_epochs"] * epochs / full)
    return {**changes, "warmup_epochs": max(scaled, 1)}


def _flag_value(value: Any) -> str:
    """A field's value as the training scripts take it."""
    if isinstance(value, tuple):
        return ",".join(":".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    return str(int(value)) if isinstance(value, bool) else str(value)
