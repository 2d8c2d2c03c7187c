"""What benchmarks/throughput.py times: every form computes the reference's scores, in-process."""

import io
import json
from argparse import Namespace
from unittest.mock import ANY

import numpy as np
import pytest
from benchmark_modules import imported

from gluon_ran.training.precision import cpu_has_bfloat16

THIN = "cifar_attention56_thin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference of a thin network."""
    path = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch, imported(patch, "throughput_reference") as (
        module,
    ):
        module.write(THIN, path)
    return path


@pytest.fixture
def mxnet_engine(monkeypatch):
    with imported(monkeypatch, "throughput_mxnet") as modules:
        yield modules[0]


def arguments(job, form, folder, batch_size=2, **more):
    return Namespace(
        job=job, form=form, model=THIN, reference=folder, batch_size=batch_size,
        size=more.get("size"), warmup=1,
    )  # fmt: skip


def test_the_reference_is_no_network_as_it_is_at_first(monkeypatch, folder):
    with imported(monkeypatch, "throughput_batches") as (batches,):
        reference = batches.Reference(folder)
    assert reference.spec["name"] == THIN and reference.classes == 10
    for kind, plain in (("gamma", 1), ("beta", 0), ("running_mean", 0), ("running_var", 1)):
        arrays = [a for name, a in reference.weights.items() if name.endswith(kind)]
        assert len(arrays) > 50 and all(abs(a - plain).max() > 1e-3 for a in arrays)
    assert np.ptp(reference.scores) > 0.1 and np.isfinite(reference.scores).all()
    assert reference.losses[0] > reference.losses[1] > reference.losses[2]
    assert reference.picture_shape() == (3, 32, 32)
    assert reference.picture_shape((8, 16)) == (3, 8, 16)


@pytest.mark.parametrize("form", ["plain", "float32", "fused-float32"])
def test_a_float32_form_has_the_scores_of_the_reference(mxnet_engine, folder, form):
    engine = mxnet_engine.ENGINE(arguments("inference", form, folder))
    engine.build()
    assert 0 < engine.number(engine.start()) < 100
    assert engine.check()["scores"] < 1e-4
    described = engine.describe()
    assert described["macs"] == mxnet_engine.count_macs(engine._net, (1, 3, 32, 32))[1]
    assert described["shape"] == (2, 3, 32, 32) and described["versions"]["mxnet"] == "1.9.1"


@pytest.mark.parametrize("form", ["plain", "float32", "bfloat16"])
def test_a_form_trains_as_the_reference_does(mxnet_engine, folder, form):
    if form == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    engine = mxnet_engine.ENGINE(arguments("training", form, folder))
    engine.build()
    assert engine.number(engine.start()) > 0
    differences = engine.check()
    assert differences == {"losses as timed" if form == "bfloat16" else "losses": ANY}
    (difference,) = differences.values()
    assert difference < (0.05 if form == "bfloat16" else 1e-3)
    engine._reference.losses[-1] *= 1.1
    if form != "bfloat16":
        with pytest.raises(RuntimeError, match="losses differ"):
            engine.check()


def test_another_network_is_refused(mxnet_engine, folder):
    engine = mxnet_engine.ENGINE(arguments("inference", "float32", folder))
    engine.build()
    engine._reference.scores *= 1.001
    with pytest.raises(RuntimeError, match="scores differ .* not the same computation"):
        engine.check()


def test_a_form_that_optimize_refuses_is_an_obstacle(mxnet_engine, monkeypatch, folder):
    def optimize(net, precision, calibration):
        (pictures,) = calibration
        assert pictures.shape == (mxnet_engine.CALIBRATION_PICTURES, 3, 32, 32)
        raise mxnet_engine.OptimizeError(f"not in {precision}")

    monkeypatch.setattr(mxnet_engine, "optimize", optimize)
    with pytest.raises(mxnet_engine.protocol.Obstacle, match="not in int8"):
        mxnet_engine.ENGINE(arguments("inference", "int8", folder)).build()


def test_the_onnx_file_has_the_scores_of_the_reference(monkeypatch, tmp_path, folder):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("gluon_ran.deploy.onnx")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with imported(monkeypatch, "throughput_reference", "throughput_onnx") as (reference, onnx):
        reference.write(THIN, tmp_path, onnx=True)
        engine = onnx.ENGINE(arguments("inference", "float32", tmp_path))
        engine.build()
        assert engine.check()["scores"] < 1e-4
        described = engine.describe()
    assert described["threads"] == 1 and described["shape"] == (2, 3, 32, 32)
    with imported(monkeypatch, "throughput_mxnet") as (mxnet,):
        ours = mxnet.ENGINE(arguments("inference", "plain", None))
        ours.build()
        assert described["parameters"] == ours.describe()["parameters"]


def test_pictures_of_another_size_cost_accordingly(mxnet_engine):
    macs = []
    for size in (None, (64, 64)):
        engine = mxnet_engine.ENGINE(arguments("inference", "plain", None, size=size))
        engine.build()
        macs.append(engine.describe()["macs"])
        assert engine.check() == {}
    dense = 256 * 10
    assert macs[1] - dense == 4 * (macs[0] - dense)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_products_give_finite_numbers(monkeypatch, form):
    with imported(monkeypatch, "throughput_products") as (products,):
        monkeypatch.setattr(products, "SIZES", ((32, 16), (16, 32)))
        engine = products.ENGINE(Namespace(job="product", form=form))
        if form == "bfloat16" and not products.mx.runtime.Features().is_enabled("MKLDNN"):
            pytest.skip("MXNet was built without oneDNN")
        engine.build()
        assert 0 < engine.number(engine.start()) < 1e6
        described = engine.describe()
    rows, edge = described["shape"]
    assert described["flop"] == 2 * products.PRODUCTS * rows * edge * edge
    assert set(described["tried"]) == {"32x16 by 16x16", "16x32 by 32x32"}


class Counter:
    """An engine that counts its batches."""

    def __init__(self, job, number=1.0):
        self.arguments = Namespace(job=job, warmup=2)
        self.batches, self.waits, self._number = 0, 0, number

    def build(self):
        pass

    def start(self):
        self.batches += 1

    def wait(self):
        self.waits += 1

    def number(self, started):
        return self._number

    def describe(self):
        return {"name": "counter"}

    def check(self):
        return {"scores": 0.0}


@pytest.fixture
def protocol(monkeypatch):
    with imported(monkeypatch, "throughput_protocol") as modules:
        yield modules[0]


def test_training_steps_are_timed_together_and_batches_one_by_one(protocol):
    for job, entries in (("training", 1), ("inference", 5), ("product", 5)):
        engine = Counter(job)
        assert len(protocol.timed(engine, 5)["seconds"]) == entries
        assert engine.batches == 5 and engine.waits == entries + 1


def test_what_does_not_compute_is_refused(protocol):
    with pytest.raises(RuntimeError, match="does not compute"):
        protocol.timed(Counter("training", float("nan")), 1)


def test_a_contender_describes_itself_then_answers(protocol, monkeypatch):
    monkeypatch.setattr(protocol.sys, "stdin", io.StringIO("3\n4\n"))
    engine = Counter("inference")
    first, *others = protocol.answers(lambda arguments: engine, engine.arguments)
    assert first["name"] == "counter" and first["differences"] == {"scores": 0.0}
    assert {"import_seconds", "first_batch_seconds", "peak_memory_mib"} <= set(first)
    assert [len(answer["seconds"]) for answer in others] == [3, 4]
    assert engine.batches == 1 + 2 + 3 + 4
    json.dumps(first)


def test_an_obstacle_is_an_answer(protocol, monkeypatch, capfd):
    def make(arguments):
        raise protocol.Obstacle("not today")

    monkeypatch.setattr(protocol.os, "dup2", lambda *_: None)
    protocol.serve(make, Namespace())
    assert json.loads(capfd.readouterr().out) == {"obstacle": "not today"}
