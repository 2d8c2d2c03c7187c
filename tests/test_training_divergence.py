"""Losses, gradients and weights that are no numbers."""

import signal

import numpy as np
import pytest
from runs import arrays, assert_equal, new_run, quiet, saved_epochs, train
from small import train_batches

from gluon_ran.training import Evaluation, Group, TrainingDiverged
from gluon_ran.training.manifest import checked_file, newest_whole, read_manifest


def test_a_loss_that_is_no_number_stops_the_run_and_spares_what_was_saved(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match="of epoch 2: lower the learning rate"):
        train(run=run, batches=lambda epoch: Poisoned(epoch, range(3) if epoch == 1 else {}))
    assert saved_epochs(run) == 1


class Poisoned:
    """The batches of an epoch, some of which have no numbers in them."""

    def __init__(self, epoch, bad, stop_at=None):
        self.inner, self.bad, self.stop_at = train_batches()(epoch), bad, stop_at

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        for step, (images, labels) in enumerate(self.inner):
            if step == self.stop_at:
                signal.raise_signal(signal.SIGTERM)
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
    assert_equal(arrays(resumed), quiet()[0])


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
    _, whole = quiet()
    assert history.epochs[0].losses == whole.epochs[0].losses
    for ours, theirs in zip(history.epochs[1:], whole.epochs[1:]):
        assert ours.lr == pytest.approx(theirs.lr / 2)
    assert "learning rates are 0.5 of the recipe's" in caplog.text
    # The factor is part of the run.
    (run.checkpoints / "epoch-0003.json").unlink()
    again, rest = train(run=run)
    assert rest.epochs[0].lr == history.epochs[2].lr
    assert_equal(arrays(again), arrays(model))


def poisoned_at_first(times, bad):
    """Batches whose second epoch has no numbers in some steps the first times it is asked for."""
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return Poisoned(epoch, bad if epoch == 1 and asked.count(1) <= times else {})

    return batches


SETTINGS = {"max_skips": 1, "step_back": True, "workers": 0, "save_every": 1, "keep_last": 3}


def test_what_is_gone_back_to_lies_before_the_steps_left_out(tmp_path, caplog):
    caplog.set_level("INFO", "gluon_ran")
    run = new_run(tmp_path / "run")
    _, history = train(run=run, batches=poisoned_at_first(1, {1, 2}), **SETTINGS)
    assert [result.skipped for result in history.epochs] == [0, 0, 0]
    assert "going on behind step 1 of epoch 2" in caplog.text
    assert newest_whole(run.checkpoints)["progress"]["lr_factor"] == 0.5


def test_going_back_twice_goes_further_back(tmp_path, caplog):
    """The checkpoint behind the step that blew the weights up leads nowhere."""
    caplog.set_level("INFO", "gluon_ran")
    _, history = train(
        run=new_run(tmp_path / "run"), batches=poisoned_at_first(2, {1, 2}), **SETTINGS
    )
    went = [line for line in caplog.messages if line.startswith("going on")]
    assert ["step 1 of epoch 2" in line for line in went] == [True, False]
    assert "behind epoch 1 of" in went[1]
    assert history.completed and history.epochs[1].lr == pytest.approx(quiet()[1].epochs[1].lr / 4)


def test_a_streak_of_steps_left_out_goes_on_over_the_end_of_an_epoch(tmp_path):
    bad = {0: {2}, 1: {0, 1}, 2: {}}
    with pytest.raises(TrainingDiverged, match="3 steps in a row .* step 2 of epoch 2"):
        train(run=new_run(tmp_path), batches=lambda e: Poisoned(e, bad[e]), max_skips=2)
    # Gone on with in between, too.
    run = new_run(tmp_path / "run")
    stopped = lambda e: Poisoned(e, bad[e], stop_at=0 if e == 1 else None)  # noqa: E731
    train(run=run, batches=stopped, workers=0, max_skips=2)
    with pytest.raises(TrainingDiverged, match="3 steps in a row"):
        train(run=run, batches=lambda e: Poisoned(e, bad[e]), workers=0, max_skips=2)


def test_a_stop_behind_a_step_left_out_is_no_divergence(tmp_path):
    run = new_run(tmp_path / "run")
    _, part = train(run=run, batches=lambda e: Poisoned(e, {0}, stop_at=0), workers=0)
    assert part.stopped_by == signal.SIGTERM and not part.completed
    assert newest_whole(run.checkpoints)["steps"] == 1


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


def test_workers_leave_together_where_the_weights_of_one_are_no_numbers(monkeypatch):
    class Together(Group):
        """Of two workers, of which the other one finds its weights not finite."""

        def least(self, number):
            return 0 if number == 1 else number

    monkeypatch.setattr("gluon_ran.training.loop.join", lambda kvstore: Together())
    with pytest.raises(TrainingDiverged, match="weights are no numbers behind step 3"):
        train()


@pytest.mark.parametrize(
    "anew, best_top1, best_epoch", [((0.2, 0.15), 0.2, 1), ((0.05, 0), 0.1, 0)]
)
def test_a_best_epoch_that_was_gone_back_behind_is_no_best(tmp_path, anew, best_top1, best_epoch):
    """Its weights are written over by the epoch trained anew; the best before it is the best."""
    run = new_run(tmp_path / "run")
    rate = iter([0.1, 0.9, *anew])
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return Poisoned(epoch, {0, 1} if epoch == 2 and asked.count(2) < 3 else {})

    def scored(*_, **__):
        return Evaluation(3, 1.0, next(rate), 1.0, np.eye(3, dtype=np.int64))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gluon_ran.training.loop.evaluate", scored)
        settings = {**SETTINGS, "save_every": 0}
        _, history = train(run=run, batches=batches, **settings)
    assert asked == [0, 1, 2, 2, 1, 2]
    assert (history.best_top1, history.best_epoch) == (best_top1, best_epoch)
    best = read_manifest(run.checkpoints, "best")
    assert best["epochs"] == best_epoch + 1 and checked_file(run.checkpoints, best, "weights")
