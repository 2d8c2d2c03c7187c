"""Trained weights by name: from the package, a folder, and a server that breaks off and lies."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from networks import assert_same, pictures, shake
from packaged import assert_as_good_as_told
from small import TINY, dataset
from web import serve

import gluon_ran
from gluon_ran.data import Batches, Normalization
from gluon_ran.models import (
    SPECS,
    Baseline,
    Card,
    WeightsError,
    build,
    change_spec,
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

NORMALIZATION = Normalization((120, 110, 100), (60, 61, 62))
NAME = "cifar_attention56_thin"
# The network that has that name here.
TEN = replace(TINY, name=NAME, classes=10)


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    """An empty package, a zoo with a tiny network, a cache of the test's own, no waiting."""
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "package")
    monkeypatch.setitem(SPECS, NAME, TEN)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.delenv(pretrained.VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def put(folder, name, net=None, training=None, **changes):
    """Weights of a network, by itself a new one, in a folder; the network."""
    folder.mkdir(exist_ok=True)
    if net is None:
        net = build(change_spec(TEN, **changes))
        net.initialize()
        shake(net)
    card = Card(net.spec, NORMALIZATION, training=training)
    save_with_card(net, card, folder / f"{name}.params")
    return net


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    mx.random.seed(1)  # other weights than those that tests make from seed 0
    put(folder, NAME)
    return folder


@pytest.fixture
def root(tmp_path, made):
    shutil.copytree(made, tmp_path / "weights")
    return tmp_path / "weights"


def assert_equal_networks(one, other):
    x = pictures()
    assert_same(one(x), other(x))


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


def break_file(weights, damage):
    content = bytearray(weights.read_bytes())
    if damage == "cut":
        weights.write_bytes(content[:-1])
    elif damage == "flip":
        content[-200] ^= 1
        weights.write_bytes(content)
    elif damage == "card":
        weights.with_suffix(".json").write_text("{")
    elif damage == "bare":
        weights.with_suffix(".json").unlink()
    else:
        weights.unlink()


@pytest.mark.parametrize("where", ["ftp://x/y", "http://", "https://x/y?z=1", "file://host/x"])
def test_addresses_of_other_kinds_are_refused(where):
    with pytest.raises(WeightsError, match="give a folder, or an address that begins with"):
        list_pretrained(where)


def test_a_root_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="root: there is no folder of weights at .*nowhere"):
        find_pretrained(NAME, tmp_path / "nowhere")
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match="GLUON_RAN_WEIGHTS: there is no folder"):
        gluon_ran.get_model(NAME, pretrained=True)


def test_an_address_is_asked_once(root, tmp_path):
    expected = get_model(NAME, pretrained=True, root=root)
    with serve(tmp_path) as server:
        address = f"{server.url}/weights/"
        assert list_pretrained(address) == []
        first = get_model(NAME, pretrained=True, root=address)
        assert server.asked == [f"/weights/{NAME}.json", f"/weights/{NAME}.params"]
        second = get_model(NAME, pretrained=True, root=address[:-1])
        assert len(server.asked) == 2
    assert_equal_networks(first, expected)
    assert_equal_networks(second, expected)
    assert list_pretrained(address) == [NAME]
    folder = find_pretrained(NAME, address).parent
    assert tmp_path / "mxnet" / "models" in folder.parents
    assert sorted(p.name for p in folder.iterdir()) == [".lock", f"{NAME}.json", f"{NAME}.params"]


def test_a_name_may_have_any_letters(root):
    name = "gr\u00fcn #1 a%20b?.v2"
    put(root, name)
    with serve(root) as server:
        whole = (root / f"{name}.params").read_bytes()
        assert find_pretrained(name, server.url).read_bytes() == whole


def test_an_address_may_have_any_letters(root, tmp_path):
    root.rename(tmp_path / "gr\u00fcn e")
    whole = (tmp_path / "gr\u00fcn e" / f"{NAME}.params").read_bytes()
    with serve(tmp_path) as server:
        for path in ("gr\u00fcn e", "gr%C3%BCn%20e"):
            assert find_pretrained(NAME, f"{server.url}/{path}/").read_bytes() == whole
        assert server.asked == [f"/gr%C3%BCn%20e/{NAME}.{end}" for end in ("json", "params")]


@pytest.mark.parametrize(
    "fault, told",
    [("lie", "SHA-256"), ("down", "answered 500"), ("gone", "no weights .* any more .*SHA-256")],
)
def test_what_an_address_fails_to_give_never_comes_from_elsewhere(root, tmp_path, fault, told):
    put(tmp_path / "package", NAME)
    with serve(root) as server:
        if fault == "lie":
            break_file(root / f"{NAME}.params", "flip")
        elif fault == "down":
            server.faults = [500] * 4
        else:
            break_file(find_pretrained(NAME, server.url), "flip")
            for path in root.iterdir():
                path.unlink()
        with pytest.raises(WeightsError, match=told):
            find_pretrained(NAME, server.url)


def test_two_addresses_are_two_folders(root, tmp_path):
    put(tmp_path / "other", NAME)
    with serve(tmp_path) as server:
        one, other = (find_pretrained(NAME, f"{server.url}/{f}") for f in ("weights", "other"))
    assert one.parent != other.parent and one.read_bytes() != other.read_bytes()


def test_what_the_address_lacks_is_looked_for_in_the_package(root, tmp_path):
    put(tmp_path / "package", "another")
    with serve(root) as server:
        assert find_pretrained("another", server.url).parent == tmp_path / "package"
        with pytest.raises(WeightsError, match="which can't be listed.* and the package"):
            find_pretrained("third", server.url)
        assert server.asked == ["/another.json", "/third.json"]


@pytest.mark.parametrize("damage", ["cut", "flip", "card", "bare", "alone"])
def test_a_damaged_download_is_named_and_repeated(root, damage, caplog):
    whole = (root / f"{NAME}.params").read_bytes()
    with serve(root) as server:
        weights = find_pretrained(NAME, server.url)
        break_file(weights, damage)
        assert find_pretrained(NAME, server.url).read_bytes() == whole
    assert "downloaded again" in caplog.text and str(weights.with_suffix("")) in caplog.text


def test_a_damaged_download_without_a_network_is_an_error(root):
    with serve(root) as server:
        weights = find_pretrained(NAME, server.url)
        break_file(weights, "flip")
    with pytest.raises(
        WeightsError, match="no connection.*check the network.*card of other weight"
    ):
        find_pretrained(NAME, server.url)


def test_breaks_of_a_download_are_mended(root):
    whole = (root / f"{NAME}.params").read_bytes()
    with serve(root) as server:
        server.faults = [503, b'{"sha256"', None, whole[:1000]]
        assert find_pretrained(NAME, server.url).read_bytes() == whole
        kinds = [path.rpartition(".")[2] for path in server.asked]
        assert kinds == ["json", "json", "json", "params", "params"]


def test_a_server_that_lies_is_refused(root):
    with serve(root) as server:
        server.faults = [None, *[b"?" * 100] * 4]
        with pytest.raises(WeightsError, match="connection ended after 100 of 101 bytes"):
            find_pretrained(NAME, server.url)
        break_file(root / f"{NAME}.params", "flip")
        with pytest.raises(WeightsError, match="does not have the SHA-256"):
            find_pretrained(NAME, server.url)
        (root / f"{NAME}.json").write_text("<html>not found</html>")
        with pytest.raises(WeightsError, match="is no card of weights .*check the address"):
            find_pretrained(NAME, server.url)
        server.faults = [500] * 4
        with pytest.raises(WeightsError, match="answered 500"):
            find_pretrained(NAME, server.url)


def test_a_cache_that_cannot_be_written_is_named(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "file"))
    with serve(root) as server, pytest.raises(WeightsError, match="set MXNET_HOME"):
        find_pretrained(NAME, server.url)


def test_cards_without_a_record_of_training_are_read(root):
    card = root / f"{NAME}.json"
    assert "training" not in json.loads(card.read_text())
    assert read_card(root / f"{NAME}.params").training is None
