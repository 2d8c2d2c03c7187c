"""benchmarks/throughput.py: runs, and says what it measured. Nothing here depends on a duration."""

import json
import subprocess
import sys
from argparse import Namespace

import pytest
from benchmark_modules import BENCHMARKS, imported

THIN = "cifar_attention56_thin"


@pytest.fixture
def throughput(monkeypatch):
    with imported(monkeypatch, "throughput") as modules:
        yield modules[0]


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_tiny_run_reports_every_form(tmp_path):
    path = tmp_path / "new" / "out.json"
    settings = ["--batch-size", "4", "--rounds", "2", "--steps", "1", "--warmup", "1"]
    forms = ["gluoncv", "float32", "bfloat16", "torch-float32", "int8"]
    arguments = ["--models", THIN, "--jobs", "training", "--forms", *forms]
    finished = run(*arguments, *settings, "--out", str(path))
    assert finished.returncode == 0, finished.stderr
    assert THIN in finished.stdout and "GluonCV has no such network" in finished.stdout
    result = json.loads(path.read_text())
    assert [file.name for file in path.parent.iterdir()] == ["out.json"]
    measured = {entry["form"]: entry for entry in result["results"]}
    skipped = {entry["form"]: entry["reason"] for entry in result["skipped"]}
    assert {*measured, *skipped} == {*forms} - {"int8"}, "int8 does not train"
    assert "float32" in measured and "gluoncv" in skipped
    assert "--torch-python" in skipped["torch-float32"]
    assert len({entry["parameters"] for entry in measured.values()}) == 1
    assert len({entry["macs"] for entry in measured.values()}) == 1
    for entry in measured.values():
        check_entry(entry)
    assert {c["precision"] for c in result["ceilings"]} == {
        e["precision"] for e in measured.values()
    }
    for ceiling in result["ceilings"]:
        assert ceiling["flop_per_second"]["n"] == 2 and ceiling["flop_per_second"]["min"] > 0
        rows, edge = ceiling["shape"]
        assert f"{rows}x{edge} by {edge}x{edge}" in ceiling["tried"]
    assert result["machine"]["cpu"] and result["machine"]["usable_cores"] >= 1
    assert result["date"].endswith("+00:00")
    assert result["command"].startswith("python benchmarks/throughput.py --models")


def check_entry(entry):
    rates = entry["images_per_second"]
    assert len(rates["values"]) == rates["n"] == 2 and rates["min"] > 0
    assert entry["ratio_to_gluoncv"] is None and entry["share_of_ceiling"]["min"] > 0
    assert entry["versions"]["mxnet"] and entry["shape"] == [4, 3, 32, 32]
    assert entry["environment"]["MXNET_EXEC_INPLACE_GRAD_SUM_CAP"] == "1"
    assert entry["environment"]["OMP_NUM_THREADS"]
    assert entry["import_seconds"] > 0 and entry["first_batch_seconds"] > 0
    # A process with MXNet has at least 100 MiB, and a thin network's training not 10 GiB.
    assert 100 < entry["peak_memory_mib"] < 10240
    assert entry["differences"] == {} and "latency_ms" not in entry


def test_all_forms_start_from_one_network(throughput):
    from throughput_mxnet import our_network, servable, trainable

    import mxnet as mx

    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    outputs = []
    for form in ("plain", "float32"):
        for make in (trainable, servable):
            graph = make(our_network(THIN, form), form, x.shape)
            outputs.append(graph(x).asnumpy())
    for output in outputs[1:]:
        assert abs(output - outputs[0]).max() < 1e-4 * abs(outputs[0]).max()


def test_a_network_that_is_not_there_is_said_so(throughput, tmp_path, capfd):
    path = tmp_path / "out.json"
    arguments = ["--models", "attention57", "--jobs", "training", "--forms", "float32"]
    with pytest.raises(SystemExit, match="attention57 float32 ended"):
        throughput.main([*arguments, "--out", str(path)])
    assert "no model is called 'attention57'" in capfd.readouterr().err
    assert not path.exists()


def test_a_group_that_fails_costs_no_other(throughput, monkeypatch, tmp_path, capsys):
    path = tmp_path / "out.json"
    groups = iter([([{"group": 1}], [], []), RuntimeError("killed"), ([], [], []), ([], [], [])])

    def measure(*_):
        found = next(groups)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(throughput, "measure", measure)
    monkeypatch.setattr(throughput, "table", lambda result: "a table")
    arguments = ["--models", THIN, "attention56", "--jobs", "training", "--forms", "float32"]
    with pytest.raises(SystemExit, match="error: killed .*before: .*out.*part.json"):
        throughput.main([*arguments, "--out", str(path)])
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["results"] == [{"group": 1}]
    throughput.main([*arguments, "--out", str(path)])
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
    assert "a table" in capsys.readouterr().out


def test_no_number_below_one_is_taken(throughput):
    with pytest.raises(SystemExit):
        throughput.main(["--rounds", "0"])


def test_every_job_network_and_batch_size_is_a_group_of_its_own(throughput):
    arguments = Namespace(
        jobs=["training", "inference"],
        models=["cifar_attention56", "attention56"],
        forms=["float32", "int8", "torch-float32"],
        batch_size=64,
        batch_sizes=[64, 16, 1],
        imagenet_batch_size=16,
    )
    groups = throughput.contenders(arguments)
    assert [(g[0].job, g[0].model, g[0].batch_size) for g in groups] == [
        ("training", "cifar_attention56", 64),
        ("training", "attention56", 16),
        *(("inference", "cifar_attention56", n) for n in (64, 16, 1)),
        *(("inference", "attention56", n) for n in (16, 1)),
    ]
    for group in groups:
        int8 = ["int8"] if group[0].job == "inference" else []
        assert [c.form for c in group] == ["float32", *int8, "torch-float32"]
