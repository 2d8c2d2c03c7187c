"""Who takes part in benchmarks/throughput.py, and in which process."""

from pathlib import Path

import pytest
from benchmark_modules import imported

THIN = "cifar_attention56_thin"


@pytest.fixture
def contenders(monkeypatch):
    with imported(monkeypatch, "throughput_contenders") as modules:
        yield modules[0]


@pytest.mark.parametrize("form", ["bfloat16", "torch-bfloat16"])
def test_bfloat16_needs_a_cpu_that_has_it(contenders, monkeypatch, form):
    contender = contenders.Contender(THIN, form)
    python = Path("python")
    for flags, free in (("avx2 avx512f", False), ("avx512_bf16", True), ("amx_bf16", True)):
        monkeypatch.setattr(contenders, "cpu_info", lambda flags=flags: {"flags": flags})
        assert (contender.obstacle(python) is None) == free
    monkeypatch.setattr(contenders, "cpu_info", dict)
    assert "avx512_bf16" in contender.obstacle(python)


def test_gluoncv_has_some_of_our_networks(contenders):
    for model, network in (
        ("cifar_attention56", "cifar_residualattentionnet56"),
        ("attention128", "residualattentionnet128"),
    ):
        contender = contenders.Contender(model, "gluoncv")
        assert contender.obstacle() is None and contender.network == network
    assert contenders.Contender("cifar_attention128", "gluoncv").obstacle()


def test_onnx_runtime_has_to_be_installed(contenders, monkeypatch):
    contender = contenders.Contender(THIN, "onnx-float32", "inference")
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    assert "onnx and onnxruntime not installed" in contender.obstacle()
    monkeypatch.setattr(contenders, "find_spec", lambda name: name)
    assert contender.obstacle() is None


def test_pytorch_runs_in_its_own_python(contenders, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "here")
    contender = contenders.Contender(THIN, "torch-float32", "training", 8)
    assert "--torch-python" in contender.obstacle()
    assert contender.obstacle(Path("there/python")) is None
    line = contender.command(Path("there/python"), Path("folder"), 2)
    assert line[0] == "there/python" and line[2:5] == ["throughput_torch", "training", "float32"]
    assert {"--reference=folder", "--batch-size=8", "--warmup=2"} <= set(line)
    environment = contender.environment()
    assert "PYTHONPATH" not in environment and environment["MALLOC_TRIM_THRESHOLD_"]


def test_engine_variables_are_those_of_the_form(contenders, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    values = {
        form: contenders.Contender("cifar_attention56", form).environment()
        for form in ("gluoncv", "plain", "float32")
    }
    assert {f: v[contenders.ENGINE_VARIABLE] for f, v in values.items()} == {
        "gluoncv": "8",
        "plain": "1",
        "float32": "1",
    }
    assert all(int(v["OMP_NUM_THREADS"]) >= 1 for v in values.values())


def test_a_form_is_compared_where_it_has_an_equal(contenders):
    def passes(form, job, size=None):
        contender = contenders.Contender("attention56", form, job, size=size)
        line = contender.command(None, Path("folder"), 1)
        return contender.needs_reference, "--reference=folder" in line

    assert passes("gluoncv", "inference") == (False, False)
    assert passes("float32", "training") == (False, True), "it trains without, too"
    assert passes("float32", "inference") == passes("onnx-float32", "inference") == (True, True)
    assert passes("torch-float32", "training") == (True, True)
    assert passes("float32", "inference", (128, 128)) == (False, False), "its size is another"


def test_cost_follows_pictures_pixels_and_the_backward_pass(contenders):
    def cost(model, job, batch_size, size=None):
        return contenders.Contender(model, "float32", job, batch_size, size).cost

    assert cost("cifar_attention56", "training", 64) == contenders.Product("int8").cost
    assert cost("cifar_attention56", "inference", 64) == pytest.approx(64 / 3)
    assert cost("attention56", "training", 2) == 2 * 49
    assert cost("attention56", "training", 2, (128, 256)) == 2 * 32
