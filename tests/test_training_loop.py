import json
import signal
from dataclasses import replace

import numpy as np
import pytest
from small import RECIPE, SPEC, data_record, dataset, net, train_batches, validation_batches

from gluon_ran import fit
from gluon_ran.data import Dataset
from gluon_ran.models import Baseline, build, get_model
from gluon_ran.training import (
    CheckpointError,
    RunDirectory,
    RunError,
    TrainingDiverged,
    checkpoint,
    loop,
)
from gluon_ran.training.interrupt import StopRequest
from gluon_ran.training.precision import cpu_has_bfloat16

import mxnet as mx

MIXED = replace(RECIPE, mixup=True, epsilon=0.1)


def train(model=None, recipe=RECIPE, run=None, batches=None, **kwargs):
    kwargs.setdefault("validation", validation_batches())
    model = model or net()
    history = fit(
        model,
        recipe,
        batches or train_batches(recipe),
        classes=3,
        run=run,
        progress=False,
        **kwargs,
    )
    return model, history


def new_run(path, recipe=RECIPE):
    return RunDirectory.start(path, SPEC, recipe, data_record())


def saved_epochs(run):
    return json.loads((run.checkpoints / "last.json").read_text())["epochs"]


def arrays(model):
    return {n: p.data().asnumpy() for n, p in model._collect_params_with_prefix().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name


def interrupt_after(batches, epochs, steps, number=signal.SIGINT):
    """The same batches, with a signal while a batch of an epoch is made."""

    class Interrupting:
        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return len(self.inner)

        def __iter__(self):
            for step, batch in enumerate(self.inner):
                if step == steps:
                    signal.raise_signal(number)
                yield batch

    return lambda epoch: Interrupting(batches(epoch)) if epoch == epochs else batches(epoch)


def test_a_network_learns_what_there_is_to_learn():
    _, history = train(recipe=replace(RECIPE, epochs=6))
    assert history.completed
    assert history.epochs[-1].val_top1 > 0.9
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss / 2
    assert [len(result.losses) for result in history.epochs] == [3] * 6


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_same_seed_gives_the_same_bits_however_batches_are_made(workers):
    one, first = train(recipe=MIXED)
    other, second = train(recipe=MIXED, workers=workers)
    assert [r.losses for r in first.epochs] == [r.losses for r in second.epochs]
    assert_equal(arrays(one), arrays(other))


def test_another_seed_gives_other_losses():
    _, first = train()
    _, second = train(recipe=replace(RECIPE, seed=6))
    assert first.epochs[0].losses != second.epochs[0].losses


@pytest.mark.parametrize(
    "dtype, epoch, workers",
    [("float32", 0, 0), ("float32", 1, 2), ("float32", 2, 0), ("bfloat16", 0, 0)],
)
def test_an_interrupted_run_ends_with_the_bits_of_one_never_touched(
    tmp_path, dtype, epoch, workers
):
    if dtype == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    recipe = replace(MIXED, dtype=dtype)
    quiet, whole = train(recipe=recipe, run=new_run(tmp_path / "quiet", recipe))
    broken = interrupt_after(train_batches(recipe), epoch, 1)
    run = new_run(tmp_path / "run", recipe)
    _, part = train(recipe=recipe, run=run, batches=broken, workers=workers)
    assert not part.completed and len(part.epochs) == epoch
    manifest = json.loads((run.checkpoints / "last.json").read_text())
    assert manifest["epochs"] == epoch and (manifest["steps"] == 2 or workers)
    resumed, rest = train(recipe=recipe, run=RunDirectory.open(tmp_path / "run"))
    assert rest.completed and len(rest.epochs) == 3 - epoch
    assert_equal(arrays(quiet), arrays(resumed))
    losses = [row["losses"] for row in RunDirectory.open(tmp_path / "run").metrics()]
    assert losses == [result.losses for result in whole.epochs]
    assert (rest.best_top1, rest.best_epoch) == (whole.best_top1, whole.best_epoch)


def frozen():
    mx.random.seed(1)
    model = net()
    model.initialize()
    model.freeze(1)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "make, spec",
    [
        (frozen, SPEC),
        (lambda: get_model("cifar_resnet20_v1", 3), Baseline("cifar_resnet20_v1", 3)),
        (lambda: get_model("cifar_resnet20_v2", 3), Baseline("cifar_resnet20_v2", 3)),
    ],
    ids=["frozen", "resnet_v1", "resnet_v2"],
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


def test_a_finished_run_started_again_trains_nothing(tmp_path):
    model, _ = train(run=new_run(tmp_path / "run"))
    again, history = train(run=new_run(tmp_path / "run"))
    assert history.completed and history.epochs == []
    assert_equal(arrays(model), arrays(again))


def test_a_run_directory_holds_everything_of_a_run(tmp_path):
    run = new_run(tmp_path / "run")
    train(run=run)
    names = {path.relative_to(run.path).parts[0] for path in run.path.rglob("*")}
    assert names == {
        "spec.json", "recipe.json", "data.json", "metrics.jsonl", "checkpoints", "events",
        "curves.png", "run.lock",
    }  # fmt: skip
    row = run.metrics()[-1]
    assert row["epoch"] == 2 and 0 <= row["val_top1"] <= row["val_top5"] <= 1
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    run = new_run(tmp_path / "run")
    train(run=run, batches=interrupt_after(train_batches(), 1, 0), workers=0)
    path = run.checkpoints / "epoch-0001-step-000001.params"
    path.write_bytes(path.read_bytes()[:-1])
    resumed, history = train(run=run)
    assert "epoch-0001-step-000001.params is damaged" in caplog.text
    assert history.completed and len(history.epochs) == 2
    assert_equal(arrays(resumed), arrays(train()[0]))


def test_damaged_checkpoints_are_not_trained_on(tmp_path):
    run = new_run(tmp_path / "run")
    train(run=run, batches=interrupt_after(train_batches(), 1, 0), workers=0)
    for path in run.checkpoints.glob("*.params"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no checkpoint that is whole"):
        train(run=run)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
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


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(tmp_path):
    def batches(epoch):
        for images, labels in train_batches()(epoch):
            yield (images * np.nan if epoch == 1 else images), labels

    class Poisoned:
        def __init__(self, epoch):
            self.epoch = epoch

        def __len__(self):
            return 3

        def __iter__(self):
            return batches(self.epoch)

    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="of epoch 2: lower the learning rate"):
        train(run=run, batches=Poisoned)
    assert saved_epochs(run) == 1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch):
    """A blow-up in an epoch's last update, which no loss of that epoch shows."""

    steps = len(train_batches()(0))
    rate = lambda step, *_: 1e38 if step == steps - 1 else 0.01  # noqa: E731
    monkeypatch.setattr("gluon_ran.training.epoch.lr_at", rate)
    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(run=run)
    assert not run.has_checkpoint()


def test_sigterm_stops_as_ctrl_c_does_and_is_told_from_it(tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        run = new_run(tmp_path / str(number))
        broken = interrupt_after(train_batches(), 1, 1, number)
        _, history = train(run=run, batches=broken, workers=0)
        assert history.stopped_by == number and not history.completed
        resumed, history = train(run=run)
        assert history.completed and history.stopped_by is None
    assert_equal(arrays(resumed), arrays(train()[0]))


def test_a_second_ctrl_c_interrupts_at_once():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


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
    quiet, _ = train()
    assert_equal(arrays(resumed), arrays(quiet))


def test_batches_may_be_iterated_only_once():
    class Once:
        def __init__(self, epoch):
            self.items = iter(train_batches()(epoch))

        def __len__(self):
            return 3

        def __iter__(self):
            return self.items

    one, _ = train(batches=Once)
    other, _ = train()
    assert_equal(arrays(one), arrays(other))


def test_labels_that_the_network_has_no_class_for_are_refused():
    data = dataset(classes=4)
    with pytest.raises(ValueError, match="do not fit a network of 3 classes"):
        train(batches=train_batches(data=data))


def test_validation_can_be_left_out(tmp_path):
    run = new_run(tmp_path / "run")
    _, history = train(run=run, validation=None)
    assert history.completed and history.best_top1 is None
    assert history.epochs[-1].val_top1 is None


def test_two_devices_train_and_evaluate():
    _, history = train(recipe=replace(RECIPE, epochs=6), contexts=[mx.cpu(0), mx.cpu(1)])
    assert history.epochs[-1].val_top1 > 0.9


def test_training_goes_on_from_weights_that_are_there():
    model, _ = train(recipe=replace(RECIPE, epochs=6))
    _, history = train(model, recipe=replace(RECIPE, epochs=1, lr=0.0))
    assert history.epochs[0].val_top1 > 0.9


def test_accuracy_under_mixup_and_smoothing_is_still_an_accuracy():
    _, history = train(recipe=replace(MIXED, epochs=12, alpha=0.2))
    assert all(0 <= r.train_top1 <= 1 for r in history.epochs)
    assert history.epochs[-1].train_top1 > 0.9


def test_a_single_picture_is_a_batch():
    data = dataset()
    one = Dataset(data.images[:9], data.labels[:9], data.class_names)
    _, history = train(batches=train_batches(data=one))
    assert [len(r.losses) for r in history.epochs] == [2, 2, 2]


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


PROGRESSIVE = replace(RECIPE, progressive_sizes=((8, 2),))


def test_progressive_sizes_are_what_the_network_sees(monkeypatch):
    seen = []
    step = loop.Stepper.__call__

    def noting(self, images, targets, lr):
        seen.append(images.shape[2:])
        return step(self, images, targets, lr)

    monkeypatch.setattr(loop.Stepper, "__call__", noting)
    _, history = train(recipe=PROGRESSIVE)
    steps = len(seen) // 3
    assert seen == [(8, 8)] * 2 * steps + [(16, 16)] * steps
    assert history.epochs[-1].val_top1 > 0.5


def test_only_epochs_at_the_pictures_own_size_can_be_the_best(tmp_path):
    run = new_run(tmp_path / "run", PROGRESSIVE)
    _, history = train(recipe=PROGRESSIVE, run=run)
    assert [result.size for result in history.epochs] == [8, 8, None]
    assert (history.best_epoch, history.best_top1) == (2, history.epochs[2].val_top1)
    assert json.loads((run.checkpoints / "best.json").read_text())["epochs"] == 3


@pytest.mark.parametrize("epochs, steps", [(0, 1), (1, 2), (2, 1)])
def test_a_run_of_progressive_sizes_goes_on_to_the_same_bits(tmp_path, epochs, steps):
    whole, _ = train(recipe=PROGRESSIVE, run=new_run(tmp_path / "whole", PROGRESSIVE))
    batches = interrupt_after(train_batches(PROGRESSIVE), epochs, steps)
    run = new_run(tmp_path / "parts", PROGRESSIVE)
    train(recipe=PROGRESSIVE, run=run, batches=batches)
    assert saved_epochs(run) <= 2
    rest, history = train(recipe=PROGRESSIVE, run=run)
    assert history.completed
    assert_equal(arrays(whole), arrays(rest))


def test_a_size_that_the_network_does_not_take_is_refused_before_training():
    with pytest.raises(ValueError, match="multiples of 4"):
        train(recipe=replace(RECIPE, progressive_sizes=((10, 1),)))
