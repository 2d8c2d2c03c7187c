"""Losses, gradients and weights that are no numbers."""

import numpy as np
import pytest
from runs import arrays, assert_equal, new_run, saved_epochs, train
from small import train_batches

from gluon_ran.training import (
    TrainingDiverged,
)


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="of epoch 2: lower the learning rate"):
        train(run=run, batches=lambda epoch: Poisoned(epoch, range(3) if epoch == 1 else {}))
    assert saved_epochs(run) == 1


class Poisoned:
    """The batches of an epoch, some of which have no numbers in them."""

    def __init__(self, epoch, bad):
        self.inner, self.bad = train_batches()(epoch), bad

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        for step, (images, labels) in enumerate(self.inner):
            yield (images * np.nan if step in self.bad else images), labels


def test_steps_without_numbers_are_left_out_and_counted(tmp_path, caplog):
    run = new_run(tmp_path / "run")
    poisoned = {0: {1}, 1: {0, 2}, 2: set()}
    _, history = train(run=run, batches=lambda epoch: Poisoned(epoch, poisoned[epoch]))
    assert history.completed and [r.skipped for r in history.epochs] == [1, 2, 0]
    assert [row["skipped"] for row in run.metrics()] == [1, 2, 0]
    assert [len(r.losses) for r in history.epochs] == [2, 1, 3]
    assert all(np.isfinite(array).all() for array in arrays(train(run=run)[0]).values())
    assert "step 3 of epoch 2 is left out" in caplog.text


def test_too_many_in_a_row_stop_the_run(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="2 steps in a row .* step 3 of epoch 2: lower"):
        train(run=run, batches=lambda e: Poisoned(e, {1, 2} if e == 1 else {}), max_skips=1)
    assert saved_epochs(run) == 1
    resumed, history = train(run=run)
    assert history.completed
    assert_equal(arrays(resumed), arrays(train()[0]))


@pytest.mark.parametrize("recompute", [False, True])
def test_a_run_steps_back_to_half_the_learning_rate(tmp_path, caplog, recompute):
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return Poisoned(epoch, {1, 2} if asked.count(1) == 1 and epoch == 1 else {})

    run = new_run(tmp_path / "run")
    settings = {"max_skips": 1, "step_back": True, "recompute": recompute}
    model, history = train(run=run, batches=batches, workers=0, **settings)
    assert history.completed and asked == [0, 1, 1, 2]
    assert [r.epoch for r in history.epochs] == [0, 1, 2]
    quiet, whole = train()
    assert history.epochs[0].losses == whole.epochs[0].losses
    for ours, theirs in zip(history.epochs[1:], whole.epochs[1:]):
        assert ours.lr == pytest.approx(theirs.lr / 2)
    assert "learning rates are 0.5 of the recipe's" in caplog.text
    # The factor is part of the run.
    (run.checkpoints / "epoch-0003.json").unlink()
    again, rest = train(run=run)
    assert rest.epochs[0].lr == history.epochs[2].lr
    assert_equal(arrays(again), arrays(model))


def test_stepping_back_ends(tmp_path):
    run = new_run(tmp_path / "run")
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return Poisoned(epoch, range(3) if epoch == 1 else {})

    with pytest.raises(TrainingDiverged, match="no step had a finite loss"):
        train(run=run, batches=batches, workers=0, step_back=True)
    assert asked == [0] + [1] * 6 and saved_epochs(run) == 1
    with pytest.raises(TrainingDiverged, match="of epoch 1"):
        train(batches=lambda epoch: Poisoned(epoch, range(3)), step_back=True)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch):
    """A blow-up in an epoch's last update, which no loss of that epoch shows."""

    steps = len(train_batches()(0))
    rate = lambda step, *_: 1e38 if step == steps - 1 else 0.01  # noqa: E731
    monkeypatch.setattr("gluon_ran.training.epoch.lr_at", rate)
    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(run=run)
    assert not run.has_checkpoint()
