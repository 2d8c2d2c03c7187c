"""What the command lines make of their flags, and which they refuse."""

import re

import pytest
from own_digits import TINY, small_digits, train  # noqa: F401
from scripts import script

from gluon_ran.models import Card, build, save_with_card


def recipe_of(*flags):
    parser = script("cifar10_train").make_parser()
    return script("flags").recipe_from(parser.parse_args(list(flags)))


def test_the_flags_of_the_earlier_scripts_mean_what_users_remember():
    flags = (
        "--num-layers 92 --log-dir log -j 2 --num-gpus 0 --epochs 30 -b 32 --lr 0.3 --momentum 0.8 "
        "--wd 5e-4 --lr-steps 10,20 --mix-up 1 --alpha 0.4 --epsilon 0.1 --warmup-epochs 3 "
        "--float16 --save-period 5"
    ).split()
    recipe = recipe_of(*flags)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (30, 32, 0.3, 0.8)
    assert (recipe.wd, recipe.lr_steps, recipe.mixup, recipe.alpha) == (5e-4, (10, 20), True, 0.4)
    assert (recipe.epsilon, recipe.warmup_epochs, recipe.dtype) == (0.1, 3, "float16")
    long = "--batch-size 32 --learning-rate 0.3 --weight-decay 5e-4 --workers 2".split()
    assert recipe_of(*long) == recipe_of(*"-b 32 --lr 0.3 --wd 5e-4 -j 2".split())


def test_recipes_fill_what_the_flags_leave_out():
    assert recipe_of().name == "gluon"
    assert recipe_of("--dataset", "digits").name == "digits"
    assert recipe_of("--recipe", "paper", "--no-wd").no_wd
    assert not recipe_of("--recipe", "tricks", "--mix-up", "0").mixup


def test_rates_of_another_optimizer_are_warned_of(caplog):
    parser = script("cifar10_train").make_parser()
    for flags, told in (
        (("--optimizer", "muon"), "lr and wd of the recipe gluon suit the optimizer nag, not muon"),
        (("--optimizer", "muon", "--lr", "0.1"), "wd of the recipe gluon .* give --wd too"),
        (("--recipe", "muon", "--optimizer", "sgd", "--wd", "0"), "lr of .* muon, not sgd"),
        (("--optimizer", "muon", "--lr", "0.1", "--wd", "0.02"), None),
        (("--recipe", "muon"), None),
        (("--optimizer", "sgd"), None),
    ):
        caplog.clear()
        script("flags").warn_of_rates(parser.parse_args(list(flags)), recipe_of(*flags))
        assert re.search(told, caplog.text) if told else not caplog.text, flags


def test_no_progressive_sizes_can_be_asked_for():
    assert recipe_of("--recipe", "short").progressive_sizes
    assert recipe_of("--recipe", "short", "--progressive-sizes", "none").progressive_sizes == ()


@pytest.mark.parametrize("name", ["cifar10_train", "evaluate"])
def test_a_mistyped_network_is_answered_with_close_ones(name, capsys):
    with pytest.raises(SystemExit):
        script(name).main(["--model", "cifar_atention56_thin", "run"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert "'cifar_atention56_thin'; did you mean cifar_attention56_thin" in line
    assert len(line) < 250


@pytest.mark.parametrize(
    "name", ["cifar10_train", "cifar100_train", "folder_train", "imagenet_train"]
)
def test_help_shows_every_default_and_every_recipe(name, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name).main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    parser = script(name).make_parser()
    for action in parser._actions:
        if action.help and action.dest not in ("help", "resume"):
            assert "default" in action.help or action.const == "float16", action.option_strings
    steps = "40,80,100" if name == "imagenet_train" else "80,120"
    for text in (f"(default: {steps})", "(default: 0.0001)", "tricks:", "warmup_epochs 5"):
        assert text in shown


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--lr-mode", "cosine", "--lr-steps", "2"], "--lr-steps: for --lr-mode step"),
        (["--lr-mode", "cosine", "--lr-decay", "0.5"], "--lr-decay: for --lr-mode step"),
        (["--mix-up", "0", "--alpha", "0.4"], "--alpha: for --mix-up 1"),
        (["--crop-padding", "0", "--crop-mode", "zero"], "--crop-mode: for --crop-padding above 0"),
        (["--weights", "own.params", "--zero-init"], "--zero-init is how units start"),
    ],
)
def test_flags_that_nothing_would_read_are_refused(flags, message, capsys, tmp_path):
    net = build(TINY)
    net.initialize()
    save_with_card(net, Card(TINY), tmp_path / "own.params")
    assert train(*flags) == 1
    assert f"error: {message}" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))
