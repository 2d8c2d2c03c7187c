"""Several workers on this machine train as one does."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from distributed_worker import FROZEN, PICTURES, run_directory, trained
from runs import arrays
from small import dataset, net

from gluon_ran.models.params_file import read_params_file
from gluon_ran.training import ALONE, Group, RunDirectory, check_kvstore, join, make_contexts
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.manifest import newest_whole

import mxnet as mx

TESTS = Path(__file__).parent
LAUNCH = TESTS.parent / "train" / "launch.py"


def launched(folder, kvstore="dist_sync", what="", servers=2, restarts=1):
    """Trains by workers to their end; the launcher's exit code and what it showed."""
    arguments = [sys.executable, str(TESTS / "distributed_worker.py"), kvstore, str(folder), what]
    # The launcher's process id is the shell's, in whose place it comes.
    line = 'LAUNCHER=$$ exec "$@"'
    start = [sys.executable, str(LAUNCH), "-n", "2", "-s", str(servers)]
    start += ["--max-restarts", str(restarts), "--"]
    done = subprocess.run(
        ["sh", "-c", line, "sh", *start, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def finished(folder, **settings):
    code, shown = launched(folder, **settings)
    assert code == 0, shown
    return RunDirectory.open(folder / "run")


def losses(run):
    return [row["losses"] for row in run.metrics()]


def saved(run, part):
    manifest = newest_whole(run.checkpoints)
    return read_params_file(run.checkpoints / manifest[part])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The folder of two workers that nothing disturbed."""
    folder = tmp_path_factory.mktemp("quiet")
    finished(folder, what="compare")
    return folder


def close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-5), name


def test_two_workers_train_as_two_devices_of_one_process(quiet, tmp_path):
    run, alone = RunDirectory.open(quiet / "run"), run_directory(tmp_path, ALONE)
    model = net(zero_init=True)
    trained(model, dataset(PICTURES), size=16, contexts=[mx.cpu(0), mx.cpu(1)], run=alone)
    assert sum(map(len, losses(run))) == 20
    for ours, theirs in zip(run.metrics(), alone.metrics()):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)
        assert ours["train_top1"] == theirs["train_top1"]
        assert ours["val_top1"] == theirs["val_top1"]
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-5)
    close(saved(run, "weights"), {name: array for name, array in arrays(model).items()})


def test_two_workers_train_as_one_with_the_whole_batch(quiet):
    model = net(zero_init=True, **FROZEN)
    history = trained(model, dataset(PICTURES), size=16)
    found = [json.loads((quiet / f"compare{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0]["frozen"] == found[1]["frozen"]
    for ours, theirs in zip(found[0]["frozen"], history.epochs):
        assert ours == pytest.approx(theirs.losses, rel=1e-5)
    assert found[0]["val_loss"] == pytest.approx([r.val_loss for r in history.epochs], rel=1e-5)
    weights = [dict(np.load(quiet / f"frozen{rank}.npz")) for rank in (0, 1)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    close(weights[0], arrays(model))


def test_workers_whose_weights_drift_apart_end_an_epoch_with_the_first_ones(quiet):
    first, second = (dict(np.load(quiet / f"drift{rank}.npz")) for rank in (0, 1))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_workers_have_as_many_steps_and_leave_out_the_same_ones(quiet):
    first, second = (json.loads((quiet / f"compare{rank}.json").read_text()) for rank in (0, 1))
    assert first["uneven"] == [2, 3] and second["uneven"] == [3, 3]
    # The second worker's pictures of a step of epoch 2 are no numbers.
    assert first["short"] == second["short"] == [[2, 0], [1, 1]]


def test_workers_that_are_killed_and_then_stopped_end_with_the_same_bits(quiet, tmp_path):
    """By another number of servers, too, which is none of the run's business."""
    code, shown = launched(tmp_path, what="disturb", servers=1)
    assert "launch: worker 1 ended with code 137 (signal 9)" in shown
    assert code == 75, shown
    expected, run = RunDirectory.open(quiet / "run"), RunDirectory.open(tmp_path / "run")
    manifest = newest_whole(run.checkpoints)
    assert manifest["epochs"] == 1 and 2 <= manifest["steps"] < 10
    assert losses(finished(tmp_path, servers=1)) == losses(expected)
    for part in ("weights", "states"):
        ours, theirs = saved(run, part), saved(expected, part)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert not list(tmp_path.glob("never*"))


def test_an_error_of_one_worker_ends_all(tmp_path):
    code, shown = launched(tmp_path, what="fail", servers=1, restarts=0)
    assert code == 1
    assert "worker 1  | ValueError: this worker alone has an error" in shown
    assert "launch: worker 1 ended with code 1, and all others were ended" in shown


@pytest.mark.skipif(find_spec("horovod") is None, reason="Horovod is not installed: see the README")
def test_horovod_trains_to_the_parameter_servers_losses(quiet, tmp_path):
    code, shown = launched(tmp_path, "horovod", servers=0, what="disturb")
    assert code == 75 and "ended with code 137 (signal 9)" in shown, shown
    run = finished(tmp_path, kvstore="horovod", servers=0)
    assert losses(run) == losses(RunDirectory.open(quiet / "run"))


@pytest.mark.parametrize(
    "kvstore, reason",
    [
        ("dist_async", "weights of their own"),
        ("dist_device_sync", "summed on the devices in any case"),
        ("2bit", "what they leave out is in no checkpoint"),
        ("dist", "is none of local, device, nccl, dist_sync, horovod"),
    ],
)
def test_stores_that_do_not_fit_are_refused_with_the_reason(kvstore, reason):
    with pytest.raises(ValueError, match=reason):
        check_kvstore(kvstore)
    with pytest.raises(ValueError, match=reason):
        trained(net(), dataset(8), kvstore=kvstore)


def test_a_store_with_compression_is_refused_with_the_reason():
    store = mx.kv.create("device")
    store.set_gradient_compression({"type": "2bit", "threshold": 0.5})
    with pytest.raises(ValueError, match="give a name.*2bit"):
        trained(net(), dataset(8), kvstore=store)


class Together(Group):
    """Workers that are threads of this process."""

    def __init__(self, rank, arrays, barrier):
        super().__init__(rank, len(arrays))
        self.arrays, self.barrier = arrays, barrier

    def sum(self, array):
        self.arrays[self.rank] = array
        self.barrier.wait(10)
        total = reduce(np.add, self.arrays)
        self.barrier.wait(10)
        return total


def together(count, work):
    """What `work` gives for each of some workers, or its error."""
    arrays, barrier = [None] * count, threading.Barrier(count)

    def tried(rank):
        try:
            return work(Together(rank, arrays, barrier))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(tried, range(count)))


def test_all_get_what_the_first_has_to_the_bit():
    array = np.array([-0.0, 0.0, 1e-45, np.inf, -1 / 3], np.float32)
    given = together(3, lambda g: g.of_first(array if g.rank == 0 else array[::-1]))
    assert [each.tobytes() for each in given] == [array.tobytes()] * 3


def test_all_are_told_what_the_first_found():
    found = {"path": "Grüße", "losses": [0.1, 1e300], "none": None}
    assert together(3, lambda g: g.told(lambda: found if g.rank == 0 else 1 / 0)) == [found] * 3
    assert together(2, lambda g: g.told(lambda: None)) == [None, None]


def test_an_error_of_the_first_is_told_to_all():
    def fail():
        raise OSError("no space left")

    first, *others = together(3, lambda g: g.told(fail))
    assert isinstance(first, OSError)
    assert [str(each) for each in others] == ["worker 0 failed: no space left"] * 2


def test_the_least_number_and_a_signal_to_any_are_known_to_all():
    assert together(3, lambda g: g.least(7 - g.rank)) == [5, 5, 5]

    def asked(number):
        def work(group):
            stop = StopRequest()
            stop.signal = number if group.rank == 1 else None
            return stop.agreed(group), stop.signal

        return together(2, work)

    assert asked(None) == [(False, None)] * 2
    assert asked(signal.SIGTERM) == [(True, signal.SIGTERM)] * 2


def test_workers_of_a_machine_have_gpus_of_their_own(monkeypatch):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 4)
    monkeypatch.setenv("GLUON_RAN_LOCAL_RANK", "1")
    assert make_contexts(2) == [mx.gpu(2), mx.gpu(3)]
    assert make_contexts(0) == [mx.cpu()]
    monkeypatch.setenv("GLUON_RAN_LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="worker 2 of this machine would need GPU 5.* sees 4"):
        make_contexts(2)


@pytest.mark.parametrize("kvstore, servers", [("dist_sync", "-s 1"), ("horovod", "-s 0")])
def test_a_process_that_is_alone_is_told_of_the_launcher(kvstore, servers, monkeypatch):
    for name in ("DMLC_PS_ROOT_URI", "HOROVOD_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=f"train/launch.py -n 2 {servers}"):
        join(kvstore)


@pytest.mark.parametrize("size", ["DMLC_NUM_WORKER", "HOROVOD_SIZE"])
def test_a_worker_that_would_train_alone_is_refused(size, monkeypatch):
    monkeypatch.setenv("GLUON_RAN_RANK", "1")
    monkeypatch.setenv(size, "2")
    with pytest.raises(ValueError, match="one of several workers, and kvstore device would"):
        join("device")
    monkeypatch.setenv(size, "1")
    assert join("device") is ALONE


@pytest.mark.skipif(find_spec("horovod") is not None, reason="Horovod is installed")
def test_a_missing_horovod_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("HOROVOD_RANK", "0")
    with pytest.raises(ValueError, match="(?s)^kvstore horovod.*README.*extra 'horovod'[^\n]*$"):
        join("horovod")
