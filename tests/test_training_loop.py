import json
from dataclasses import replace

import pytest
from runs import MIXED, arrays, assert_equal, interrupt_after, new_run, quiet, saved_epochs, train
from small import RECIPE, dataset, train_batches, validation_batches

from gluon_ran.data import Dataset
from gluon_ran.training import (
    loop,
)

import mxnet as mx


def test_a_network_learns_what_there_is_to_learn():
    _, history = train(recipe=replace(RECIPE, epochs=6))
    assert history.completed
    assert history.epochs[-1].val_top1 > 0.9
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss / 2
    assert [len(result.losses) for result in history.epochs] == [3] * 6


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_same_seed_gives_the_same_bits_however_batches_are_made(workers):
    expected, first = quiet(MIXED)
    other, second = train(recipe=MIXED, workers=workers)
    assert [r.losses for r in first.epochs] == [r.losses for r in second.epochs]
    assert_equal(expected, arrays(other))


def test_another_seed_gives_other_losses():
    _, first = quiet()
    _, second = train(recipe=replace(RECIPE, seed=6))
    assert first.epochs[0].losses != second.epochs[0].losses


def test_a_finished_run_started_again_trains_nothing(tmp_path):
    model, _ = train(run=new_run(tmp_path / "run"))
    again, history = train(run=new_run(tmp_path / "run"))
    assert history.completed and history.epochs == []
    assert_equal(arrays(model), arrays(again))


def test_a_run_directory_holds_everything_of_a_run(tmp_path, real_curves):
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


def test_batches_may_be_iterated_only_once():
    class Once:
        def __init__(self, epoch):
            self.items = iter(train_batches()(epoch))

        def __len__(self):
            return 3

        def __iter__(self):
            return self.items

    one, _ = train(batches=Once)
    assert_equal(arrays(one), quiet()[0])


def test_batches_that_are_fewer_than_their_length_are_an_error():
    class Short(list):
        def __len__(self):
            return 5

    with pytest.raises(ValueError, match=r"train\(0\) gave 3 batches, and its length is 5"):
        train(batches=lambda epoch: Short(train_batches()(epoch)))


def test_validation_that_can_be_had_once_is_refused():
    with pytest.raises(ValueError, match="validation gives its batches once"):
        train(validation=iter(validation_batches()))


def test_labels_that_the_network_has_no_class_for_are_refused():
    data = dataset(classes=4)
    with pytest.raises(ValueError, match="do not fit a network of 3 classes"):
        train(batches=train_batches(data=data))


def test_validation_can_be_left_out(tmp_path):
    run = new_run(tmp_path / "run")
    _, history = train(run=run, validation=None)
    assert history.completed and history.best_top1 is None
    assert history.epochs[-1].val_top1 is None


def test_validations_can_be_left_out_but_the_last(tmp_path, real_curves):
    recipe = replace(RECIPE, epochs=5)
    whole, every = train(recipe=recipe)
    run = new_run(tmp_path / "run", recipe)
    model, history = train(recipe=recipe, run=run, validation_period=2)
    assert_equal(arrays(whole), arrays(model))
    expected = [r.val_top1 if r.epoch in (1, 3, 4) else None for r in every.epochs]
    assert [r.val_top1 for r in history.epochs] == expected
    assert history.best_top1 == max(filter(None, expected))
    assert (run.path / "curves.png").is_file()
    with pytest.raises(ValueError, match="validation_period is 0"):
        train(validation_period=0)


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
    expected, _ = quiet(PROGRESSIVE)
    batches = interrupt_after(train_batches(PROGRESSIVE), epochs, steps)
    run = new_run(tmp_path / "parts", PROGRESSIVE)
    train(recipe=PROGRESSIVE, run=run, batches=batches)
    assert saved_epochs(run) <= 2
    rest, history = train(recipe=PROGRESSIVE, run=run)
    assert history.completed
    assert_equal(expected, arrays(rest))


def test_a_size_that_the_network_does_not_take_is_refused_before_training():
    with pytest.raises(ValueError, match="multiples of 4"):
        train(recipe=replace(RECIPE, progressive_sizes=((10, 1),)))
