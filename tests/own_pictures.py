"""The scripts of train/ on a small folder of pictures, in a working directory of its own."""

import json
from dataclasses import replace

import pytest
from pictures import fill
from scripts import script
from small import SPEC

from gluon_ran.models.specs import SPECS
from gluon_ran.training.manifest import newest_whole

TINY = replace(SPEC, name="tiny", classes=10)
COUNTS = {"blue": 8, "green": 8, "red": 12}


@pytest.fixture(autouse=True)
def own_pictures(tmp_path, monkeypatch):
    """A working directory with a folder of pictures, signs, and a tiny network."""
    monkeypatch.setitem(SPECS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "signs", COUNTS)


def train(*flags, data_dir="signs", model="tiny", name="folder_train"):
    named = [] if model is None else ["--model", model]
    return script(name).main(
        ["--data-dir", data_dir, *named, "--size", "16", "--epochs", "1", "-b", "8",
         "--warmup-epochs", "0", "--flip", "none", *flags]
    )  # fmt: skip


def evaluate(*flags):
    return script("evaluate").main(list(flags))


def data_of(run):
    return json.loads((run / "data.json").read_text())


def weights_of(run):
    manifest = newest_whole(run / "checkpoints")
    return run / "checkpoints" / manifest["weights"]
