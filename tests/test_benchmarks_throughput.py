"""benchmarks/throughput.py: runs, and says what it measured. Nothing here depends on a duration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
THIN = "cifar_attention56_thin"


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules, imported as its script imports them."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import provenance
    import throughput

    yield throughput, provenance
    for name in ("throughput", "throughput_worker", "provenance"):
        sys.modules.pop(name, None)


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_tiny_run_reports_every_form(tmp_path):
    path = tmp_path / "new" / "out.json"
    settings = ["--batch-size", "4", "--rounds", "2", "--steps", "1", "--warmup", "1"]
    finished = run("--models", THIN, *settings, "--out", str(path))
    assert finished.returncode == 0, finished.stderr
    assert THIN in finished.stdout and "GluonCV has no such network" in finished.stdout
    result = json.loads(path.read_text())
    assert [file.name for file in path.parent.iterdir()] == ["out.json"]
    measured = {entry["form"]: entry for entry in result["results"]}
    skipped = {entry["form"]: entry["reason"] for entry in result["skipped"]}
    assert {*measured, *skipped} == {"gluoncv", "plain", "float32", "bfloat16"}
    assert {"plain", "float32"} <= set(measured) and "gluoncv" in skipped
    assert len({entry["parameters"] for entry in measured.values()}) == 1
    for entry in measured.values():
        rates = entry["images_per_second"]
        assert len(rates["values"]) == rates["n"] == 2 and rates["min"] > 0
        assert entry["ratio_to_gluoncv"] is None
        assert entry["versions"]["mxnet"] and entry["shape"] == [4, 3, 32, 32]
    assert result["machine"]["cpu"] and result["machine"]["usable_cores"] >= 1
    assert result["date"].endswith("+00:00")
    assert result["command"].startswith("python benchmarks/throughput.py --models")


def test_all_forms_start_from_one_network(modules):
    from throughput_worker import build

    import mxnet as mx

    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    outputs = []
    for form in ("plain", "float32"):
        mx.random.seed(0)
        _, graph, shape = build(THIN, form, 2)
        assert shape == x.shape
        outputs.append(graph(x).asnumpy())
    assert abs(outputs[0] - outputs[1]).max() < 1e-4 * abs(outputs[0]).max()


def test_a_network_that_is_not_there_is_said_so(tmp_path):
    path = tmp_path / "out.json"
    finished = run("--models", "attention57", "--forms", "float32", "--out", str(path))
    assert finished.returncode == 1
    assert "no model is called 'attention57'" in finished.stderr
    assert "attention57 float32 ended" in finished.stderr
    assert not path.exists()


def test_no_number_below_one_is_taken(modules):
    throughput, _ = modules
    with pytest.raises(SystemExit):
        throughput.main(["--rounds", "0"])


def test_bfloat16_needs_a_cpu_that_has_it(modules, monkeypatch):
    throughput, _ = modules
    contender = throughput.Contender(THIN, "bfloat16")
    for flags, free in (("avx2 avx512f", False), ("avx512_bf16", True), ("amx_bf16", True)):
        monkeypatch.setattr(throughput, "cpu_info", lambda flags=flags: {"flags": flags})
        assert (contender.obstacle() is None) == free
    monkeypatch.setattr(throughput, "cpu_info", dict)
    assert "avx512_bf16" in contender.obstacle()


def test_gluoncv_has_some_of_our_networks(modules):
    throughput, _ = modules
    for model, network in (
        ("cifar_attention56", "cifar_residualattentionnet56"),
        ("attention128", "residualattentionnet128"),
    ):
        contender = throughput.Contender(model, "gluoncv")
        assert contender.obstacle() is None and contender.network == network
    assert throughput.Contender("cifar_attention128", "gluoncv").obstacle()


def test_ratios_are_taken_round_by_round(modules):
    throughput, provenance = modules
    results = [
        {"model": "a", "form": form, "images_per_second": provenance.spread(rates)}
        for form, rates in (("gluoncv", [10.0, 20.0, 5.0]), ("float32", [20.0, 40.0, 15.0]))
    ]
    throughput.add_ratios(results)
    assert [r["ratio_to_gluoncv"]["median"] for r in results] == [1.0, 2.0]
    assert results[1]["ratio_to_gluoncv"]["values"] == [2.0, 2.0, 3.0]
    assert "2.00" in throughput.table(results, [])


def test_spread_of_one_value_and_of_several(modules):
    _, provenance = modules
    assert provenance.spread([2.0])["q1"] == provenance.spread([2.0])["q3"] == 2.0
    several = provenance.spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert [several[key] for key in ("min", "q1", "median", "q3", "max")] == [1, 2, 3, 4, 5]
    assert several["n"] == 5
