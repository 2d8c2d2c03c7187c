import json
import math
from dataclasses import asdict, replace

import pytest

from gluon_ran.data import DataError
from gluon_ran.training import RECIPES, Recipe, get_recipe, lr_at
from gluon_ran.training.recipe import size_at

STEPS = 7


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_survives_json_and_names_its_source(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.source


def test_json_with_an_unknown_field_is_refused():
    values = json.loads(RECIPES["gluon"].to_json())
    with pytest.raises(ValueError, match="no field learning_rate"):
        Recipe.from_json(json.dumps({**values, "learning_rate": 1}))


def test_get_recipe_changes_fields_and_names_choices():
    assert get_recipe("paper", lr=0.2) == replace(RECIPES["paper"], lr=0.2)
    with pytest.raises(ValueError, match="'thesis'; there are: gluon, paper"):
        get_recipe("thesis")
    with pytest.raises(ValueError, match="no field warmup; its fields: .*warmup_epochs"):
        get_recipe("paper", warmup=3)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("lr", -1, "at least 0"),
        ("lr", math.nan, "at least 0"),
        ("momentum", 1.5, "0 to 1"),
        ("epsilon", 2, "0 to 1"),
        ("alpha", 0, "alpha is 0"),
        ("warmup_epochs", 300, "0 to 200"),
        ("lr_steps", (120, 80), "rising"),
        ("optimizer", "adam", "nag, sgd, muon"),
        ("lr_mode", "poly", "step, cosine"),
        ("dtype", "int8", "float32, bfloat16, float16"),
        ("normalization", "none", "channel, per_pixel"),
        ("seed", -1, "0 to"),
    ],
)
def test_values_that_make_no_sense_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("gluon", **{field: value})


def test_step_schedule_is_exact_at_the_boundaries():
    recipe = get_recipe("gluon", epochs=6, lr=0.5, lr_steps=(2, 4), lr_decay=0.1)
    rates = [lr_at(step, STEPS, recipe) for step in range(6 * STEPS)]
    assert rates[: 2 * STEPS] == [0.5] * 2 * STEPS
    assert rates[2 * STEPS : 4 * STEPS] == [0.5 * 0.1] * 2 * STEPS
    assert rates[4 * STEPS :] == [0.5 * 0.1**2] * 2 * STEPS


def test_paper_recipe_decays_at_64k_and_96k_iterations():
    recipe, steps = RECIPES["paper"], math.ceil(50_000 / 64)
    assert abs(recipe.lr_steps[0] * steps - 64_000) < steps
    assert abs(recipe.lr_steps[1] * steps - 96_000) < steps
    assert abs(recipe.epochs * steps - 160_000) < steps


@pytest.mark.parametrize("mode", ["step", "cosine"])
def test_warm_up_rises_linearly_and_ends_at_the_full_rate(mode):
    recipe = get_recipe("gluon", epochs=9, lr=0.8, lr_mode=mode, lr_steps=(), warmup_epochs=2)
    rates = [lr_at(step, STEPS, recipe) for step in range(2 * STEPS + 1)]
    rises = [b - a for a, b in zip([0.0, *rates], rates[:-1])]
    assert rises == pytest.approx([0.8 / (2 * STEPS)] * 2 * STEPS)
    assert rates[2 * STEPS - 1] == 0.8
    assert rates[2 * STEPS] == 0.8


def test_cosine_falls_from_the_full_rate_to_zero():
    recipe = get_recipe("gluon", epochs=5, lr=0.3, lr_mode="cosine", warmup_epochs=1)
    rates = [lr_at(step, STEPS, recipe) for step in range(STEPS, 5 * STEPS + 1)]
    assert rates[0] == 0.3
    assert rates[len(rates) // 2] == pytest.approx(0.15)
    assert rates[-1] == 0.0
    assert all(a > b for a, b in zip(rates, rates[1:]))


def test_warm_up_over_all_epochs_never_divides_by_zero():
    recipe = get_recipe("gluon", epochs=1, lr_mode="cosine", warmup_epochs=1)
    assert lr_at(STEPS - 1, STEPS, recipe) == recipe.lr
    assert lr_at(STEPS, STEPS, recipe) == 0.0


def test_sizes_follow_each_other_and_end_in_the_pictures_own():
    recipe = get_recipe("gluon", epochs=6, progressive_sizes=((16, 1), (24, 3)))
    assert [size_at(epoch, recipe) for epoch in range(6)] == [16, 24, 24, 24, None, None]
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert size_at(3, get_recipe("gluon")) is None


@pytest.mark.parametrize(
    "sizes, message",
    [
        (((24, 1), (16, 1)), "rising edges"),
        (((16, 0),), "rising edges"),
        (((16, 1, 1),), "rising edges"),
        (((16, 2), (24, 2)), "leave none of 4 epochs"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("gluon", epochs=4, progressive_sizes=sizes)


def test_a_recipe_varies_pictures_as_its_fields_say():
    varied = {"crop_padding": 3, "crop_mode": "reflect", "flip": "none", "cutout": 5, "rotation": 7}
    recipe = get_recipe("gluon", **varied, least_area=0.2, aspect=1.5, jitter=0.3, lighting=0.05)
    assert asdict(recipe.augmentation()) == varied
    assert asdict(recipe.train_transform((8, 16))) == {
        "size": (8, 16), "area": (0.2, 1.0), "aspect": (1 / 1.5, 1.5), "flip": "none",
        "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "lighting": 0.05,
    }  # fmt: skip
    with pytest.raises(DataError, match="crop_mode 'wrap' is unknown"):
        get_recipe("gluon", crop_mode="wrap").augmentation()
    with pytest.raises(DataError, match="flip"):
        get_recipe("gluon", flip="alternating").train_transform(8)


def test_imagenet_paper_recipe_decays_at_the_papers_iterations():
    recipe, steps = RECIPES["imagenet-paper"], 1_281_167 // 256
    for iteration, rate in ((0, 0.1), (199_000, 0.1), (201_000, 0.01), (399_000, 0.01),
                            (401_000, 1e-3), (499_000, 1e-3), (501_000, 1e-4)):  # fmt: skip
        assert lr_at(iteration, steps, recipe) == pytest.approx(rate)
    assert abs(recipe.epochs * steps - 530_000) < steps
    assert (recipe.optimizer, recipe.momentum, recipe.wd, recipe.no_wd) == ("sgd", 0.9, 1e-4, False)


def test_imagenet_tricks_recipe_warms_up_for_five_epochs_and_ends_near_zero():
    recipe, steps = RECIPES["imagenet-tricks"], 1_281_167 // 256
    assert lr_at(0, steps, recipe) == pytest.approx(0.1 / (5 * steps))
    assert lr_at(5 * steps, steps, recipe) == 0.1
    middle = (5 + recipe.epochs) * steps // 2
    assert lr_at(middle, steps, recipe) == pytest.approx(0.05, rel=1e-3)
    assert lr_at(recipe.epochs * steps - 1, steps, recipe) < 1e-8
    assert (recipe.mixup, recipe.alpha, recipe.epsilon, recipe.no_wd) == (True, 0.2, 0.1, True)


def test_recipes_of_before_there_were_streams_still_load():
    values = json.loads(RECIPES["gluon"].to_json())
    for name in ("least_area", "aspect", "jitter", "lighting"):
        del values[name]
    assert Recipe.from_json(json.dumps(values)) == RECIPES["gluon"]
