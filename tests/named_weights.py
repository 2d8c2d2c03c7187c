"""Weights by name for the tests: of a tiny network, in folders of their own."""

import shutil
from dataclasses import replace

import pytest
from networks import assert_same, pictures, shake
from small import TINY

from gluon_ran.data import Normalization
from gluon_ran.models import (
    SPECS,
    Card,
    build,
    change_spec,
    pretrained,
    save_with_card,
)

import mxnet as mx

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
