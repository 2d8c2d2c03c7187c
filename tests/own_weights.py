"""Trained weights of tiny networks in a working directory of its own, for the command line."""

from dataclasses import replace

import numpy as np
import pytest
from networks import shake
from small import TINY

from gluon_ran.data import Normalization
from gluon_ran.models import Baseline, Card, build, pretrained, save_with_card

import mxnet as mx

NORMALIZATION = Normalization((120, 110, 100), (60, 61, 62))
NAMES = ("cat", "gr\u00fcn", "dog $5")
MODEL = ["--model", "tiny", "--root", "root"]
RECORD = {"data": "channels", "measured": {"top1": 0.9312}}


@pytest.fixture(name="nets", scope="module")
def own_nets(tmp_path_factory):
    """Networks by name, and the folder of their weights."""
    folder = tmp_path_factory.mktemp("weights")
    mx.random.seed(0)  # made before each test's own
    cards = {
        "tiny": Card(TINY, NORMALIZATION, NAMES, (24, 16), "pad", RECORD),
        "bare": Card(TINY, NORMALIZATION),
        "embedding": Card(replace(TINY, classes=0), NORMALIZATION),
        "plain": Card(replace(TINY, modules=(0,)), NORMALIZATION),
        "base": Card(Baseline("cifar_resnet20_v2", 3), NORMALIZATION),
        "unknown": Card(TINY),
        "mean": Card(
            TINY, Normalization(np.full((24, 16, 3), 99.0), (60, 61, 62)), NAMES, (24, 16)
        ),
        "grey": Card(replace(TINY, in_channels=1)),
    }
    built = {}
    for name, card in cards.items():
        built[name] = build(card.spec)
        built[name].initialize()
        shake(built[name])
        save_with_card(built[name], card, folder / f"{name}.params")
    return built, folder


@pytest.fixture(autouse=True)
def own_weights(nets, tmp_path, monkeypatch):
    """A working folder with the weights in `root`, and no others."""
    (tmp_path / "root").symlink_to(nets[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "package")
    monkeypatch.delenv(pretrained.VARIABLE, raising=False)
