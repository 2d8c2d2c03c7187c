"""benchmarks/paper.py with a script in the place of training, which writes made-up numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_modules import imported
from small import SPEC, data_record

from gluon_ran.training import RunDirectory, get_recipe

BENCHMARKS = str(Path(__file__).resolve().parents[1] / "benchmarks")
FAKE = """
import json, os, shutil, signal, sys, time
from pathlib import Path
flags = sys.argv[1:]
if "--save-dir" not in flags:  # evaluation
    out = Path(flags[flags.index("--out") + 1])
    out.mkdir(exist_ok=True)
    scores = {{"confusion": [[3, 1], [0, 4]], "top1": 0.875, "count": 8}}
    (out / "evaluation.json").write_text(json.dumps(scores))
    sys.exit()
path = Path(flags[flags.index("--save-dir") + 1])
with open(path.parent / "started", "a") as started:
    started.write(path.name + "\\n")
if path.exists():
    sys.exit()  # complete already
if {wait}:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print("waits", os.getpid(), flush=True)
    time.sleep(60)
if "local_conv" in flags and {fail}:
    sys.exit("error: it went wrong")
shutil.copytree({finished!r}, path)
given = dict(zip(flags[::2], flags[1::2]))
for name in ("recipe", "spec", "data"):
    values = json.loads((path / (name + ".json")).read_text())
    for key in values:
        flag = "model" if (name, key) == ("spec", "name") else key.replace("_", "-")
        value = given.get("--" + flag)
        if value is not None:
            values[key] = type(values[key])(value)
    (path / (name + ".json")).write_text(json.dumps(values))
"""


@pytest.fixture
def finished(tmp_path):
    """A run directory of one epoch."""
    path = tmp_path / "finished"
    run = RunDirectory.start(path, SPEC, get_recipe("digits", epochs=1), data_record())
    run.write_metrics({"epoch": 0, "val_top1": 0.625, "val_top5": 1.0, "losses": [2.0]})
    (path / "train.log").write_text("2026-01-01 00:00:00 a\n2026-01-01 00:01:00 b\n")
    return path


@pytest.fixture
def modules(monkeypatch):
    with imported(monkeypatch, "paper", "paper_plan", "paper_runs", "paper_experiments") as found:
        yield found


@pytest.fixture
def run(modules, monkeypatch, tmp_path, finished):
    """Runs the command line with the script in the place of training."""

    def act(*flags, fail=False, wait=False):
        fake = tmp_path / "fake.py"
        fake.write_text(FAKE.format(finished=str(finished), fail=fail, wait=wait))
        monkeypatch.setattr(modules[2], "_TRAIN", str(fake))
        monkeypatch.setattr(modules[2], "_EVALUATE", str(fake))
        where = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
        return modules[0].main(["run", *flags, *where])

    return act


@pytest.fixture
def cifar(modules, monkeypatch):
    """Has 'smoke' train on it, and stands in for it; the numbers of its pictures, to change."""
    budgets = modules[1].BUDGETS
    monkeypatch.setitem(budgets, "smoke", replace(budgets["smoke"], dataset=None))
    counts = [50_000, 10_000]
    monkeypatch.setattr(modules[2], "load_dataset", lambda *_: [range(n) for n in counts])
    return counts


def kill_ahead_of_results(paper_runs, monkeypatch):
    """Has each run fail when its result is to be written; what wrote them before."""
    original = paper_runs.write_json

    def write(path, result):
        if not path.name.endswith(".how.json"):
            raise RuntimeError("killed ahead of its result")
        original(path, result)

    monkeypatch.setattr(paper_runs, "write_json", write)
    return original


def started(tmp_path, budget="smoke"):
    return (tmp_path / "runs" / budget / "started").read_text().split()
