"""benchmarks/loss_curves.py: which runs can be compared, and what is said of them."""

import json
from dataclasses import replace

import pytest
from benchmark_modules import imported
from small import RECIPE, SPEC, data_record

from gluon_ran.training import RunDirectory


@pytest.fixture
def module(monkeypatch):
    with imported(monkeypatch, "loss_curves") as modules:
        yield modules[0]


def trained(path, accuracies, **changes):
    recipe = replace(RECIPE, epochs=2, **changes)
    run = RunDirectory.start(path, SPEC, recipe, data_record())
    for epoch, top1 in enumerate(accuracies):
        row = {"epoch": epoch, "train_loss": 1.5, "train_top1": 0.5, "val_loss": 1.25}
        rest = {"val_top1": top1, "images_per_second": 10.0, "losses": [2.0, 1.0]}
        run.write_metrics({**row, **rest})
    return str(path)


def test_runs_of_two_precisions_are_compared(module, tmp_path, capsys):
    one = trained(tmp_path / "one", [0.5, 0.75])
    other = trained(tmp_path / "other", [0.5, 0.72], dtype="bfloat16")
    out = tmp_path / "out.json"
    module.main([one, other, "--trained-by", "train --dtype DTYPE", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["difference_of_final_top1"] == pytest.approx(0.03)
    assert [run["dtype"] for run in result["runs"]] == ["float32", "bfloat16"]
    assert result["runs"][1]["losses"] == [2.0, 1.0, 2.0, 1.0]
    assert result["trained_by"] == "train --dtype DTYPE" and "dtype" not in result["recipe"]
    assert "| 2 | 1.5000 | 75.00 % | 1.5000 | 72.00 % |" in capsys.readouterr().out


def test_other_runs_and_unfinished_ones_are_refused(module, tmp_path):
    one = trained(tmp_path / "one", [0.5, 0.75])
    other = trained(tmp_path / "other", [0.5, 0.7], lr=0.1)
    part = trained(tmp_path / "part", [0.5], dtype="bfloat16")
    for path, message in ((other, "differs from .* in lr"), (part, "1 of 2 epochs")):
        with pytest.raises(SystemExit, match=message):
            module.main([one, path, "--trained-by", "x", "--out", str(tmp_path / "out.json")])
    assert not (tmp_path / "out.json").exists()
