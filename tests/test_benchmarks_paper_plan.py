"""benchmarks/paper_plan.py: that each row trains what it says."""

from dataclasses import asdict

import pytest
from paper_trainings import modules  # noqa: F401
from scripts import script

from gluon_ran.models import find_spec
from gluon_ran.training import RECIPES


@pytest.mark.parametrize("budget", ["smoke", "short", "full"])
def test_the_flags_of_each_row_are_its_recipe_and_network(modules, budget):
    _, plan, _, experiments = modules
    parser, flags = script("cifar10_train").make_parser(), script("flags")
    for experiment in experiments.EXPERIMENTS.values():
        for row in experiment.rows:
            planned = plan.of_row(experiment, row, plan.BUDGETS[budget], 7)
            args = parser.parse_args(planned.flags)
            assert flags.recipe_from(args) == planned.recipe
            assert planned.recipe.seed == 7
            kept = {k: v for k, v in row.recipe.items() if k != "warmup_epochs"}
            assert all(getattr(planned.recipe, key) == value for key, value in kept.items())
            asked = find_spec(args.model, **flags.spec_changes(args))
            wanted = find_spec(row.model, **row.spec, zero_init=asked.zero_init)
            assert asked == wanted
            flags.refuse_unfit_flags(args, args.dataset)


def test_one_name_is_one_training(modules):
    _, plan, _, experiments = modules
    flags, names = {}, {}
    for budget in plan.BUDGETS.values():
        for experiment in experiments.EXPERIMENTS.values():
            for row in experiment.rows:
                for dtype in (None, "float32", "bfloat16"):
                    each = plan.of_row(experiment, row, budget, 0, dtype)
                    assert flags.setdefault((budget.name, each.name), each.flags) == each.flags
                    assert names.setdefault((budget.name, each.flags), each.name) == each.name
    assert len({*flags.values()}) > 200


def test_a_network_of_several_tables_is_trained_once(modules):
    _, plan, _, experiments = modules
    both = [experiments.EXPERIMENTS[name] for name in ("attention-type", "mask-structure")]
    runs = plan.plan(both, plan.BUDGETS["short"])
    assert len(runs) == 2 * 4
    assert [each.recipe.seed for each in runs] == [0] * 4 + [1] * 4


def test_smaller_budgets_warm_up_less(modules):
    _, plan, _, experiments = modules
    tricks = experiments.EXPERIMENTS["tricks"]
    for budget, epochs in (("short", {1}), ("full", {5, 10})):
        runs = plan.plan([tricks], plan.BUDGETS[budget])
        assert {each.recipe.warmup_epochs for each in runs} == epochs


def test_the_row_of_muon_steps_as_its_recipe_does(modules):
    _, plan, _, experiments = modules
    experiment = experiments.EXPERIMENTS["optimizer"]
    row = next(row for row in experiment.rows if row.label == "Muon")
    changed = row.recipe
    for budget, spared in (("smoke", False), ("short", True), ("full", False)):
        recipe = asdict(plan.of_row(experiment, row, plan.BUDGETS[budget], seed=0).recipe)
        assert {name: recipe[name] for name in changed} == changed
        assert recipe["no_wd"] == spared
    muon, short = asdict(RECIPES["muon"]), asdict(RECIPES["short"])
    others = {name for name in muon if muon[name] != short[name]} - {"name", "source"}
    assert changed == {name: muon[name] for name in others - {"epsilon", "crop_padding"}}
