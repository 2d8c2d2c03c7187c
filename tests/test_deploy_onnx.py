"""ONNX files: equal scores, what their metadata hold, and what cannot be exported."""

import json
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime as runtime
import pytest
from networks import THIN, pictures, shake
from small import RECIPE, SPEC, data_record, net, train_batches, validation_batches

from gluon_ran.data import Normalization
from gluon_ran.deploy import ExportError, export_onnx
from gluon_ran.models import (
    SPECS,
    Card,
    WeightsError,
    build,
    get_model,
    list_models,
    save_with_card,
)
from gluon_ran.training import RunDirectory, fit

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.contrib.nn import SyncBatchNorm

# The first network of each name without its depth; benchmarks/onnx_parity.py exports all.
FAMILIES = {re.sub(r"\d+", "", name): name for name in reversed(list_models())}.values()
LEAST = {"resnext": 64, "inception": 64, "preactivation": 16}


def scores(path, images):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"images": images.asnumpy()})[0]


def metadata(path):
    return {each.key: json.loads(each.value) for each in onnx.load(str(path)).metadata_props}


def assert_same_scores(path, network, images):
    expected = network(images).asnumpy()
    assert np.abs(scores(path, images) - expected).max() <= 1e-4 * np.abs(expected).max()


def shaken(network):
    network.initialize()
    shake(network)
    return network


def small(norm_layer=nn.BatchNorm, norm_kwargs=None, **changes):
    """Two stages with a module each, for pictures of 32x32 or other multiples of 4."""
    return shaken(build(replace(SPEC, **changes), norm_layer, norm_kwargs))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_gives_the_same_scores(name, tmp_path):
    """With all its layers, at its own size, at a fraction of its width."""
    spec = SPECS[name]
    widths = tuple(max(width // 16, LEAST[spec.unit]) for width in spec.widths)
    network = shaken(get_model(name, classes=7, widths=widths, stem_width=8))
    path = export_onnx(network, tmp_path / "net.onnx")
    assert_same_scores(path, network, pictures(*spec.input_size, count=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "channel"}, {"attention": "spatial"}, {"learning": "naive"},
        {"mask": "local_conv"}, {"mask_features": True}, {"classes": 0}, {"dropout": 0.5},
        {"in_channels": 1}, {"norm_kwargs": {"epsilon": 0.5}}, {"norm_kwargs": {"scale": False}},
    ],
    ids=str,
)  # fmt: skip
def test_each_field_gives_the_same_scores(changes, tmp_path):
    network, channels = small(**changes), changes.get("in_channels", 3)
    path = export_onnx(network, tmp_path / "net.onnx", (32, 48))
    for count in (1, 4):
        assert_same_scores(path, network, pictures(32, 48, count, channels))


@pytest.mark.parametrize("name", ["cifar_resnet20_v1", "cifar_resnet20_v2"])
def test_baselines_give_the_same_scores(name, tmp_path):
    network = shaken(get_model(name))
    with pytest.raises(ExportError, match="give input_size"):
        export_onnx(network, tmp_path / "net.onnx")
    assert_same_scores(export_onnx(network, tmp_path / "net.onnx", 32), network, pictures())


def test_a_run_brings_its_metadata(tmp_path):
    record = {**data_record(), "size": [16, 24], "fit": "pad"}
    run = RunDirectory.start(tmp_path / "run", SPEC, RECIPE, record)
    network = net()
    fit(network, RECIPE, train_batches(), validation_batches(), classes=3, run=run, progress=False)
    told = metadata(export_onnx(tmp_path / "run", tmp_path / "net.onnx"))
    assert told["normalization"] == record["normalization"]
    assert told["class_names"] == record["class_names"]
    assert told["fit"] == "pad"
    assert told["spec"]["name"] == "small"
    assert scores(tmp_path / "net.onnx", pictures(16, 24)).shape == (2, 3)


def test_weights_bring_the_metadata_of_their_card(tmp_path):
    network = small(classes=2)
    card = Card(network.spec, Normalization((1, 2, 3), (4, 5, 6)), ("cat", "dog"), (24, 16))
    save_with_card(network, card, tmp_path / "net.params")
    path = export_onnx(tmp_path / "net.params", tmp_path / "net.onnx")
    assert metadata(path)["normalization"] == {"mean": [1, 2, 3], "std": [4, 5, 6]}
    assert metadata(path)["class_names"] == ["cat", "dog"]
    assert_same_scores(path, network, pictures(24, 16))


def test_a_network_takes_the_card_of_its_own_weights(tmp_path):
    network, path = small(), tmp_path / "net.onnx"
    card = Card(network.spec, Normalization((1, 2, 3), (4, 5, 6)))
    assert set(metadata(export_onnx(network, path, card=card))) == {"spec", "normalization"}
    assert set(metadata(export_onnx(network, path))) == {"spec"}
    with pytest.raises(ValueError, match="card is of another network"):
        export_onnx(network, path, card=replace(card, spec=replace(SPEC, t=3)))
    export_onnx(network, path, card=replace(card, spec=replace(SPEC, dropout=0.5, zero_init=True)))
    (tmp_path / "net.params").write_bytes(b"no card beside it")
    with pytest.raises(WeightsError, match="nothing tells which network"):
        export_onnx(tmp_path / "net.params", path)


def test_a_mean_picture_holds_for_its_size_alone(tmp_path):
    network, path = small(), tmp_path / "net.onnx"
    mean = np.random.default_rng(0).uniform(0, 255, (16, 24, 3))
    card = Card(network.spec, Normalization(mean, (4, 5, 6)))
    with pytest.raises(
        ValueError, match=r"mean picture of \(16, 24\): take that size, not \(32, 32\)"
    ):
        export_onnx(network, path, card=card)
    export_onnx(network, path, (16, 24), card=card)
    assert np.array_equal(metadata(path)["normalization"]["mean"], card.normalization.mean)


def test_one_picture_at_a_time(tmp_path):
    network = small()
    path = export_onnx(network, tmp_path / "net.onnx", dynamic_batch=False)
    assert_same_scores(path, network, pictures(count=1))
    with pytest.raises(Exception, match="invalid dimensions"):
        scores(path, pictures(count=2))


def told(value):
    """Name, kind of number and shape of an input or output."""
    shape = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    return value.name, value.type.tensor_type.elem_type, shape


@pytest.mark.parametrize("dynamic, batch", [(True, "N"), (False, 1)])
def test_the_file_has_one_input_and_one_output_and_tells_their_shapes(dynamic, batch, tmp_path):
    path = export_onnx(small(), tmp_path / "net.onnx", (16, 40), dynamic_batch=dynamic)
    graph = onnx.load(str(path)).graph
    assert list(map(told, graph.input)) == [("images", onnx.TensorProto.FLOAT, [batch, 3, 16, 40])]
    assert list(map(told, graph.output)) == [("scores", onnx.TensorProto.FLOAT, [batch, 3])]


def test_masks_are_interpolated_by_onnxs_own_operator(tmp_path):
    graph = onnx.load(str(export_onnx(small(), tmp_path / "net.onnx"))).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Resize") == sum(SPEC.mask_depths)
    assert "Range" not in operators


def test_equal_networks_give_equal_files(tmp_path):
    first, second = small(), small()
    for name, parameter in second._collect_params_with_prefix().items():
        parameter.set_data(first._collect_params_with_prefix()[name].data())
    files = [export_onnx(network, tmp_path / network.name) for network in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
    weights = {tensor.name for tensor in onnx.load(str(files[0])).graph.initializer}
    assert weights > set(first._collect_params_with_prefix())


@pytest.mark.parametrize("blocked", [False, True])
def test_exporting_leaves_the_network_as_it_was(blocked, tmp_path):
    network, x = small(), pictures()
    network.hybridize()
    network.blocked = blocked
    before, graph = network(x).asnumpy(), network(mx.sym.var("x")).tojson()
    export_onnx(network, tmp_path / "net.onnx", 64)
    assert network.blocked == blocked
    assert np.array_equal(network(x).asnumpy(), before)
    assert network(mx.sym.var("x")).tojson().count("BilinearResize2D") == 0
    assert len(network(mx.sym.var("x")).tojson()) == len(graph)


def test_a_network_in_training_is_exported_as_it_scores(tmp_path):
    """Within `record`, a pass would drop numbers and move the running statistics."""
    network, x = small(dropout=0.5), pictures()
    with mx.autograd.record():
        path = export_onnx(network, tmp_path / "net.onnx")
    assert_same_scores(path, network, x)


@pytest.mark.parametrize("size", [30, (32, 0), (32, -8), (32,), "32"])
def test_other_sizes_are_refused(size, tmp_path):
    with pytest.raises(ValueError, match="multiples of 4|give one side, or height and width"):
        export_onnx(small(), tmp_path / "net.onnx", size)


def two_outputs():
    block = nn.HybridLambda(lambda F, x: (x, x))
    block.initialize()
    return block


def diverged():
    network = small()
    network.output.weight.set_data(network.output.weight.data() * np.nan)
    return network


def double():
    network = small()
    network.cast("float64")
    return network


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: get_model(THIN), "no values: initialize"),
        (double, "is float64.*cast"),
        (diverged, "not finite"),
        (two_outputs, "several outputs"),
        (
            lambda: small(partial(SyncBatchNorm, num_devices=1)),
            "SyncBatchNorm yet.*build it of other",
        ),
    ],
)
def test_networks_that_cannot_be_exported(make, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_onnx(make(), tmp_path / "net.onnx", 32)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_scores_nothing_but_zeros_is_exported(tmp_path):
    network = small()
    for parameter in network.output.collect_params().values():
        parameter.set_data(mx.nd.zeros(parameter.shape))
    assert not scores(export_onnx(network, tmp_path / "net.onnx"), pictures()).any()


def test_weights_beyond_what_a_file_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gluon_ran.deploy.onnx.MAX_BYTES", 10_000)
    with pytest.raises(ExportError, match=r"take \d+,\d+ bytes, .* can hold 10,000"):
        export_onnx(small(), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["", "none/net.onnx", "n" * 300, "file/net.onnx"])
def test_a_path_that_cannot_be_written_is_named_at_once(name, tmp_path, monkeypatch):
    monkeypatch.setattr("gluon_ran.deploy.onnx.onnx_model", pytest.fail)
    (tmp_path / "file").touch()
    with pytest.raises(
        ExportError, match="is a folder|can't be written: (there is no folder|File name|Not a)"
    ):
        export_onnx(small(), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    monkeypatch.setattr("gluon_ran.deploy.onnx.TOLERANCE", -1)
    with pytest.raises(ExportError, match=r"scores differ by .*nothing is written.*by \d.\de-\d\d"):
        export_onnx(small(), path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"pip install 'gluon_ran\[onnx\]'"):
        export_onnx(small(), path)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
