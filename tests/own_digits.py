"""The scripts of train/ on digits at a size that trains in seconds, in a working directory."""

from dataclasses import replace

import pytest
from scripts import script
from small import SPEC

from gluon_ran.data import Dataset
from gluon_ran.data import load_dataset as load_whole
from gluon_ran.models.specs import SPECS

TINY = replace(SPEC, name="tiny", classes=10)


@pytest.fixture(autouse=True)
def small_digits(tmp_path, monkeypatch):
    """A tiny network and 60 digits, in a working directory of their own."""

    def load(name, data_dir=None, **settings):
        splits = load_whole(name, data_dir, **settings)
        return [Dataset(d.images[:60], d.labels[:60], d.class_names) for d in splits]

    monkeypatch.setitem(SPECS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    for name in ("sources", "evaluate"):
        monkeypatch.setattr(script(name), "load_dataset", load)


def train(*flags):
    return script("cifar10_train").main(
        ["--dataset", "digits", "--model", "tiny", "--epochs", "2", "--warmup-epochs", "0", *flags]
    )


def evaluate(*flags):
    return script("evaluate").main(list(flags))
