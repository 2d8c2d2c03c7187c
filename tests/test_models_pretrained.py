"""Trained weights by name: from the package, a folder, and a server that breaks off and lies."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from named_weights import (  # noqa: F401
    NAME,
    NORMALIZATION,
    TEN,
    assert_equal_networks,
    break_file,
    made,
    put,
    root,
    world,
)
from networks import pictures
from packaged import assert_as_good_as_told
from small import dataset

import gluon_ran
from gluon_ran.data import Batches
from gluon_ran.models import (
    SPECS,
    Baseline,
    Card,
    WeightsError,
    build,
    find_pretrained,
    find_spec,
    get_attention_cifar,
    get_model,
    list_pretrained,
    load_weights,
    pretrained,
    read_card,
    save_with_card,
)
from gluon_ran.training import evaluate

import mxnet as mx
from mxnet.gluon import nn


def test_weights_that_are_not_as_good_are_found_out(tmp_path):
    """What the test of packaged weights rests on."""
    test = dataset(60, classes=10, size=8)
    net = put(tmp_path / "weights", "first")
    result = evaluate(net, Batches(test.subset(slice(50)), 25, NORMALIZATION))
    told = {"pictures": 60, "first_pictures": 50, "first_right": round(50 * result.top1)}
    put(tmp_path / "weights", "same", net, {"measured": told})
    put(tmp_path / "weights", "other", None, {"measured": told})
    assert_as_good_as_told("same", test, tmp_path / "weights")
    with pytest.raises(AssertionError):
        assert_as_good_as_told("other", test, tmp_path / "weights")


def test_a_name_gives_the_networks_weights(root):
    expected = build(find_spec(NAME))
    load_weights(expected, root / f"{NAME}.params")
    assert_equal_networks(get_model(NAME, pretrained=True, root=root), expected)
    assert_equal_networks(get_model(NAME, pretrained=True, root=root.as_uri()), expected)
    assert_equal_networks(get_attention_cifar(56, thin=True, pretrained=True, root=root), expected)
    assert find_pretrained(NAME, root) == root / f"{NAME}.params"
    assert list_pretrained(root) == [NAME] and list_pretrained() == []


def test_every_way_to_a_network_takes_trained_weights(root, monkeypatch):
    monkeypatch.setitem(SPECS, "attention56", replace(TEN, name="attention56"))
    net = put(root, "attention56")
    assert_equal_networks(gluon_ran.get_attention_net(56, pretrained=True, root=root), net)
    with pytest.raises(WeightsError, match="there are for attention56"):
        gluon_ran.get_attention_net(92, pretrained=True, root=root)


def test_without_pretrained_a_network_is_not_initialised(root):
    net = get_model(NAME, ctx=mx.cpu())
    with pytest.raises(RuntimeError, match="not been initialized"):
        net(pictures())
    with pytest.raises(ValueError, match="give pretrained=True"):
        get_model(NAME, root=root)


@pytest.mark.parametrize("ctx", [mx.cpu(1), [mx.cpu(0), mx.cpu(1)]])
def test_weights_are_loaded_to_the_devices_asked_for(root, ctx):
    net = get_model(NAME, pretrained=True, root=root, ctx=ctx)
    assert net.output.weight.list_ctx() == (ctx if isinstance(ctx, list) else [ctx])


def test_a_name_that_is_no_network_is_the_network_of_its_card(root):
    net = put(root, "mine", classes=3, unit="resnext", widths=(64,), zero_init=True)
    loaded = get_model("mine", pretrained=True, root=root)
    assert loaded.spec == net.spec
    assert_equal_networks(loaded, net)
    with pytest.raises(ValueError, match="no model is called 'mine'"):
        get_model("mine")


def test_the_number_of_classes_is_the_weights_where_it_is_not_asked_for(root):
    shutil.rmtree(root)
    put(root, NAME, classes=7)
    assert get_model(NAME, pretrained=True, root=root).spec.classes == 7
    with pytest.raises(WeightsError, match="classes is 7 there and 10 here.*new_head=True"):
        get_model(NAME, classes=10, pretrained=True, root=root)


def test_a_baseline_can_have_weights_too(tmp_path):
    net = build(Baseline("cifar_resnet20_v2", 3))
    net.initialize()
    save_with_card(net, Card(Baseline("cifar_resnet20_v2", 3)), tmp_path / "base.params")
    loaded = get_model("base", pretrained=True, root=tmp_path)
    assert_equal_networks(loaded, net)
    for suffix in (".params", ".json"):
        (tmp_path / f"base{suffix}").rename(tmp_path / f"{NAME}{suffix}")
    with pytest.raises(WeightsError, match="name is cifar_resnet20_v2 there and None here.* more;"):
        get_model(NAME, pretrained=True, root=tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classes": 43}, "classes is 10 there and 43 here"),
        ({"classes": 0}, "classes is 10 there and 0 here"),
        ({"attention": "spatial", "t": 2}, "t is 1 there and 2 here, attention is mixed there"),
        ({"norm_kwargs": {"epsilon": 0.1}}, "norm_kwargs set epsilon"),
        ({"norm_layer": nn.LayerNorm, "norm_kwargs": None}, "norm_layer is BatchNorm there"),
    ],
)
def test_another_network_than_the_weights_is_refused(root, changes, message):
    with pytest.raises(WeightsError, match=f"{message}.*leave that out, or build the network") as e:
        get_model(NAME, pretrained=True, root=root, **changes)
    assert ("new_head" in str(e.value)) == bool(changes.get("classes"))
    assert ("net.features" in str(e.value)) == (changes.get("classes") == 0)


def test_what_changes_no_score_may_be_changed(root):
    free = {"dropout": 0.5, "zero_init": True, "upsampling": "separable"}
    norm = {"norm_kwargs": {"momentum": 0.5, "use_global_stats": True}}
    net = get_model(NAME, pretrained=True, root=root, **free, **norm)
    assert net.spec == replace(find_spec(NAME), **free)
    x = pictures()
    expected = get_model(NAME, pretrained=True, root=root)(x)
    np.testing.assert_allclose(net(x).asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-6)


def test_the_advice_for_classes_of_ones_own_works(root):
    net = get_model(NAME, classes=43)
    left = load_weights(net, find_pretrained(NAME, root), new_head=True)
    assert left == ["output.weight", "output.bias"]


def test_the_variable_names_a_root_and_the_argument_wins(root, tmp_path, monkeypatch):
    other = put(tmp_path / "other", NAME)
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path / "other"))
    assert_equal_networks(get_model(NAME, pretrained=True), other)
    assert find_pretrained(NAME, root) == root / f"{NAME}.params"
    monkeypatch.setenv(pretrained.VARIABLE, "")
    assert list_pretrained() == []


def test_a_root_goes_before_the_package_which_is_looked_in_too(root, tmp_path):
    put(tmp_path / "package", NAME)
    put(tmp_path / "package", "another")
    assert find_pretrained(NAME, root).parent == root
    assert find_pretrained("another", root).parent == tmp_path / "package"
    assert list_pretrained(root) == ["another", NAME]
    assert find_pretrained(NAME).parent == tmp_path / "package"


def test_a_name_without_weights_is_told_those_with(root):
    with pytest.raises(WeightsError) as caught:
        get_model("cifar_attention92", pretrained=True, root=root)
    assert str(caught.value) == (
        f"there are no weights for 'cifar_attention92' in {root} and the package; there are for "
        f"{NAME}; without pretrained it is built untrained"
    )
    with pytest.raises(WeightsError, match=f"did you mean {NAME}"):
        get_model("cifar_atention56_thin", pretrained=True, root=root)
    with pytest.raises(WeightsError, match="there are none at all"):
        get_model(NAME, pretrained=True)


@pytest.mark.parametrize("name", ["../x", "{}/x", "sub/x", ".hidden", "", "a\\b"])
def test_a_name_never_leaves_its_folder(root, name, tmp_path):
    """Each of these has its files, where a name were taken for a path."""
    for folder, stem in (
        (tmp_path, "x"), (root / "sub", "x"), (root, ".hidden"), (root, ""), (root, "a\\b"),
    ):  # fmt: skip
        folder.mkdir(exist_ok=True)
        for suffix in (".params", ".json"):
            shutil.copy(root / f"{NAME}{suffix}", folder / f"{stem}{suffix}")
    with pytest.raises(WeightsError, match="there are no weights for"):
        find_pretrained(name.format(tmp_path), root)


def test_yes_is_no_name_of_weights(root):
    with pytest.raises(ValueError, match="pretrained is 'imagenet': give True or False"):
        get_model(NAME, pretrained="imagenet", root=root)


@pytest.mark.parametrize("damage", ["cut", "flip", "card", "bare", "alone"])
def test_what_is_not_whole_is_refused_and_not_passed_over(root, tmp_path, damage):
    put(tmp_path / "package", NAME)
    weights = root / f"{NAME}.params"
    break_file(weights, damage)
    with pytest.raises(WeightsError, match=str(root / NAME)):
        get_model(NAME, pretrained=True, root=root)


def test_a_root_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="root: there is no folder of weights at .*nowhere"):
        find_pretrained(NAME, tmp_path / "nowhere")
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="GLUON_RAN_WEIGHTS: there is no folder"):
        gluon_ran.get_model(NAME, pretrained=True)


def test_cards_without_a_record_of_training_are_read(root):
    card = root / f"{NAME}.json"
    assert "training" not in json.loads(card.read_text())
    assert read_card(root / f"{NAME}.params").training is None
