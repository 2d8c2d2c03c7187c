"""benchmarks/deployed_accuracy.py: what each served form loses on the original's accuracy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_modules import imported
from small import RECIPE, SPEC, data_record, dataset, net, train_batches, validation_batches

from gluon_ran.models import save_with_card
from gluon_ran.training import RunDirectory, find_trained, fit

import mxnet as mx
from mxnet.gluon import nn

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def accuracy(monkeypatch):
    with imported(monkeypatch, "deployed_accuracy") as (module,):
        yield module


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = RunDirectory.start(tmp_path_factory.mktemp("run"), SPEC, RECIPE, data_record())
    fit(net(), RECIPE, train_batches(), validation_batches(), classes=3, run=run, progress=False)
    return find_trained(run.path)


class AlwaysFirstClass(nn.Block):
    def forward(self, x):
        return mx.nd.one_hot(mx.nd.zeros(len(x)), 3)


def test_points_lost_are_those_on_the_original(accuracy, trained, monkeypatch, capsys):
    seen = []

    def forms(trained, calibration):
        seen.append(calibration.shape)
        return {"original": trained.network(), "wrong": AlwaysFirstClass()}

    monkeypatch.setattr(accuracy, "served_forms", forms)
    test = dataset()
    original, wrong = accuracy.scores(trained, dataset(), test, 5)
    assert seen == [(5, 3, 16, 16)]
    assert original["points_lost"] == 0 and original["count"] == len(test.labels)
    assert wrong["top1"] == pytest.approx(np.mean(test.labels == 0))
    assert wrong["points_lost"] == pytest.approx(100 * (original["top1"] - wrong["top1"]), abs=1e-3)
    assert "wrong" in capsys.readouterr().out


def test_the_onnx_file_is_scored_as_a_block(accuracy, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    file = accuracy.export_onnx(trained.network(), tmp_path / "net.onnx", 16, card=trained.card)
    x = mx.nd.array(trained.normalization(dataset().images[:4]))
    difference = accuracy.OnnxNetwork(file)(x) - trained.network()(x)
    assert float(difference.abs().max().asscalar()) < 1e-4


def test_the_command_scores_each_form(accuracy, trained, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(accuracy, "FORMS", ("float32", "onnx"))  # int8 takes long
    monkeypatch.setattr(accuracy, "load_dataset", lambda name, folder: (dataset(), dataset()))
    out = tmp_path / "result.json"
    assert accuracy.main([str(trained.run.path), "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["form"] for row in result["forms"]] == ["original", "float32", "onnx"]
    assert all(row["points_lost"] == 0 for row in result["forms"])
    assert 0 < result["forms"][1]["disagreement_on_calibration"] < 1e-4
    assert result["dataset"] == "small" and result["checkpoint"] == "last"


def test_weights_by_name_are_scored_on_what_their_card_names(accuracy, trained, tmp_path):
    card = replace(trained.card, training={"dataset": "cifar10"})
    save_with_card(trained.network(), card, tmp_path / "own.params")
    own = find_trained("own", root=tmp_path)
    assert accuracy.find_data(own, None) == "cifar10"
    assert accuracy.find_data(own, "digits") == "digits"


def test_weights_without_data_or_card_are_errors(accuracy, trained, tmp_path, monkeypatch, capsys):
    file = tmp_path / "own.params"
    save_with_card(trained.network(), trained.card, file)
    assert accuracy.main([str(file)]) == 1
    assert "give --dataset" in capsys.readouterr().err
    monkeypatch.setattr(accuracy, "load_dataset", lambda *_: [dataset(classes=4)] * 2)
    assert accuracy.main([str(file), "--dataset", "digits"]) == 1
    assert "other classes apart than the 4 of digits" in capsys.readouterr().err
    file.with_suffix(".json").unlink()
    assert accuracy.main([str(file), "--dataset", "digits"]) == 1
    assert "has no card" in capsys.readouterr().err


def test_as_many_classes_of_other_names_are_refused(accuracy, trained):
    names = trained.card.class_names
    accuracy.check_classes(trained, "small", list(names))
    with pytest.raises(ValueError, match="other classes"):
        accuracy.check_classes(trained, "digits", ("0", "1", "2"))
    unknown = trained._replace(card=replace(trained.card, class_names=()))
    accuracy.check_classes(unknown, "digits", ("0", "1", "2"))


def test_a_checkpoints_file_is_not_called_the_last(accuracy, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "scores", lambda *given: [])
    monkeypatch.setattr(accuracy, "load_dataset", lambda *given: (dataset(), dataset()))
    out = tmp_path / "result.json"
    for weights, checkpoint in ((trained.weights, None), (trained.run.path, "last")):
        assert accuracy.main([str(weights), "--data", "channels", "--out", str(out)]) == 0
        result = json.loads(out.read_text())
        assert result.get("checkpoint") == checkpoint
        assert result["data"] == "channels" and len(result["sha256"]) == 64


def test_a_folder_that_is_no_run_is_an_error(accuracy, tmp_path, capsys):
    assert accuracy.main([str(tmp_path)]) == 1
    assert "error:" in capsys.readouterr().err
