"""Runs that are stopped go on to the bits of one never touched."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from runs import (
    MIXED,
    arrays,
    assert_equal,
    interrupt_after,
    new_run,
    quiet,
    saved_epochs,
    train,
)
from small import RECIPE, SPEC, data_record, dataset, net, train_batches, validation_batches

from gluon_ran.data import DataError, Dataset
from gluon_ran.models import Baseline, build, get_model
from gluon_ran.models.params_file import read_params_file
from gluon_ran.training import (
    CheckpointError,
    RunDirectory,
    RunError,
    checkpoint,
)
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.manifest import checked_file, newest_whole, read_manifest
from gluon_ran.training.precision import cpu_has_bfloat16

import mxnet as mx


@pytest.mark.parametrize(
    "dtype, optimizer, epoch, workers",
    [
        ("float32", "nag", 0, 0),
        ("float32", "nag", 1, 2),
        ("float32", "sgd", 2, 0),
        ("float32", "muon", 1, 0),
        ("bfloat16", "nag", 0, 0),
    ],
)
def test_an_interrupted_run_ends_with_the_bits_of_one_never_touched(
    tmp_path, dtype, optimizer, epoch, workers
):
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    recipe = replace(MIXED, dtype=dtype, optimizer=optimizer)
    expected, whole = quiet(recipe)
    broken = interrupt_after(train_batches(recipe), epoch, 1)
    run = new_run(tmp_path / "run", recipe)
    _, part = train(recipe=recipe, run=run, batches=broken, workers=workers)
    assert not part.completed and len(part.epochs) == epoch
    manifest = newest_whole(run.checkpoints)
    # Workers make batches ahead, so that a signal in the second one may come ahead of any step.
    assert manifest["epochs"] == epoch and manifest["steps"] in ((0, 1, 2) if workers else (2,))
    resumed, rest = train(recipe=recipe, run=RunDirectory.open(tmp_path / "run"))
    assert rest.completed and len(rest.epochs) == 3 - epoch
    assert_equal(expected, arrays(resumed))
    losses = [row["losses"] for row in RunDirectory.open(tmp_path / "run").metrics()]
    assert losses == [result.losses for result in whole.epochs]
    assert (rest.best_top1, rest.best_epoch) == (whole.best_top1, whole.best_epoch)


@pytest.mark.parametrize(
    "dtype, optimizer, devices", [("float32", "nag", 3), ("bfloat16", "muon", 2)]
)
def test_an_interrupted_run_on_several_devices_ends_with_the_same_bits(
    tmp_path, dtype, optimizer, devices
):
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    recipe = replace(MIXED, dtype=dtype, optimizer=optimizer)
    contexts = [mx.cpu(i) for i in range(devices)]
    whole_run, run = new_run(tmp_path / "quiet", recipe), new_run(tmp_path / "run", recipe)
    quiet, whole = train(recipe=recipe, run=whole_run, contexts=contexts)
    broken = interrupt_after(train_batches(recipe), 1, 1, signal.SIGTERM)
    _, part = train(recipe=recipe, run=run, batches=broken, contexts=contexts, workers=0)
    assert part.stopped_by == signal.SIGTERM and len(part.epochs) == 1
    resumed, rest = train(recipe=recipe, run=run, contexts=contexts)
    assert rest.completed
    assert_equal(arrays(quiet), arrays(resumed))
    scores = [[(r["losses"], r["val_loss"]) for r in each.metrics()] for each in (whole_run, run)]
    assert scores[0] == scores[1]
    # What the first device has is what is saved, scored and left behind, on all of them.
    saved = read_params_file(run.checkpoints / "epoch-0003.params")
    for name, parameter in resumed._collect_params_with_prefix().items():
        for copy in parameter.list_data():
            assert np.array_equal(copy.asnumpy(), saved[name]), name


def frozen():
    mx.random.seed(1)
    model = net()
    model.initialize()
    model.freeze(1)
    return model


@pytest.mark.parametrize(
    "make, spec, dtype",
    [
        (frozen, SPEC, "float32"),
        (frozen, SPEC, "bfloat16"),
        (lambda: get_model("cifar_resnet20_v1", 3), Baseline("cifar_resnet20_v1", 3), "bfloat16"),
        (lambda: get_model("cifar_resnet20_v2", 3), Baseline("cifar_resnet20_v2", 3), "float32"),
    ],
    ids=["frozen", "frozen in bfloat16", "resnet_v1", "resnet_v2"],
)
def test_frozen_networks_and_baselines_go_on_to_the_same_bits(tmp_path, make, spec, dtype):
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    recipe = replace(RECIPE, dtype=dtype, epochs=2)
    record = {**data_record(), "freeze": 1}
    start = lambda name: RunDirectory.start(tmp_path / name, spec, recipe, record)  # noqa: E731
    quiet, whole = train(make(), recipe, start("quiet"))
    broken = interrupt_after(train_batches(recipe), 1, 1)
    _, part = train(make(), recipe, start("run"), broken)
    assert not part.completed and len(part.epochs) == 1
    resumed, rest = train(make(), recipe, start("run"))
    assert rest.completed
    assert_equal(arrays(quiet), arrays(resumed))
    if make is frozen:
        kept = make().features.stem
        assert_equal(arrays(kept), arrays(quiet.features.stem))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    run = new_run(tmp_path / "run")
    train(run=run, batches=interrupt_after(train_batches(), 1, 0), workers=0)
    path = run.checkpoints / "epoch-0001-step-000001.params"
    path.write_bytes(path.read_bytes()[:-1])
    resumed, history = train(run=run)
    assert "epoch-0001-step-000001.params is damaged" in caplog.text
    assert history.completed and len(history.epochs) == 2
    assert_equal(arrays(resumed), quiet()[0])


def test_damaged_checkpoints_are_not_trained_on(tmp_path):
    run = new_run(tmp_path / "run")
    train(run=run, batches=interrupt_after(train_batches(), 1, 0), workers=0)
    for path in run.checkpoints.glob("*.params"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no checkpoint that is whole"):
        train(run=run)


@pytest.mark.parametrize("dtype, dropout", [("float32", 0.0), ("bfloat16", 0.5)])
def test_a_run_saved_every_step_goes_on_from_any_to_the_same_bits(tmp_path, dtype, dropout):
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    recipe, spec = replace(MIXED, dtype=dtype), replace(SPEC, dropout=dropout)
    quiet, _ = train(build(spec), recipe)
    run = RunDirectory.start(tmp_path / "run", spec, recipe, data_record())
    settings = {"recipe": recipe, "run": run, "save_every": 1, "keep_last": 20}
    saved, _ = train(build(spec), **settings)
    assert_equal(arrays(quiet), arrays(saved))
    stems = sorted(path.stem for path in run.checkpoints.glob("epoch-*.json"))
    assert len(stems) == 3 * 3
    for stem in ("epoch-0000-step-000002", "epoch-0002-step-000001"):
        for later in stems[stems.index(stem) + 1 :]:
            (run.checkpoints / f"{later}.json").unlink(missing_ok=True)
        resumed, history = train(build(spec), **settings)
        assert history.completed
        assert_equal(arrays(quiet), arrays(resumed))


def test_numbers_to_save_by_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep_last 0"):
        train(run=new_run(tmp_path / "run"), keep_last=0)


def test_a_run_directory_that_was_taken_over_is_refused(tmp_path):
    run = new_run(tmp_path / "run")
    new_run(tmp_path / "run", replace(RECIPE, lr=0.2))
    with pytest.raises(RunError, match="lr 0.2 there, 0.05 now"):
        train(run=run)


def test_damaged_metrics_are_found_before_an_epoch_is_trained(tmp_path):
    run = new_run(tmp_path / "run")
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch\xff": 0}\n{"epoch": 1}\n')
    with pytest.raises(RunError, match="line 1 of .*metrics.jsonl is damaged"):
        train(run=run, batches=lambda epoch: pytest.fail("it trains"))


def test_sigterm_stops_as_ctrl_c_does_and_is_told_from_it(tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        run = new_run(tmp_path / str(number))
        broken = interrupt_after(train_batches(), 1, 1, number)
        _, history = train(run=run, batches=broken, workers=0)
        assert history.stopped_by == number and not history.completed
        resumed, history = train(run=run)
        assert history.completed and history.stopped_by is None
    assert_equal(arrays(resumed), quiet()[0])


def test_a_second_ctrl_c_interrupts_at_once():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_passed_on_as_well_is_one(monkeypatch):
    monkeypatch.setenv("GLUON_RAN_PASSED_ON", "1")
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == stop._take  # else the next one ends the tests
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_a_lost_terminal_counts_as_sigterm_however_often_it_is_told():
    for first in (signal.SIGHUP, signal.SIGTERM):
        with StopRequest() as stop:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal == signal.SIGTERM
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_ctrl_c_while_saving_leaves_the_epoch_before(tmp_path, monkeypatch):
    save = checkpoint.save_checkpoint

    def interrupted(*args, epochs, **kwargs):
        if epochs == 2:
            raise KeyboardInterrupt
        save(*args, epochs=epochs, **kwargs)

    monkeypatch.setattr(checkpoint, "save_checkpoint", interrupted)
    run = new_run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(run=run)
    assert saved_epochs(run) == 1
    monkeypatch.undo()
    resumed, _ = train(run=run)
    assert_equal(arrays(resumed), quiet()[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(number)
            assert not stop.requested
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_stop_during_validation_saves_and_leaves(tmp_path):
    """What is left of the epoch is its validation, which is done anew."""
    expected, whole = quiet()
    told = []

    def validation():
        for batch in validation_batches():
            told.append(batch)
            if len(told) == 4:  # the second of the second epoch
                signal.raise_signal(signal.SIGTERM)
            yield batch

    class Stopping:
        def __iter__(self):
            return validation()

    run = new_run(tmp_path / "run")
    _, part = train(run=run, validation=Stopping())
    assert part.stopped_by == signal.SIGTERM and len(part.epochs) == 1 and len(told) == 4
    manifest = newest_whole(run.checkpoints)
    assert (manifest["epochs"], manifest["steps"]) == (1, 3)
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return train_batches()(epoch)

    resumed, rest = train(run=run, batches=batches)
    assert rest.completed and [result.epoch for result in rest.epochs] == [1, 2]
    assert rest.epochs[0].images_per_second > 0
    assert [result.val_loss for result in rest.epochs] == [r.val_loss for r in whole.epochs[1:]]
    assert_equal(arrays(resumed), expected)


def test_a_run_begun_by_two_processes_at_once_can_be_gone_on_with(tmp_path):
    """The second one starts between the first one's start and its first step."""
    first, second = new_run(tmp_path / "run"), new_run(tmp_path / "run")
    assert first.data["run_id"] != second.data["run_id"]
    assert train(run=first)[1].completed
    assert train(run=new_run(tmp_path / "run"))[1].completed
    with pytest.raises(CheckpointError):
        newest_whole(first.checkpoints, "another")


def test_best_weights_of_an_epoch_that_is_trained_again_are_not_left_damaged(tmp_path):
    """Where training is not bit-exact, for which other batches and labels stand here."""
    run = new_run(tmp_path / "run")
    train(run=run)
    (run.checkpoints / "epoch-0003.json").replace(run.checkpoints / "best.json")
    data = dataset()
    others = Dataset(data.images, (data.labels + 1) % 3, data.class_names)
    _, history = train(
        run=run,
        batches=train_batches(replace(RECIPE, seed=6)),
        validation=validation_batches(others),
    )
    best = read_manifest(run.checkpoints, "best")
    checked_file(run.checkpoints, best, "weights")
    assert best["epochs"] == best["progress"]["best_epoch"] + 1 == history.best_epoch + 1
    assert best["progress"]["best_top1"] == history.best_top1 >= history.epochs[0].val_top1


def test_another_number_of_devices_is_refused(tmp_path):
    """The same step would mean other pictures."""
    run = new_run(tmp_path / "run")
    train(run=run, batches=interrupt_after(train_batches(), 1, 1), workers=0)
    with pytest.raises(CheckpointError, match="trained with 1 devices, and these are 2"):
        train(run=run, contexts=[mx.cpu(0), mx.cpu(1)])


class Broken:
    """Two batches, and then one with a broken record."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        yield from list(self.inner)[:2]
        raise DataError("record 7 is broken")


def test_a_broken_batch_costs_no_step_before_it(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(DataError, match="record 7"):
        train(run=run, batches=lambda epoch: Broken(train_batches()(epoch)), workers=0)
    assert newest_whole(run.checkpoints)["steps"] == 2
    resumed, history = train(run=run)
    assert history.completed
    assert_equal(arrays(resumed), quiet()[0])


def test_a_broken_batch_of_the_validation_costs_no_step_of_the_epoch(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(DataError, match="record 7"):
        train(run=run, validation=Broken(validation_batches()))
    manifest = newest_whole(run.checkpoints)
    assert (manifest["epochs"], manifest["steps"]) == (0, 3)
    none_is_taken = [None] * 3
    rest = lambda epoch: train_batches()(epoch) if epoch else none_is_taken  # noqa: E731
    resumed, history = train(run=run, batches=rest)
    assert history.completed and len(history.epochs) == 3
    assert_equal(arrays(resumed), quiet()[0])
