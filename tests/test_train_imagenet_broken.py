"""Training on streams from the command line: exact resuming, and data that is broken."""

import json
import signal

import numpy as np
import pytest
from own_pictures import data_of, evaluate, own_pictures  # noqa: F401
from own_streams import (  # noqa: F401
    COUNT,
    damaged,
    log_of,
    packed,
    rows,
    saved,
    train,
    with_label,
    without_mark,
    without_picture,
)
from record_files import write
from scripts import script

from gluon_ran.data import DiskError, Normalization, RecordBatches, RecordFile, TrainTransform


class Stopping(RecordBatches):
    """Ends the process's work behind some batches of the second epoch; sees which are made."""

    made = []
    stop = None

    def _chunks(self, step):
        self.made.append((self.epoch, step))
        return super()._chunks(step)

    def from_step(self, step):
        for number, batch in enumerate(super().from_step(step), step):
            if self.epoch == 1 and number == 3 and self.stop and self.transform.size == (16, 16):
                self.stop()
            yield batch


def crash():
    raise OSError("the disk is gone")


def fail():
    raise DiskError("the disk fails now and then")


@pytest.mark.parametrize(
    ("stop", "code", "start"),
    [(lambda: signal.raise_signal(signal.SIGTERM), 75, None), (crash, 1, 2), (fail, 1, 3)],
)
def test_a_run_that_ends_within_an_epoch_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, stop, code, start
):
    """With broken records, whose number stays right, and without the batches before."""
    damaged(tmp_path / "packed" / "own_train.rec", 4, without_picture)
    damaged(tmp_path / "packed" / "own_train.rec", 17, without_mark)
    flags = ["--broken", "skip", "--save-every", "2", "-j", "1", "--epochs", "2"]
    assert train("--save-dir", "quiet", *flags) == 0
    monkeypatch.setattr(script("sources"), "RecordBatches", Stopping)
    monkeypatch.setattr(Stopping, "stop", staticmethod(stop))
    assert train("--save-dir", "run", *flags) == code
    monkeypatch.setattr(Stopping, "stop", None)
    Stopping.made.clear()
    assert train("--save-dir", "run", *flags) == 0
    behind = log_of(tmp_path / "run").split("going on behind step ")[1][0]
    assert behind == str(start or behind) and int(behind) < 5
    assert min(step for epoch, step in Stopping.made if epoch == 1) == int(behind)
    for one, other in zip(saved(tmp_path / "quiet"), saved(tmp_path / "run")):
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for one, other in zip(rows(tmp_path / "quiet"), rows(tmp_path / "run")):
        assert one["losses"] == other["losses"] and one["left_out"] == other["left_out"]


def test_broken_records_are_refused_by_name_or_left_out_and_counted(tmp_path, capsys):
    rec = tmp_path / "packed" / "own_train.rec"
    changes = {3: without_picture, 9: without_mark, 20: with_label(7)}
    whole = rec.read_bytes()
    for number, change in changes.items():
        damaged(rec, number, change)
        assert train("--save-dir", f"stopped by {number}", "-b", "14") == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"own_train.rec, record {number}: " in error and "--broken skip" in error
        rec.write_bytes(whole)
    for number, change in changes.items():
        damaged(rec, number, change)
    assert train("--save-dir", "run", "-b", "14", "--broken", "skip", "--epochs", "2") == 0
    log = log_of(tmp_path / "run")
    assert log.count("left out: ") == 3, "each once, not in every epoch"
    assert "record 20: label 7 is outside 0 to 2" in log
    assert log.count("left out 3 of 28 pictures of packed/own_train.rec") == 2
    assert [row["left_out"] for row in rows(tmp_path / "run")] == [3, 3]


def test_a_run_that_a_broken_record_stopped_goes_on_without_it(tmp_path, capsys):
    """From the last step that was saved, to the bits of a run that left it out from the start."""
    how = (5, TrainTransform(16), Normalization.imagenet())
    epoch = RecordBatches(RecordFile("packed/own_train.rec"), *how, shuffle=True)
    number = int(epoch._order[22])  # of the epoch's fifth batch
    damaged(tmp_path / "packed" / "own_train.rec", number, without_picture)
    assert train("--save-dir", "stopped", "--save-every", "2") == 1
    assert f"own_train.rec, record {number}: " in capsys.readouterr().err
    assert script("imagenet_train").main(["--resume", "stopped", "--broken", "skip"]) == 0
    assert "going on behind step " in log_of(tmp_path / "stopped")
    assert train("--save-dir", "quiet", "--broken", "skip") == 0
    for one, other in zip(saved(tmp_path / "quiet"), saved(tmp_path / "stopped")):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_what_is_wrong_with_the_pair_is_never_skipped(tmp_path, capsys):
    rec, idx = tmp_path / "packed" / "own_train.rec", tmp_path / "packed" / "own_train.idx"
    whole, lines = rec.read_bytes(), idx.read_text().splitlines(keepends=True)
    write(tmp_path / "other.rec", [(0, bytes(40 + 9 * n)) for n in range(COUNT)])
    for rec_bytes, idx_text, message in (
        (whole[:-300], "".join(lines), "the file ends inside it"),
        (whole, "".join(lines[:-3]), "no pair"),
        (whole, "".join(lines[:5] + lines[6:]), "no pair"),
        (whole, (tmp_path / "other.idx").read_text(), "no pair"),
    ):
        rec.write_bytes(rec_bytes)
        idx.write_text(idx_text)
        assert train("--save-dir", "run", "--broken", "skip") == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and "own_train" in error and message in error


def test_broken_pictures_of_the_test_are_left_out_of_its_score(tmp_path, capsys):
    assert train("--save-dir", "run", "--broken", "skip") == 0
    damaged(tmp_path / "packed" / "own_val.rec", 2, without_picture)
    assert evaluate("run", "--checkpoint", "last") == 0
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert result["count"] == COUNT - 1
    assert evaluate("run", "--broken", "refuse") == 1
    assert "own_val.rec, record 2" in capsys.readouterr().err


def test_classes_that_nothing_names_are_the_labels(tmp_path, capsys):
    (tmp_path / "packed" / "own_classes.txt").unlink()
    assert train("--save-dir", "run") == 0
    assert data_of(tmp_path / "run")["class_names"] == ["0", "1", "2"]
    assert "reading all 28 labels" in log_of(tmp_path / "run")
    damaged(tmp_path / "packed" / "own_val.rec", 2, with_label(3))
    assert evaluate("run") == 1
    assert "own_val.rec, record 2: label 3 is outside 0 to 2" in capsys.readouterr().err
    damaged(tmp_path / "packed" / "own_train.rec", 5, with_label(28))
    assert train("--save-dir", "other", "--broken", "skip") == 1
    assert "label 28 among 28 pictures" in capsys.readouterr().err
    damaged(tmp_path / "packed" / "own_train.rec", 5, with_label(-1))
    assert train("--save-dir", "other") == 1
    assert "own_train.rec, record 5: label -1" in capsys.readouterr().err
    assert train("--save-dir", "other", "--broken", "skip") == 0
    log = log_of(tmp_path / "other")
    assert "own_train.rec, record 5: label -1" in log and "own_val.rec, record 2: label 3" in log
