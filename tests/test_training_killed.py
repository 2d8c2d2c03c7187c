"""A run that is killed again and again ends with the bits of one never touched."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small import RECIPE, SPEC, data_record

from gluon_ran.models.params_file import read_params_file
from gluon_ran.training import RunDirectory
from gluon_ran.training.checkpoint import newest_whole

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


def killed_after(run, seconds):
    """Trains until a moment behind the start; whether the end came first."""
    with started(run) as process:
        assert process.stdout.readline() == "imported\n"
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            return False


def finished(run):
    with started(run) as process:
        assert process.wait(300) == 0
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
    begin = time.perf_counter()
    losses, arrays = finished(quiet)
    whole, rng = time.perf_counter() - begin, random.Random(seed)
    for _ in range(3):
        killed_after(run, rng.uniform(0.05, 0.6) * whole)
    again, others = finished(run)
    assert again == losses and len(losses) == RECIPE.epochs
    for saved, other in zip(arrays, others):
        assert list(saved) == list(other)
        assert all(np.array_equal(saved[name], other[name]) for name in saved)
    assert not list(run.checkpoints.glob(".*.tmp"))
