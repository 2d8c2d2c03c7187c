"""benchmarks/soak.py: what counts as survived, and what is said of two runs."""

import json
import random
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from benchmark_modules import imported

# Says what training says, saves two checkpoints of no content, and waits for its end.
WELL_BEHAVED = """
careless = "careless" in globals()
import json, os, signal, sys, time
from pathlib import Path
run = Path(sys.argv[1])
folder = run / "checkpoints"
folder.mkdir(parents=True, exist_ok=True)
lock = run / "lock"
print("run directory", run, flush=True)
if not careless and lock.exists() and os.path.exists(f"/proc/{lock.read_text()}"):
    sys.exit("error: it is written to by process " + lock.read_text())
lock.write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if careless else 75))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0 if careless else 130))
newest = sorted(folder.glob("epoch-*.json"))[-1:]
for path in newest * (not careless):
    if "9000" in path.name:
        print(f"not used: {path} belongs to another run", flush=True)
    for part in (".json", ".params", ".states"):
        file = folder / (path.stem + part)
        try:
            json.loads(file.read_text()) if part == ".json" else file.read_text().index("whole")
        except (ValueError, OSError):
            print("not used:", file, flush=True)
            break
    print("going on behind the one before", flush=True)
for epochs in (1, 2):
    stem = f"epoch-{epochs:04d}"
    for part in (".params", ".states"):
        (folder / (stem + part)).write_text("whole")
    manifest = {"epochs": epochs, "sha256": {"a": f"{epochs}", "b": "b"}}
    (folder / "new").write_text(json.dumps(manifest))
    os.replace(folder / "new", folder / (stem + ".json"))
print("saved", flush=True)
while True:
    (folder / ".half.tmp").write_text("")
    time.sleep(0.002)
    (folder / ".half.tmp").unlink()
    time.sleep(0.002)
"""
# Goes on with what is damaged, beside another process, and ends with any code.
CARELESS = "careless = True\n" + WELL_BEHAVED


@pytest.fixture
def modules(monkeypatch):
    with imported(monkeypatch, "soak", "soak_faults") as both:
        monkeypatch.setattr(both[1], "_PATIENCE", 10)
        often = Namespace(monotonic=time.monotonic, sleep=lambda s: time.sleep(min(s, 0.02)))
        monkeypatch.setattr(both[1], "time", often)
        yield both


@pytest.fixture
def started(modules, tmp_path):
    """Starts a script as a run, once it has saved."""
    trainings = []

    def start(name, script=WELL_BEHAVED):
        command = [sys.executable, "-c", script, str(tmp_path / name)]
        training = modules[1].Training(
            command, tmp_path / name, tmp_path / f"{Path(name).name}.log"
        )
        trainings.append(training)
        training.start()
        assert training.wait_for("saved")
        return training

    yield start
    for training in trainings:
        training.kill()


FAULTS = (
    "SIGKILL", "SIGKILL during a save", "SIGTERM", "SIGINT", "SIGTERM twice",
    "a second process on the directory", "newest weights cut",
    "newest optimizer state missing", "newest manifest cut", "newer checkpoint of another run",
)  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_that_does_as_it_should_survives(modules, started, name):
    hurt, other = started("hurt"), started("other")
    faults = modules[1].all_faults(other, small_disk=False)
    seen = faults[name](hurt, random.Random(0))
    assert seen.survived, seen
    assert seen.shown


@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGINT", "a second process on the directory", "newest weights cut"]
)
def test_a_run_that_does_not_is_told(modules, started, monkeypatch, name):
    monkeypatch.setattr(modules[1], "_PATIENCE", 0.5)
    hurt, other = started("hurt", CARELESS), started("other")
    faults = modules[1].all_faults(other, small_disk=False)
    assert not faults[name](hurt, random.Random(0)).survived


def test_a_second_writer_that_goes_on_is_told(modules, started, monkeypatch):
    """Each process writes to files of its own, so that neither is in the other's way."""
    monkeypatch.setattr(modules[1], "_PATIENCE", 2)
    hurt = started("hurt", CARELESS.replace('".half.tmp"', 'f".half{os.getpid()}.tmp"'))
    seen = modules[1].all_faults(hurt, small_disk=False)["a second process on the directory"](
        hurt, random.Random(0)
    )
    assert seen == (False, "a second process wrote beside it")


def test_faults_come_each_once_before_any_comes_again(modules):
    names = ["a", "b", "c"]
    drawn = modules[1].drawn(names, random.Random(1))
    for _ in range(4):
        assert sorted(next(drawn) for _ in names) == names


def test_slopes_are_those_of_a_line_behind_the_warm_up(modules):
    samples = [[t, 7, 500.0 if t < 60 else 100 + 2 * t / 60, 5] for t in range(0, 600, 2)]
    assert modules[0].slope(samples, 60, 2) == pytest.approx(2)
    assert modules[0].slope(samples, 60, 3) == pytest.approx(0)
    assert modules[0].slope(samples, 595, 2) is None


def test_a_checkpoint_that_differs_is_named(modules):
    """Even one that is trained again, to the same bits as the other run's."""
    quiet = {1: {"a"}, 2: {"b"}, 3: {"c"}, 4: {"d"}}
    assert modules[0].compared(quiet, {1: {"a"}, 2: {"x"}, 3: {"x", "c"}}) == {
        "epochs_compared": 3, "last_epoch_compared": 3, "epochs_that_differ": [2, 3],
    }  # fmt: skip


def test_what_a_run_had_once_is_not_forgotten(modules, tmp_path):
    training = modules[1].Training([], tmp_path, tmp_path / "log")
    watch = modules[0].Watch({"hurt": training}, 1.0)
    training.checkpoints.mkdir()
    for digest in ("first", "second", "second"):
        manifest = {"epochs": 1, "sha256": {"a": digest, "b": "b"}}
        (training.checkpoints / "epoch-0001.json").write_text(json.dumps(manifest))
        watch.look()
    assert watch.digests["hurt"] == {1: {("first", "b"), ("second", "b")}}


WELL = {
    "checkpoints": {"epochs_compared": 2, "epochs_that_differ": []},
    "losses": {"epochs_compared": 2, "epochs_that_differ": []},
    "faults": [{"survived": True}],
    "exit_codes_at_the_end": [75, 75],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoints": {"epochs_compared": 0, "epochs_that_differ": []}},
        {"losses": {"epochs_compared": 2, "epochs_that_differ": [1]}},
        {"faults": [{"survived": True}, {"survived": False}]},
        {"faults": []},
        {"exit_codes_at_the_end": [75, -9]},
    ],
)
def test_a_soak_that_shows_nothing_or_too_much_does_not_pass(modules, changes):
    assert modules[0].passed(WELL)
    assert not modules[0].passed({**WELL, **changes})


SLOW = WELL_BEHAVED.replace("for epochs in (1, 2):", """for epochs in (1, 2):
    if epochs == 2:
        print("saved", flush=True)
        time.sleep(0.4)""")  # fmt: skip


def test_a_checkpoint_is_damaged_once(modules, started, monkeypatch):
    """Else the second fault would show what the first one did."""
    once = WELL_BEHAVED.replace("for epochs in (1, 2):", "for epochs in () if newest else (1, 2):")
    hurt = started("hurt", once)
    faults = modules[1].all_faults(hurt, small_disk=False)
    assert faults["newest weights cut"](hurt, random.Random(0)).survived
    assert hurt.wait_for("saved")
    monkeypatch.setattr(modules[1], "_PATIENCE", 0.5)
    seen = faults["newest optimizer state missing"](hurt, random.Random(0))
    assert seen == (False, "no two checkpoints came")


@pytest.mark.parametrize("name", ["newest weights cut", "newer checkpoint of another run"])
def test_faults_wait_for_what_they_damage(modules, started, name):
    hurt, other = started("hurt", SLOW), started("other")
    seen = modules[1].all_faults(other, small_disk=False)[name](hurt, random.Random(0))
    assert seen.survived and seen.shown.startswith("not used: "), seen


def test_what_could_not_be_tried_did_not_survive(modules, started, monkeypatch):
    hurt = started("hurt", SLOW.replace("sleep(0.4)", "sleep(60)"))
    monkeypatch.setattr(modules[1], "_PATIENCE", 0.5)
    fault = modules[1].all_faults(hurt, small_disk=False)["newest weights cut"]
    assert fault(hurt, random.Random(0)) == (False, "no two checkpoints came")


def test_a_run_that_never_ends_costs_no_result(modules, started, monkeypatch):
    deaf = WELL_BEHAVED.replace("lambda *_: sys.exit(0 if careless else 75)", "signal.SIG_IGN")
    hurt = started("hurt", deaf)
    monkeypatch.setattr(modules[1], "_PATIENCE", 0.5)
    fault = modules[1].all_faults(hurt, small_disk=False)["SIGTERM"]
    assert fault(hurt, random.Random(0)) == (False, "exit code -9")


def test_processes_are_told_apart_and_samples_thinned(modules):
    samples = [[float(t), 1 if t < 70 else 2, 100.0, 4] for t in range(0, 100, 2)]
    first, second = modules[0].by_process(samples)
    assert len(first) == 35 and len(second) == 15
    assert [s[0] for s in modules[0]._thinned(samples)] == [0, 30, 60, 68, 70, 98]


def test_the_whole_of_it_writes_json_and_figure(modules, tmp_path, monkeypatch):
    """With a script in the place of training, for a second."""
    script = tmp_path / "script.py"
    script.write_text(WELL_BEHAVED.replace("sys.argv[1]", "sys.argv[2]"))
    for name in ("quiet", "hurt"):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"losses": [1.0, 2.0]}) + "\n"] * (2 if name == "quiet" else 1)
        (tmp_path / name / "metrics.jsonl").write_text("".join(rows))
    out = tmp_path / "soak.json"
    code = modules[0].main([
        "--hours", "0.001", "--mean-pause", "0.5", "--period", "0.1",
        "--quiet", str(tmp_path / "quiet"), "--hurt", str(tmp_path / "hurt"),
        "--logs", str(tmp_path), "--out", str(out), str(script),
    ])  # fmt: skip
    result = json.loads(out.read_text())
    assert code == 0
    assert result["exit_codes_at_the_end"] == [75, 75]
    assert result["checkpoints"] == {
        "epochs_compared": 2, "last_epoch_compared": 2, "epochs_that_differ": [],
    }  # fmt: skip
    assert result["losses"] == {"epochs_compared": 1, "epochs_that_differ": []}
    assert result["faults"] and all(each["survived"] for each in result["faults"])
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_ends_a_run_that_says_so(modules, started, tmp_path):
    """On a disk of one MiB, where the tests may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    try:
        hurt = started("disk/hurt", WELL_BEHAVED.replace('write_text("")', 'write_text("x")'))
        faults = modules[1].all_faults(hurt, small_disk=True)
        assert faults["disk full"](hurt, random.Random(0)).survived
        assert not (disk / "ballast").exists()
    finally:
        hurt.kill()
        subprocess.run(["umount", disk], check=True)
