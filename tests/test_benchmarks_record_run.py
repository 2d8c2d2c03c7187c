"""benchmarks/record_run.py: what a training run reached, as one JSON file."""

import json
from dataclasses import asdict, replace

import pytest
from benchmark_modules import imported
from runs import new_run, train
from small import RECIPE

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


def test_an_unfinished_run_is_refused(recorder, tmp_path, capsys):
    run = new_run(tmp_path / "run")
    assert recorder.main([str(run.path), "--trained-by", "x"]) == 1
    assert "has 0 of 3 epochs: finish it first" in capsys.readouterr().err


def test_a_noisy_run_never_takes_the_plain_ones_place(recorder, tmp_path, monkeypatch, capsys):
    recipe = replace(RECIPE, epochs=1, label_noise=0.5)
    run = new_run(tmp_path / "run", recipe)
    train(recipe=recipe, run=run)
    (run.path / "train.log").write_text(LOG)
    monkeypatch.setattr(recorder, "RESULTS", tmp_path)
    assert recorder.main([str(run.path), "--trained-by", "x"]) == 1
    assert "needs an --out" in capsys.readouterr().err and not list(tmp_path.glob("*.json"))
