import logging
import re
from pathlib import Path

import numpy as np
import pytest
from events import read_events
from small import TWO_MODULES

from gluon_ran.models import build
from gluon_ran.training.monitor import LOG, Board, Progress, duration

import mxnet as mx


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3723, "1:02:03")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("gluon_ran.training.monitor.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def messages(monkeypatch):
    """What goes to the log, whatever other handlers it has."""
    taken = []
    handler = logging.Handler()
    handler.emit = lambda record: taken.append(record.getMessage())
    monkeypatch.setattr(LOG, "handlers", [handler])
    monkeypatch.setattr(LOG, "level", logging.INFO)
    LOG.manager._clear_cache()
    return taken


def test_a_log_gets_a_plain_line_now_and_then(clock, messages):
    with Progress(epoch=1, epochs=3, steps=10) as progress:
        for _ in range(4):
            clock[0] += 15
            progress.step(images=30, loss=1.25, lr=0.1)
    assert messages == [
        "epoch 2/3, batch 2/10: loss 1.2500, lr 0.1, 2.0 img/s, 4:30 left",
        "epoch 2/3, batch 4/10: loss 1.2500, lr 0.1, 2.0 img/s, 4:00 left",
    ]
    assert progress.images_per_second == 2


def test_a_terminal_gets_a_bar(clock, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(epoch=0, epochs=2, steps=5) as progress:
        clock[0] += 10
        progress.step(images=20, loss=0.5, lr=0.025)
        shown = str(progress._bar)
    assert "epoch 1/2" in capsys.readouterr().err
    assert re.search(r"epoch 1/2.*1/5.*loss 0.5000, lr 0.025, 2.0 img/s, run 1:30 left", shown)


def test_nothing_is_shown_where_nothing_is_wanted(clock, messages, capsys):
    with Progress(epoch=0, epochs=1, steps=2, enabled=False) as progress:
        clock[0] += 60
        progress.step(images=1, loss=0.0, lr=0.1)
    assert not messages and not capsys.readouterr().err


def test_events_hold_scalars_histograms_of_the_masks_and_pictures(tmp_path):
    model = build(TWO_MODULES)
    model.initialize()
    images = np.random.RandomState(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    row = {"epoch": 0, "train_loss": 1.0, "val_top1": None, "lr": 0.1}
    with Board(tmp_path / "events") as board:
        board.epoch(row)
        board.pictures("pictures/training", images, 1)
        board.masks(model.masks(mx.nd.array(images)), 1)
    (path,) = (tmp_path / "events").iterdir()
    content = path.read_bytes()
    for tag in (
        "loss/train",
        "learning_rate",
        "pictures/training",
        "mask/module_1",
        "mask/module_2",
    ):
        assert tag.encode() in content, tag
    assert b"mask/module_3" not in content and b"accuracy/validation" not in content
    assert b"PNG" in content


def test_events_that_cannot_be_written_do_not_hold_the_run_up(tmp_path, messages, monkeypatch):
    """MXBoard's own writer waits for ever behind its tenth event."""
    from mxboard import record_writer

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")
    monkeypatch.setattr(record_writer, "open", lambda path, mode: full.open(mode), raising=False)
    with Board(tmp_path) as board:
        for epoch in range(20):
            board.epoch({"epoch": epoch, "train_loss": 1.0})
    assert len(messages) == 1
    assert "can't be written" in messages[0] and "No space left on device" in messages[0]


def test_events_whose_file_cannot_be_opened_do_not_hold_the_run_up(tmp_path, messages, monkeypatch):
    from mxboard import record_writer

    elsewhere = tmp_path / "not there" / "events"
    monkeypatch.setattr(
        record_writer, "open", lambda path, mode: elsewhere.open(mode), raising=False
    )
    with Board(tmp_path / "events") as board:
        for epoch in range(20):
            board.epoch({"epoch": epoch, "train_loss": 1.0})
    assert len(messages) == 1 and "can't be written" in messages[0]


def test_boards_of_one_second_have_files_of_their_own(tmp_path):
    for step in range(4):
        with Board(tmp_path) as board:
            board.epoch({"epoch": step, "train_loss": 0.5})
    assert [event[0] for event in read_events(tmp_path)] == [1, 2, 3, 4]
