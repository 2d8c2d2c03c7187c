"""benchmarks/paper_runs.py: what becomes of the trainings, by a script that makes numbers up."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace

import pytest
from paper_trainings import (  # noqa: F401
    BENCHMARKS,
    FAKE,
    cifar,
    finished,
    kill_ahead_of_results,
    modules,
    run,
    started,
)
from small import SPEC, data_record

from gluon_ran.training import RunDirectory, get_recipe


def test_what_is_done_is_not_trained_again(run, tmp_path, capsys):
    assert run("mask-structure", "--budget", "smoke") == 0
    assert "0 of them done before" in capsys.readouterr().out
    assert run("mask-structure", "attention-type", "--budget", "smoke", "--jobs", "2") == 0
    told = capsys.readouterr().out
    assert "4 runs, 2 of them done before" in told and told.count("begun: digits-") == 2
    assert len(started(tmp_path)) == 4 == len(set(started(tmp_path)))
    path = tmp_path / "results" / "smoke" / "digits-cifar_attention56_thin-local_conv-seed0.json"
    result = json.loads(path.read_text())
    assert result["final_top1"] == 0.625 and result["confusion"] == [[3, 1], [0, 4]]
    assert result["budget"] == "smoke" and "no result" in result["budget_text"]
    assert "--mask local_conv" in result["trained_by"] and result["seconds"] == 60


@pytest.mark.parametrize("split", [0, 1])
def test_a_part_of_cifar_is_refused_ahead_of_all_trainings(run, cifar, tmp_path, capsys, split):
    flags = ("mask-structure", "--budget", "smoke")
    cifar[split] -= 1
    assert run(*flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cifar10 has " in line and "give the whole of it" in line
    assert not (tmp_path / "runs").exists()
    cifar[split] += 1
    assert run(*flags) == 0


def test_results_have_the_data_and_commit_of_their_training(
    run, modules, cifar, tmp_path, capsys, monkeypatch
):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    original = kill_ahead_of_results(modules[2], monkeypatch)
    monkeypatch.setattr(modules[2], "commit", lambda: "old")
    assert run(*flags, "--data", "a copy") == 1
    monkeypatch.setattr(modules[2], "write_json", original)
    monkeypatch.setattr(modules[2], "commit", lambda: "new")
    assert run(*flags) == 0
    (path,) = (tmp_path / "results" / "smoke").iterdir()
    result = json.loads(path.read_text())
    assert (result["data"], result["commit"]) == ("a copy", "old")
    assert run(*flags, "--data", "a copy") == 0
    capsys.readouterr()
    assert run(*flags) == 1
    assert "is of --data 'a copy', this call of ''" in capsys.readouterr().err


def test_a_killed_one_leaves_no_training(finished, tmp_path):
    """By a process of its own that is killed while its training waits."""
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE.format(finished=str(finished), fail=False, wait=True))
    code = (
        "import sys; folder, fake, *flags = sys.argv[1:]; sys.path.insert(0, folder); "
        "import paper, paper_runs; paper_runs._TRAIN = fake; paper.main(flags)"
    )
    flags = ["run", "mask-structure", "--rows", "local", "--budget", "smoke"]
    flags += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    process = subprocess.Popen([sys.executable, "-c", code, BENCHMARKS, str(fake), *flags])
    name = "digits-cifar_attention56_thin-local_conv-seed0"
    log = tmp_path / "runs" / "smoke" / f"{name}.out"
    until = time.monotonic() + 60
    while not (log.exists() and "waits" in log.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    training = int(log.read_text().split()[-1])
    os.kill(training, 0)  # it is there
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:
            os.kill(training, 0)
            time.sleep(0.05)


def test_one_failure_does_not_end_the_others(run, tmp_path, capsys):
    assert run("mask-structure", "attention-type", "--budget", "smoke", fail=True) == 1
    assert "local_conv-seed0: " in (told := capsys.readouterr()).err
    assert "it went wrong" in told.err and "3/4" in told.out
    assert len(list((tmp_path / "results" / "smoke").iterdir())) == 3


def test_results_of_other_settings_and_damaged_ones_are_refused(run, tmp_path, capsys):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    assert run(*flags) == 0
    (path,) = (tmp_path / "results" / "smoke").iterdir()
    result = json.loads(path.read_text())
    for key, value in (
        ("flags", ["--epochs", "9"]), ("recipe", {**result["recipe"], "lr": 9.9}),
        ("dataset", "cifar100"), ("recipe", {**result["recipe"], "gone": 1}), ("recipe", None),
    ):  # fmt: skip
        path.write_text(json.dumps({**result, key: value}))
        assert run(*flags) == 1
        assert f"other settings ({key} differ)" in capsys.readouterr().err
    result["recipe"].pop("label_noise")  # as a field that came later
    path.write_text(json.dumps({**result, "recipe": {**result["recipe"], "source": "another"}}))
    assert run(*flags) == 0
    path.write_text("{")
    assert run(*flags) == 1
    assert "no result of paper.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGHUP, 75)]
)
def test_a_signal_stops_the_trainings_and_begins_no_other(run, tmp_path, capsys, number, code):
    def signal_once_two_wait():
        until = time.monotonic() + 30
        while time.monotonic() < until:
            waiting = [p for p in (tmp_path / "runs").rglob("*.out") if "waits" in p.read_text()]
            if len(waiting) == 2:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=signal_once_two_wait)
    thread.start()
    assert run("label-noise", "--budget", "smoke", "--jobs", "2", wait=True) == code
    thread.join()
    assert len(started(tmp_path)) == 2
    assert capsys.readouterr().out.count("begun: ") == 2
    assert len(list((tmp_path / "runs").rglob(".*.how.json"))) == 2
    assert not (tmp_path / "results").exists()


def test_a_signal_that_comes_twice_is_one(modules, monkeypatch):
    """A shell and the system both tell of a lost terminal; a batch system may tell all."""
    paper_runs, told, now = modules[2], [], [100.0]
    monkeypatch.setattr(paper_runs, "_terminate", told.append)
    monkeypatch.setattr(paper_runs, "time", Namespace(monotonic=lambda: now[0]))
    trainer = paper_runs.Trainer(Namespace(threads=1, jobs=1), [])
    trainer._begun, trainer._alive = True, {"training"}
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
        trainer.stop(number)
    now[0] += 10
    trainer.stop(signal.SIGHUP)
    assert told == ["training"]
    trainer.stop(signal.SIGINT)
    assert told == ["training"] * 2


def test_lines_that_nobody_reads_end_nothing(modules):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        modules[2].say("to nobody", stream)
        print("nor this", file=stream, flush=True)


def test_a_signal_ahead_of_all_trainings_ends_what_is_read(run, modules, monkeypatch, tmp_path):
    def read(*_):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it reads on")

    monkeypatch.setattr(modules[2].Trainer, "_refuse_a_part", read)
    assert run("label-noise", "--budget", "smoke") == 75
    assert not (tmp_path / "runs").exists()


def test_scoring_is_on_the_device_of_the_training(run, modules, monkeypatch):
    seen, ran = [], modules[2].Trainer._ran

    def noting(self, script, flags, path):
        seen.append(list(flags))
        return ran(self, script, flags, path)

    monkeypatch.setattr(modules[2].Trainer, "_ran", noting)
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke", "--num-gpus", "0")
    assert run(*flags) == 0 and len(seen) == 2
    assert [given[given.index("--num-gpus") + 1] for given in seen] == ["0", "0"]


def test_a_failure_is_told_before_a_stop_and_a_result_has_the_call_that_trained(
    run, modules, tmp_path, capsys, monkeypatch
):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    original = kill_ahead_of_results(modules[2], monkeypatch)
    assert run(*flags, "--threads", "2") == 1
    assert "failed: digits" in capsys.readouterr().err
    monkeypatch.setattr(modules[2], "write_json", original)
    assert run(*flags, "--threads", "1") == 0
    (path,) = (tmp_path / "results" / "smoke").iterdir()
    assert json.loads(path.read_text())["threads"] == 2


def test_a_run_that_goes_on_keeps_what_it_began_by(
    modules, run, cifar, tmp_path, monkeypatch, capsys
):
    flags = ("mask-structure", "--rows", "local", "--budget", "smoke")
    for name in ("first", "second", "third", "second"):
        monkeypatch.setattr(modules[2], "commit", lambda name=name: name)
        assert run(*flags, "--data", "a copy", fail=True) == 1
        (how,) = (tmp_path / "runs" / "smoke").glob(".*.how.json")
        directory = tmp_path / "runs" / "smoke" / how.name[1 : -len(".how.json")]
        if name == "first":  # it has saved a checkpoint before it failed
            RunDirectory.start(directory, SPEC, get_recipe("digits", epochs=1), data_record())
            (directory / "checkpoints").mkdir()
            (directory / "checkpoints" / "epoch-0000-step-000001.json").write_text("{}")
    found = json.loads(how.read_text())
    assert (found["commit"], found["later_commits"]) == ("first", ["second", "third"])
    capsys.readouterr()
    assert run(*flags, "--data", "another", fail=True) == 1
    assert "was begun with --data 'a copy', and this call has 'another'" in capsys.readouterr().err
    assert json.loads(how.read_text()) == found


def test_what_another_process_trains_is_left_to_it(modules, run, tmp_path, capsys):
    flags = ("mask-structure", "--budget", "smoke")
    name = "digits-cifar_attention56_thin-local_conv-seed0"
    with modules[2]._alone(tmp_path / "runs" / "smoke" / name):
        assert run(*flags) == 1
    told = capsys.readouterr()
    assert f"left to another paper.py, which trains it now: {name}" in told.out
    assert told.err == "1 left to another paper.py: start again when it has ended\n"
    assert len(started(tmp_path)) == 1
    assert run(*flags) == 0
    assert started(tmp_path)[1:] == [name]
