import shutil
from dataclasses import replace

import numpy as np
import pytest
from small import RECIPE, SPEC, data_record, net, train_batches, validation_batches

from gluon_ran.data import Normalization
from gluon_ran.models import Card, WeightsError, save_with_card
from gluon_ran.training import (
    CheckpointError,
    RunDirectory,
    RunError,
    find_trained,
    fit,
)
from gluon_ran.training.trained import card_of

import mxnet as mx


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    run = RunDirectory.start(path, SPEC, RECIPE, data_record())
    fit(net(), RECIPE, train_batches(), validation_batches(), classes=3, run=run, progress=False)
    return run


@pytest.fixture
def run(trained_run, tmp_path):
    shutil.copytree(trained_run.path, tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


def assert_of(run, trained):
    assert trained.spec == run.spec and trained.run.path == run.path
    assert trained.card.class_names == tuple(run.data["class_names"])
    assert np.array_equal(trained.normalization.mean, run.normalization.mean)


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_run_directory_gives_its_checkpoint(run, which):
    trained = find_trained(run.path, which)
    assert_of(run, trained)
    assert trained.weights.is_file() and trained.weights.parent == run.checkpoints
    if which == "last":
        assert trained.weights.name == f"epoch-{RECIPE.epochs:04d}.params"


def test_a_checkpoints_file_knows_its_run(run, monkeypatch):
    weights = find_trained(run.path).weights
    assert_of(run, find_trained(weights))
    assert find_trained(weights).weights == weights
    monkeypatch.chdir(weights.parent)
    assert find_trained(weights.name).spec == run.spec


def test_a_file_away_from_its_run_knows_nothing(run, tmp_path):
    bare = tmp_path / "bare.params"
    shutil.copy(find_trained(run.path).weights, bare)
    trained = find_trained(bare)
    assert trained == (bare, None, None)
    assert trained.spec is None and trained.normalization is None
    with pytest.raises(WeightsError, match="nothing tells which network .*bare.params"):
        trained.network()


def test_a_card_tells(tmp_path):
    path, normalization = tmp_path / "net.params", Normalization((1, 2, 3), (4, 5, 6))
    save_with_card({"a": mx.nd.zeros(1)}, Card(SPEC, normalization), path)
    trained = find_trained(path)
    assert (trained.weights, trained.spec) == (path, SPEC)
    assert np.array_equal(trained.normalization.std, [4, 5, 6]) and trained.run is None
    mx.nd.save(str(path), {"b": mx.nd.zeros(1)})
    with pytest.raises(WeightsError, match="card of other weights"):
        find_trained(path)


def test_the_network_comes_with_its_weights(run, tmp_path):
    """From a run; and the way to a file with a card, and back."""
    trained = find_trained(run.path, "last")
    net = trained.network()
    saved = mx.nd.load(str(trained.weights))
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), saved[name].asnumpy())
    save_with_card(net, trained.card, tmp_path / "net.params")
    again = find_trained(tmp_path / "net.params")
    x = mx.nd.random.uniform(shape=(2, 3, 16, 16))
    assert np.array_equal(again.network()(x).asnumpy(), net(x).asnumpy())
    assert again.card.class_names == trained.card.class_names


def test_pictures_of_the_run_are_told(tmp_path):
    record = {**data_record(), "size": [16, 24], "fit": "pad"}
    run = RunDirectory.start(tmp_path / "run", SPEC, RECIPE, record)
    run.checkpoints.mkdir()
    net_ = net()
    net_.initialize()
    net_.save_parameters(str(run.checkpoints / "epoch-0001.params"))
    card = find_trained(run.checkpoints / "epoch-0001.params").card
    assert (card.size, card.fit) == ((16, 24), "pad")


@pytest.mark.parametrize(
    "dataset, size", [("cifar10", (32, 32)), ("digits", (32, 32)), ("a", None)]
)
def test_small_pictures_keep_their_size_where_a_network_usually_takes_larger(
    tmp_path, dataset, size
):
    spec = replace(SPEC, stem="imagenet")
    assert spec.input_size == (224, 224)
    record = {**data_record(), "dataset": dataset}
    assert card_of(RunDirectory.start(tmp_path / "run", spec, RECIPE, record)).size == size


def test_a_name_of_trained_weights_tells_too(tmp_path, monkeypatch):
    """Where no file and no folder has that name."""
    (tmp_path / "root").mkdir()
    net_ = net()
    net_.initialize()
    save_with_card(net_, Card(SPEC), tmp_path / "root" / "small.params")
    monkeypatch.chdir(tmp_path)
    trained = find_trained("small", root="root")
    assert (trained.weights.name, trained.spec) == ("small.params", SPEC)
    monkeypatch.setenv("GLUON_RAN_WEIGHTS", str(tmp_path / "root"))
    assert find_trained("small").weights == tmp_path / "root" / "small.params"
    with pytest.raises(WeightsError, match="no run is called smal, and .*; did you mean small"):
        find_trained("smal")
    (tmp_path / "small").mkdir()
    with pytest.raises(RunError, match="small is not a run directory"):
        find_trained("small")


def test_what_holds_no_weights_is_named(run, tmp_path):
    with pytest.raises(WeightsError, match="there are no weights at .*nowhere"):
        find_trained(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a run directory"):
        find_trained(tmp_path)
    weights = find_trained(run.path).weights
    weights.write_bytes(b"cut")
    for place in (run.path, weights):
        with pytest.raises(CheckpointError, match="is damaged"):
            find_trained(place)
    (run.checkpoints / "best.json").unlink()
    with pytest.raises(CheckpointError, match="has no best checkpoint yet: only epochs at"):
        find_trained(run.path)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        find_trained(run.path, "last")
