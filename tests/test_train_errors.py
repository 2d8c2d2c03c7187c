"""Errors of the command lines: a line, an exit code, and nothing left behind."""

import errno
import signal

import pytest
from own_digits import evaluate, small_digits, train  # noqa: F401
from scripts import script

from gluon_ran import training
from gluon_ran.training.run import RunLocked

import mxnet as mx

Terminated = script("ends").Terminated


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--num-gpus", "99"], "MXNet sees"),
        (["--float16"], "float16 trains on GPUs only"),
        (["--lr", "-1"], "Recipe.lr is -1.0"),
        (["--resume"], "has no checkpoint to go on from"),
        (["--resume", "nowhere"], "nowhere is not a run directory"),
        (["--lr", "1e30", "--lr-mode", "step"], "lower the learning rate"),
        (["--mask-period", "1", "--model", "cifar_resnet20_v1"], "has no masks to show"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(flags, message, capsys):
    assert train(*flags) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("name, at", [("cli", "make_shared_run"), ("evaluate", "evaluate")])
@pytest.mark.parametrize(
    "error, line",
    [
        (ImportError("mxboard needs protobuf 3.20"), "mxboard needs protobuf 3.20"),
        (MemoryError(), "not enough memory"),
        (mx.base.MXNetError("Traceback (most recent call last):\n  x\nout of memory"), "out of"),
    ],
)
def test_errors_of_others_are_a_line_too(name, at, error, line, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(script(name), at, fail)
    assert (train() if name == "cli" else script("evaluate").main(["run"])) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {line}")


@pytest.mark.parametrize("folder", ["/dev/null/run", "a" * 300])
def test_a_worker_says_what_a_restart_would_only_repeat(folder, monkeypatch, capsys):
    assert train("--save-dir", folder) == 1
    monkeypatch.setenv("GLUON_RAN_RANK", "0")
    assert train("--save-dir", folder) == 78
    assert "error: [Errno" in capsys.readouterr().err


def test_a_signal_that_comes_again_does_not_end_the_ending():
    before = signal.getsignal(signal.SIGTERM)
    with script("ends").termination_raises():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("interrupt, code", [(KeyboardInterrupt, 130), (Terminated, 75)])
def test_an_interrupted_worker_ends_with_the_code_of_an_interrupt(interrupt, code, monkeypatch):
    """It must not wait for the others, so that its end is not its exit code alone."""

    def interrupted(*_):
        raise interrupt

    told = []
    monkeypatch.setattr(script("cli"), "make_shared_run", interrupted)
    monkeypatch.setattr(training, "end_with", told.append)
    assert train() == code and told == [code]


@pytest.mark.parametrize(
    "error, repeats",
    [
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.EACCES, "Permission denied"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ImportError("mxboard needs protobuf 3.20"), True),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), False),
        (training.RunError("another run"), True),
        (RunLocked("another process"), False),
        (RuntimeError("worker 0 failed"), False),
    ],
)
def test_errors_that_may_pass_are_tried_again(error, repeats):
    assert script("cli")._repeats(error) == repeats


def test_a_folder_without_data_is_an_error_and_makes_no_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert script("cifar10_train").main(["--data-dir", "empty"]) == 1
    assert "empty" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_first_attempt_that_failed_is_not_in_the_way(tmp_path, capsys):
    assert train("--float16") == 1
    assert train("--crop-padding", "-3") == 1
    assert train("--resume") == 1
    assert not (tmp_path / "runs").exists()
    assert train("--lr", "1e30") == 1
    assert "Traceback" in (tmp_path / "runs" / "digits-tiny-digits" / "train.log").read_text()
    assert train() == 0


@pytest.mark.parametrize(
    "flags, message",
    [
        (["nowhere", "--model", "tiny"], "no run is called nowhere, and there are no weights"),
        (["."], "is not a run directory"),
    ],
)
def test_evaluate_says_what_it_needs(flags, message, capsys):
    assert evaluate(*flags) == 1
    assert message in capsys.readouterr().err
