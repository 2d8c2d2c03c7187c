"""benchmarks/conversion_parity.py: the same scores where they are the same, and else not."""

import json
import subprocess
from itertools import islice

import pytest
from benchmark_modules import imported


@pytest.fixture
def parity(monkeypatch):
    with imported(monkeypatch, "conversion_parity") as (module,):
        yield module


def test_a_network_of_gluoncv_has_the_same_scores_and_masks_that_differ(parity, tmp_path):
    (row,) = parity.compare(islice(parity.made_by_gluoncv(tmp_path), 1))
    assert (row["source"], row["theirs"]) == ("gluoncv", "cifar_residualattentionnet56")
    assert row["difference"] < 1e-5
    assert row["least_mask_deviation"] > 0.01


def test_other_scores_show(parity, tmp_path):
    source, name, path, images, scores = next(parity.made_by_gluoncv(tmp_path))
    moved = scores + 0.01 * abs(scores).max()
    (row,) = parity.compare(iter([(source, name, path, images, moved)]))
    assert row["difference"] == pytest.approx(0.01, rel=0.05)


def row(difference):
    return {"source": "gluoncv", "theirs": "a", "difference": difference}


@pytest.mark.parametrize(
    "differences, code", [([1e-6, 1e-5], 0), ([1e-6, 2e-4], 1), ([1e-6, float("nan"), 1e-6], 1)]
)
def test_what_differs_or_is_no_number_is_told(parity, monkeypatch, tmp_path, differences, code):
    monkeypatch.setattr(parity, "compare", lambda made: map(row, differences))
    assert parity.main(["--out", str(tmp_path / "new" / "out.json")]) == code
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.json"]


def test_a_source_that_fails_costs_no_row(parity, monkeypatch, tmp_path):
    def compare(made):
        yield row(1e-6)
        raise subprocess.CalledProcessError(1, ["python", "worker"])

    monkeypatch.setattr(parity, "compare", compare)
    with pytest.raises(SystemExit, match="error: Command .*before: .*part.json"):
        parity.main(["--out", str(tmp_path / "out.json")])
    (kept,) = tmp_path.iterdir()
    found = json.loads(kept.read_text())
    assert found["rows"] == [row(1e-6)] and found["command"] and found["date"]
