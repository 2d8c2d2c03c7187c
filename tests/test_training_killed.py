"""A run that is killed again and again ends with the bits of one never touched."""

import dataclasses
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import new_run, train
from small import RECIPE, SPEC, data_record

from gluon_ran.models.params_file import read_params_file
from gluon_ran.training import RunDirectory
from gluon_ran.training.manifest import newest_whole, read_manifest

# Trains the small network, or goes on with it, and saves behind every step.
SCRIPT = """
import sys
from dataclasses import replace
from small import RECIPE, data_record, net, train_batches, validation_batches
import gluon_ran
from gluon_ran.training import RunDirectory
print("imported", flush=True)
run = RunDirectory.open(sys.argv[1])
history = gluon_ran.fit(
    net(), run.recipe, train_batches(run.recipe), validation_batches(), classes=3, run=run,
    save_every=1, progress=False,
)
sys.exit(0 if history.completed else 9)
"""


def started(run):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(run.path)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(run, seconds, once=lambda: False):
    """Trains until so long behind the start, or until something is so, or to the end."""
    with started(run) as process:
        assert process.stdout.readline() == "imported\n"
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None and not once():
            time.sleep(0.005)
        process.kill()


def left_of(run):
    manifest = newest_whole(run.checkpoints)
    losses = [row["losses"] for row in run.metrics()]
    return losses, [
        read_params_file(run.checkpoints / manifest[part]) for part in ("weights", "states")
    ]


@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_moments_change_nothing(tmp_path, seed):
    quiet, run = (
        RunDirectory.start(tmp_path / name, SPEC, RECIPE, data_record()) for name in ("a", "b")
    )
    train(run=quiet, save_every=1)
    losses, arrays = left_of(quiet)
    kill(run, random.Random(seed).uniform(0.05, 1))
    kill(run, 60, once=lambda: run.has_checkpoint())
    assert newest_whole(run.checkpoints)["epochs"] < RECIPE.epochs
    with started(run) as process:
        assert process.wait(300) == 0
    again, others = left_of(run)
    assert again == losses and len(losses) == RECIPE.epochs
    for saved, other in zip(arrays, others):
        assert list(saved) == list(other)
        assert all(np.array_equal(saved[name], other[name]) for name in saved)
    assert not list(run.checkpoints.glob(".*.tmp"))


class Killed(BaseException):
    """Takes the place of SIGKILL, between two changes of the disk."""


def test_a_kill_between_any_two_changes_of_the_disk_loses_nothing(tmp_path, monkeypatch):
    """Each change of the last epoch's end, at which a best one is found."""
    settings = {"save_every": 2, "keep_last": 1, "save_period": 2}
    changes, last, replace, unlink = [0], [10**9], os.replace, Path.unlink

    def change():
        changes[0] += 1
        if changes[0] > last[0]:
            raise Killed

    monkeypatch.setattr(os, "replace", lambda *paths: (change(), replace(*paths)))
    monkeypatch.setattr(Path, "unlink", lambda path, **_: (
        path.suffix == ".tmp" or change(), unlink(path)))  # fmt: skip
    recipe = dataclasses.replace(RECIPE, epochs=1)
    quiet = new_run(tmp_path / "quiet", recipe)
    changes[0] = 0
    train(recipe=recipe, run=quiet, **settings)
    done, expected = changes[0], left_by(quiet)
    assert done > 8
    for number in range(done - 8, done):
        run = new_run(tmp_path / str(number), recipe)
        changes[0], last[0] = 0, number
        with pytest.raises(Killed):
            train(recipe=recipe, run=run, **settings)
        last[0] = 10**9
        train(recipe=recipe, run=new_run(run.path, recipe), **settings)
        assert left_by(run) == expected, number


def left_by(run):
    """What a finished run's manifests and metrics say, but for its id and the time it took."""
    manifests = [newest_whole(run.checkpoints), read_manifest(run.checkpoints, "best")]
    said = [[each["weights"], each["sha256"], each["progress"]] for each in manifests]
    return said, [row["losses"] for row in run.metrics()], (run.path / "curves.png").exists()
