"""train/pack.py: what it writes and says, and how it fails."""

import signal

import pytest
from own_pictures import COUNTS, own_pictures  # noqa: F401
from pictures import break_some
from scripts import script

from gluon_ran.data import RecordFile


def pack(*flags):
    return script("pack").main(list(flags))


def test_a_folder_becomes_a_pair_and_a_list_of_classes(tmp_path, capsys):
    assert pack("signs", "packed/own_train.rec", "--threads", "2") == 0
    records = RecordFile("packed/own_train.rec")
    assert len(records) == sum(COUNTS.values()) and records.class_names == tuple(sorted(COUNTS))
    files = {p.name for p in (tmp_path / "packed").iterdir()}
    assert files == {"own_train.rec", "own_train.idx", "own_classes.txt"}
    assert "packed 28 pictures of 3 classes to packed/own_train.rec" in capsys.readouterr().out


def test_a_file_of_any_name_is_written_and_told(tmp_path, capsys):
    try:
        assert pack("signs", "caf\udce9.rec") == 0
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    assert "to caf\\udce9.rec" in capsys.readouterr().out


def test_pictures_shrink_and_lose_quality_as_told(tmp_path, capsys):
    for name, flags in (("a", []), ("b", ["--shorter-side", "10"]), ("c", ["--quality", "20"])):
        assert pack("signs", f"{name}.rec", *flags) == 0
    size = {name: (tmp_path / f"{name}.rec").stat().st_size for name in "abc"}
    assert (
        size["b"] < 0.6 * size["a"] and size["c"] == size["a"]
    )  # PNGs that stay are not made anew


def test_broken_pictures_are_refused_or_counted(tmp_path, capsys):
    broken = break_some(tmp_path / "signs" / "red")
    assert pack("signs", "own.rec") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "--broken skip" in error
    assert not (tmp_path / "own.rec").exists()
    assert pack("signs", "own.rec", "--broken", "skip") == 0
    assert f", {len(broken)} left out" in capsys.readouterr().out
    assert len(RecordFile("own.rec")) == sum(COUNTS.values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere", "a.rec"], "nowhere does not exist"),
        (["signs", "a.txt"], "give the name of a .rec file"),
        (["signs", "a.rec", "--quality", "0"], "quality 0 must be 1 to 95"),
        (["signs", "a.rec", "--shorter-side", "0"], "shorter_side 0 must be at least 1"),
        (["signs", "a.rec", "--threads", "0"], "--threads 0: give at least 1"),
        (["signs/red", "a.rec"], "holds no folders"),
        (["~no_such_user/signs", "a.rec"], "home directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(tmp_path, flags, message, capsys):
    assert pack(*flags) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "a.rec").exists()


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(script("pack"), "_LINE_SECONDS", 0.0)
    assert pack("signs", "a.rec") == 0
    assert "28 of 28 pictures\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
)
def test_a_signal_leaves_nothing_behind(tmp_path, capsys, monkeypatch, number, code):
    before, handler = sorted(tmp_path.iterdir()), signal.getsignal(number)
    stop = lambda *_: signal.raise_signal(number)  # noqa: E731
    monkeypatch.setattr(script("pack").Progress, "__call__", stop)
    assert pack("signs", "a.rec") == code
    assert capsys.readouterr().err == "interrupted; files that were not finished are as they were\n"
    assert sorted(tmp_path.iterdir()) == before and signal.getsignal(number) is handler
