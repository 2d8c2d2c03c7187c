"""benchmarks/onnx_parity.py: what it measures, and when it fails."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parity(monkeypatch):
    """The benchmark's module, imported as its script imports it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import onnx_parity

    yield onnx_parity
    for name in ("onnx_parity", "conversion_parity", "provenance"):
        sys.modules.pop(name, None)


def test_a_network_has_the_same_scores_which_depend_on_the_picture(parity):
    row = parity.measure("cifar_attention56_thin")
    assert (row["name"], row["side"]) == ("cifar_attention56_thin", 32)
    assert row["file_mb"] == pytest.approx(1.03 * 4, rel=0.1)
    assert 0 < row["difference"] < 1e-5
    assert row["between_pictures"] > 0.01


@pytest.mark.parametrize("difference, code", [(9e-5, 0), (2e-4, 1), (float("nan"), 1)])
def test_a_difference_above_the_bound_fails(parity, monkeypatch, tmp_path, difference, code):
    row = {"side": 32, "file_mb": 1.0, "difference": 1e-6, "peak_memory_gb": 1.0}
    rows = {"attention56": row, "cifar_resnet20_v1": {**row, "difference": difference}}
    monkeypatch.setattr(parity, "measure_alone", rows.get)
    out = tmp_path / "parity.json"
    assert parity.main(["--models", *rows, "--out", str(out)]) == code
    written = json.loads(out.read_text())
    assert len(written["rows"]) == 2 and written["versions"]["mxnet"] == "1.9.1"
    assert written["command"].endswith(f"attention56 cifar_resnet20_v1 --out {out}")


def test_a_network_that_fails_costs_no_other(parity, monkeypatch, tmp_path):
    row = {"side": 32, "file_mb": 1.0, "difference": 1e-6, "peak_memory_gb": 1.0}

    def measure_alone(name):
        if name == "attention56":
            return row
        raise RuntimeError("a process was killed")

    monkeypatch.setattr(parity, "measure_alone", measure_alone)
    with pytest.raises(SystemExit, match="a process was killed .*before: .*part.json"):
        parity.main(["--models", "attention56", "attention92", "--out", str(tmp_path / "out.json")])
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["rows"] == [row]
