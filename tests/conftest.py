"""What every test has: the right order of imports, fixed seeds, and no display."""

import os
import random
import signal
from pathlib import Path

# Before anything imports matplotlib, here or in a subprocess.
os.environ["MPLBACKEND"] = "Agg"
# Processes side by side have a thread each. They inherit what gluon_ran set in the one that started
# them, a thread a core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest

import gluon_ran  # noqa: F401  (makes MXNet importable)
from gluon_ran._files import atomic_path

import mxnet as mx

# A shell starts what runs in its background with Ctrl-C ignored, and nohup with a lost terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, alone or among others."""
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)


@pytest.fixture
def real_curves():
    """Asked for by a test whose runs draw their curves."""


@pytest.fixture(autouse=True)
def no_waits(request, monkeypatch):
    """Power does not fail here, and what a run draws behind each epoch is tested by itself."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    if "real_curves" not in request.fixturenames:
        monkeypatch.setattr("gluon_ran.training.saver.plot_curves", undrawn)


def undrawn(rows, path, title=None):
    """In the place of `plot_curves`: the same changes of the disk."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(b"curves")


@pytest.fixture
def shared_data():
    """The folder of data beside the checkout, which not every machine has."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data beside the checkout: {folder.parent.name}/{folder.name}")
    return folder
