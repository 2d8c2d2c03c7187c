"""The weights that come with the package, on ../shared/data's CIFAR-10 where it is there."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from benchmark_modules import imported
from packaged import assert_as_good_as_told

from gluon_ran.commands import main
from gluon_ran.data import Batches, load_dataset, load_records
from gluon_ran.data.cifar import CIFAR
from gluon_ran.models import SPECS, find_pretrained, get_model, pretrained, read_card
from gluon_ran.training import evaluate
from gluon_ran.training.precision import cpu_has_bfloat16

README = Path(__file__).resolve().parents[1] / "README.md"
CAT = README.parent / "benchmarks" / "pictures" / "cat.jpg"
PACKAGED = sorted(path.stem for path in pretrained.PACKAGED.glob("*.params"))


@pytest.fixture(autouse=True)
def no_others(monkeypatch):
    """No weights but the package's."""
    monkeypatch.delenv(pretrained.VARIABLE, raising=False)


@lru_cache(maxsize=1)
def cifar10_test(rec):
    return load_records(rec, CIFAR["cifar10"].class_names)


def pictures_of(name, request):
    """The pictures that packaged weights were measured on."""
    dataset = read_card(find_pretrained(name)).training["dataset"]
    if dataset == "cifar10":
        folder = request.getfixturevalue("shared_data") / "cifar10"
        if not folder.is_dir():
            pytest.skip("no CIFAR-10 among the data beside the checkout")
        return cifar10_test(folder / "cifar10_test.rec")
    return load_dataset(dataset, splits=("test",))[0]


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_of_the_networks_and_know_a_cat(name, capfd):
    """On the picture that comes with the benchmarks, so wherever the tests run."""
    card = read_card(find_pretrained(name))
    ours = replace(SPECS[name], classes=card.spec.classes, zero_init=card.spec.zero_init)
    assert card.spec == ours and len(card.class_names) == ours.classes
    assert main(["predict", str(CAT), "--model", name, "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["pictures"]
    assert row["predictions"][0]["class"] == "cat"


def test_masks_are_the_packaged_networks_where_none_is_named(tmp_path, capfd):
    assert main(["masks", str(CAT), "--out", str(tmp_path / "m.png"), "--json"]) == 0
    given = json.loads(capfd.readouterr().out)
    assert given["model"] in PACKAGED and len(given["modules"]) == 3
    assert (tmp_path / "m.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", PACKAGED)
def test_a_cards_accuracies_fit_together_and_are_the_readmes(name):
    training = read_card(find_pretrained(name)).training
    told = training["measured"]
    # Of the first pictures, of which the tests below count what is right, within four deviations.
    share, count = told["first_right"] / told["first_pictures"], told["first_pictures"]
    assert abs(share - told["top1"]) < 4 * (told["top1"] * (1 - told["top1"]) / count) ** 0.5
    assert abs(training["logged_top1"] - told["top1"]) < 0.005
    assert 0 <= told["top1_flip"] - told["top1"] < 0.02
    assert all(abs(top1 - told["top1"]) < 0.01 for top1 in told["served"].values())
    lines = README.read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{name}` | {training['data']} | "))
    assert f"| {training['recipe']['epochs']} epochs " in row
    for top1 in (told["top1"], told["top1_flip"], *told["served"].values()):
        assert f"{100 * top1:.2f} %" in row


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_as_good_as_their_card_says(name, request):
    assert_as_good_as_told(name, pictures_of(name, request))


@pytest.mark.parametrize("name", PACKAGED)
@pytest.mark.parametrize("form, slack", [("float32", 2), ("bfloat16", 4), ("int8", 8), ("onnx", 2)])
def test_packaged_weights_are_served_as_well_as_their_card_says(
    name, form, slack, request, monkeypatch
):
    if form == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    card, test = read_card(find_pretrained(name)), pictures_of(name, request)
    told = card.training["measured"]
    if form in told["refused"]:
        pytest.skip(f"its card: {told['refused'][form]}")
    count = told["first_pictures"]
    calibration = card.normalization(test.images[count : count + 64])
    with imported(monkeypatch, "deployed_accuracy") as (module,):
        net = get_model(name, pretrained=True)
        served = module.served_form(form, net, card, calibration)
    first = Batches(test.subset(slice(count)), 100, card.normalization)
    expected = told["first_right"] + count * (told["served"][form] - told["top1"])
    slack = max(2, slack * count / 500)
    assert abs(evaluate(served, first).top1 * count - expected) <= slack
