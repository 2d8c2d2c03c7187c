"""benchmarks/record_run.py: what a training run reached, as one JSON file."""

import json
import re
import shutil
from dataclasses import asdict, replace

import pytest
from benchmark_modules import imported
from runs import new_run, train
from scripts import script
from small import RECIPE, SPEC

from gluon_ran.models.specs import SPECS

LOG = """2026-01-01 00:00:00 small on digits, float32, cpu(0)
2026-01-01 00:00:10 epoch 1
a further line of the message
2026-01-01 05:00:00 small on digits, float32, cpu(0)
2026-01-01 05:01:30 done
"""


@pytest.fixture
def recorder(monkeypatch):
    with imported(monkeypatch, "record_run") as (module,):
        yield module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("run") / "run")
    train(run=run)
    (run.path / "train.log").write_text(LOG)
    return run


def record(recorder, run, out, *more):
    """The JSON of a run, which must be recorded."""
    flags = ["--trained-by", "python train/x.py", "--out", str(out), *more]
    assert recorder.main([str(run.path), *flags]) == 0
    return json.loads(out.read_text())


def test_a_record_has_what_the_run_has(recorder, run, tmp_path, capsys):
    given = record(recorder, run, tmp_path / "r.json", "--data", "channels", "--commit", "0a1b")
    rows = run.metrics()
    assert (given["trained_by"], given["data"]) == ("python train/x.py", "channels")
    assert given["commit"] == "0a1b" and given["machine"]["python"]
    assert (given["model"], given["dataset"]) == (run.spec.name, "small")
    assert given["recipe"] == {**asdict(RECIPE), "lr_steps": list(RECIPE.lr_steps),
                               "progressive_sizes": []}  # fmt: skip
    assert given["final_top1"] == rows[-1]["val_top1"]
    best = max(row["val_top1"] for row in rows)
    assert given["best_top1"] == best == rows[given["best_epoch"] - 1]["val_top1"]
    assert given["first_losses"] == rows[0]["losses"] and len(given["epochs"]) == RECIPE.epochs
    assert given["seconds"] == 10 + 90  # not the hours between the starts
    assert json.loads(capsys.readouterr().out.splitlines()[0])["seconds"] == 100


EARLY = """2026-01-01 00:00:08,5 started: gluon_ran 0.1.0, process 7
2026-01-01 00:00:00,1 reading 32 pictures from signs
2026-01-01 00:00:09,0 small on folder, float32, cpu(0)
2026-01-01 00:00:10,0 epoch 1
"""


@pytest.mark.parametrize(
    "log, seconds",
    [
        (LOG, [10, 90]),
        (EARLY + EARLY.replace(" 00:", " 05:"), [10, 10]),
        (LOG + EARLY.replace(" 00:", " 09:"), [10, 90, 10]),
        ("2026-01-01 00:00:00 a\n2026-01-01 00:01:00 b\n", [60]),
    ],
)
def test_the_time_between_sittings_is_none_of_the_runs(recorder, tmp_path, log, seconds):
    """Lines of before there was a file come with their own time, behind the first line."""
    (tmp_path / "train.log").write_text(log)
    assert recorder.sittings(tmp_path / "train.log") == seconds


def test_what_a_script_logs_has_such_lines(recorder, tmp_path):
    logs = script("logs")
    with logs.console():
        logs.LOG.info("ahead of the file, %s", "caf\udce9")
        logs.log_to_file(tmp_path / "new" / "train.log")
        logs.LOG.info("small on folder, float32, cpu(0)")
    lines = (tmp_path / "new" / "train.log").read_text(encoding="utf-8").splitlines()
    assert [bool(recorder._STARTED.search(line)) for line in lines] == [True, False, False]
    assert lines[1].endswith("ahead of the file, caf\\udce9")
    assert len(recorder.sittings(tmp_path / "new" / "train.log")) == 1


def test_the_commit_is_this_checkouts_where_none_is_given(recorder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "provenance", lambda argv: {"commit": "here"})
    assert record(recorder, run, tmp_path / "r.json")["commit"] == "here"


def test_a_second_run_of_one_seed_is_compared(recorder, run, tmp_path):
    runs = {}
    for seed in (RECIPE.seed, RECIPE.seed + 1):
        runs[seed] = new_run(tmp_path / str(seed), replace(RECIPE, seed=seed))
        train(recipe=replace(RECIPE, seed=seed), run=runs[seed])
        again = ("--again", str(runs[seed].path))
        same = record(recorder, run, tmp_path / "r.json", *again)["same_seed_same_first_losses"]
        assert same is (seed == RECIPE.seed)


@pytest.mark.parametrize("lacking, told", [
    ("train.log", "there is no .*train.log"),
    ("val_top1", "it was trained without a validation"),
    ("again", "has no epoch to compare"),
])  # fmt: skip
def test_what_a_run_lacks_is_told_in_a_line(recorder, run, tmp_path, capsys, lacking, told):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    flags = ["--trained-by", "x", "--out", str(tmp_path / "r.json")]
    if lacking == "train.log":
        (copy / lacking).unlink()
    elif lacking == "val_top1":
        rows = [json.dumps({**row, lacking: None}) for row in run.metrics()]
        (copy / "metrics.jsonl").write_text("".join(f"{row}\n" for row in rows))
    else:
        flags += ["--again", str(new_run(tmp_path / "begun").path)]
    assert recorder.main([str(copy), *flags]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and re.search(told, line)
    assert not (tmp_path / "r.json").exists()


def test_an_unfinished_run_is_refused(recorder, tmp_path, capsys):
    run = new_run(tmp_path / "run")
    assert recorder.main([str(run.path), "--trained-by", "x"]) == 1
    assert "has 0 of 3 epochs: finish it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file, changes",
    [
        ("recipe", {"label_noise": 0.5}),
        ("data", {"weights": "w.params"}),
        ("data", {"freeze": 0}),
        ("data", {"hold_out": 5}),
        ("spec", {"learning": "naive"}),
    ],
)
def test_no_run_of_another_kind_takes_the_plain_ones_place(
    recorder, run, tmp_path, monkeypatch, capsys, file, changes
):
    monkeypatch.setitem(SPECS, "small", SPEC)
    monkeypatch.setattr(recorder, "RESULTS", tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    told = json.loads((copy / f"{file}.json").read_text())
    (copy / f"{file}.json").write_text(json.dumps({**told, **changes}))
    assert recorder.main([str(copy), "--trained-by", "x"]) == 1
    assert "needs an --out" in capsys.readouterr().err and not list(tmp_path.glob("*.json"))
    assert recorder.main([str(run.path), "--trained-by", "x"]) == 0
    assert [path.name for path in tmp_path.glob("*.json")] == ["small_small_small.json"]
