"""The processes of benchmarks/throughput.py: turns, obstacles, ends. Their workers are scripts."""

import json
import os
import sys

import pytest
from benchmark_modules import imported

# Answers each line with a turn of so many batches, and notes it in a log.
GOOD = """
import json, sys
name, log = sys.argv[1:]
print(json.dumps({"name": name}), flush=True)
for line in sys.stdin:
    with open(log, "a") as file:
        file.write(f"{name} {line}")
    print(json.dumps({"seconds": [0.5] * int(line)}), flush=True)
"""


class Scripted:
    """A contender whose process is a script."""

    def __init__(self, name, script, *arguments, cost=64):
        self.name, self.cost = name, cost
        self.line = [sys.executable, "-c", script, name, *map(str, arguments)]

    def __str__(self):
        return self.name

    def command(self, torch_python, reference, warmup):
        return self.line

    def environment(self):
        return dict(os.environ)


@pytest.fixture
def process(monkeypatch):
    with imported(monkeypatch, "throughput_process") as modules:
        yield modules[0]


def test_contenders_take_turns_and_each_begins_once(process, tmp_path):
    log = tmp_path / "log"
    entrants = [Scripted(name, GOOD, log) for name in "abc"]
    entrants[2].cost = 16
    timings, absent = process.interleave(entrants, process.Turns(3, 2, 1), None)
    turns = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _ in turns] == [*"abc", *"bca", *"cab"]
    assert {(name, int(count)) for name, count in turns} == {("a", 2), ("b", 2), ("c", 8)}
    assert absent == [] and [t.description for t in timings] == [{"name": n} for n in "abc"]
    assert timings[0].seconds == [[0.5] * 2] * 3
    assert timings[2].seconds == [[0.5] * 8] * 3 and timings[2].batches == 8


def test_a_turn_has_more_cheap_batches(process):
    turns = process.Turns(1, 3, 1)
    batches = {0.1: 30, 6.4: 30, 16: 12, 30: 6, 64: 3, 5000: 3}
    assert {n: turns.batches_of(Scripted("", "", cost=n)) for n in batches} == batches


def test_who_meets_an_obstacle_is_left_out(process, tmp_path):
    blocked = f"print({json.dumps(json.dumps({'obstacle': 'no such network'}))})"
    entrants = [Scripted("blocked", blocked), Scripted("good", GOOD, tmp_path / "log")]
    timings, absent = process.interleave(entrants, process.Turns(1, 1, 1), None)
    assert [(str(e), reason) for e, reason in absent] == [("blocked", "no such network")]
    assert [str(t.entrant) for t in timings] == ["good"]


@pytest.mark.parametrize("script", ["import sys; sys.exit(3)", "print('{}', flush=True)"])
def test_a_process_that_ends_is_named(process, tmp_path, script):
    entrants = [Scripted("good", GOOD, tmp_path / "log"), Scripted("bad", script)]
    with pytest.raises(RuntimeError, match="process of bad ended: see its message"):
        process.interleave(entrants, process.Turns(1, 1, 1), None)


def test_a_process_that_is_killed_is_told_from_one_that_fails(process):
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(RuntimeError, match="process of big ended: .* memory is short"):
        process.Worker(Scripted("big", script))


def test_no_process_stays(process, tmp_path):
    worker = process.Worker(Scripted("good", GOOD, tmp_path / "log"))
    with worker:
        assert worker._process._process.poll() is None
    assert worker._process._process.poll() == 0


def test_a_reference_is_written_once_or_the_run_ends(process, tmp_path, monkeypatch):
    calls = []

    class Failed:
        returncode = 1

    def run(command, **_):
        calls.append(command)
        return Failed()

    monkeypatch.setattr(process.subprocess, "run", run)
    with pytest.raises(RuntimeError, match="no reference of some_model"):
        process.make_reference("some_model", tmp_path, onnx=True)
    assert calls[0][-1] == "onnx" and "some_model" in calls[0]
    Failed.returncode = 0
    first = process.make_reference("other", tmp_path, onnx=False)
    assert process.make_reference("other", tmp_path, onnx=False) == first and len(calls) == 2
