"""Networks made for inference: random weights and pictures, narrow networks."""

import sys
from functools import lru_cache

import numpy as np
import pytest
from small import SPEC

from gluon_ran.deploy import OptimizeError, disagreement, optimize, precisions
from gluon_ran.models import ResidualAttentionNet, change_spec, get_model
from gluon_ran.models.graph import Graph
from gluon_ran.training.precision import cpu_has_bfloat16

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import SymbolBlock, nn

needs_bfloat16 = pytest.mark.skipif(
    not cpu_has_bfloat16(), reason="this CPU has neither avx512_bf16 nor amx_bf16"
)
pytestmark = pytest.mark.skipif(
    not mx.runtime.Features().is_enabled("MKLDNN"), reason="MXNet was built without oneDNN"
)


def pictures(count=4, size=16):
    return np.random.default_rng(1).normal(size=(count, 3, size, size)).astype(np.float32)


def with_statistics(net, size=16):
    """Initialised, with norms that scale and shift and know their pictures, as trained ones do."""
    net.initialize()
    net(mx.nd.array(pictures(1, size)))  # which settles deferred shapes
    rng = np.random.default_rng(0)
    for name, parameter in net.collect_params(".*(gamma|beta)").items():
        value = rng.uniform(0.5, 1.5, parameter.shape) - name.endswith("beta")
        parameter.set_data(mx.nd.array(value))
    for _ in range(8):
        with autograd.record():
            loss = net(mx.nd.array(pictures(8, size))).sum()
        loss.backward()  # the running statistics are brought up to date in the backward pass
    mx.nd.waitall()
    return net


def small(**changes):
    return with_statistics(ResidualAttentionNet(change_spec(SPEC, **changes)))


@lru_cache(maxsize=None)
def shared():
    """A small network that no test may change."""
    return small()


def smallest():
    """One attention module, so that int8's ranges are soon found."""
    return small(widths=(16,), strides=(1,), modules=(1,), mask_depths=(1,), units_before=(1,),
                 units_after=(0,), t=1)  # fmt: skip


def operators(optimized):
    return [node["op"] for node in Graph(optimized.symbol).nodes]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "channel"},
        {"attention": "spatial"},
        {"learning": "naive"},
        {"mask": "local_conv"},
        {"mask_features": True},
        {"upsampling": "separable"},
        {"upsampling": "bilinear"},
        {"dropout": 0.5},
        {"classes": 0},
        {"unit": "resnext", "widths": (64, 128)},
        {"unit": "inception"},
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_every_kind_of_network_keeps_its_scores(changes, precision):
    net = small(**changes)
    optimized = optimize(net, precision, [pictures()])
    operator_names = operators(optimized)
    assert "_sg_mkldnn_conv" in operator_names
    assert optimized.disagreement < {"float32": 1e-5, "bfloat16": 0.05}[precision]
    assert optimized(mx.nd.array(pictures())).dtype == np.float32


@pytest.mark.parametrize("name", ["cifar_resnet20_v1", "cifar_resnet20_v2"])
def test_gluoncv_networks_are_served_too(name):
    net = with_statistics(get_model(name, classes=10))
    assert optimize(net, "float32", [pictures()]).disagreement < 1e-5


def test_norms_of_dense_layers_are_left_alone():
    """The operator of a norm and its ReLU takes planes alone."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3), nn.Activation("relu"), nn.BatchNorm(), nn.Activation("relu"))
    net.add(nn.Dense(16), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3))
    optimized = optimize(with_statistics(net), "float32", [pictures()])
    names = operators(optimized)
    assert names.count("BatchNorm") == names.count("_contrib_BatchNormWithReLU") == 1
    assert optimized.disagreement < 1e-5


def test_layers_that_are_called_twice():
    class Twice(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(3, 3, padding=1, in_channels=3)
            self.norm = nn.BatchNorm(in_channels=3)

        def hybrid_forward(self, F, x):
            for _ in range(2):
                x = self.conv(x)
                x = F.relu(self.norm(x)) + x
            return F.flatten(x)

    net = with_statistics(Twice())
    assert optimize(net, "float32", [pictures()]).disagreement < 1e-5


def test_the_current_device_does_not_matter():
    with mx.Context("cpu", 1):
        optimized = optimize(small(), "float32", [pictures()])
    assert {p.list_ctx()[0] for p in optimized.collect_params().values()} == {mx.cpu()}
    assert optimized.disagreement < 1e-5


def test_statistics_of_steps_that_are_still_under_way_are_waited_for():
    net = small()
    net.hybridize(static_alloc=True, static_shape=True)
    batches = [mx.nd.array(scale * pictures(32)) for scale in range(1, 7)]
    mx.nd.waitall()
    for batch in batches:
        with autograd.record():
            loss = net(batch).sum()
        loss.backward()
    assert optimize(net, "float32", [pictures()]).disagreement < 1e-5


@pytest.mark.parametrize("blocked", [False, True])
def test_the_network_stays_as_it_is(blocked):
    net = small()
    net.blocked = blocked
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    expected = net(mx.nd.array(pictures())).asnumpy()
    optimize(net, "float32", [pictures()])
    assert net.blocked == blocked
    for name, parameter in net.collect_params().items():
        assert np.array_equal(parameter.data().asnumpy(), before[name])
    assert np.array_equal(net(mx.nd.array(pictures())).asnumpy(), expected)


def test_no_batch_norm_is_left_behind_a_convolution():
    net = shared()
    assert operators(optimize(net)).count("BatchNorm") == 0
    # What is left reads a sum: the first norm of each unit and module head, and the last one.
    symbol = Graph(net(mx.sym.var("data")))
    behind_sums = [
        node
        for node in symbol.nodes
        if node["op"] == "BatchNorm"
        and symbol.nodes[node["inputs"][0][0]]["op"] not in ("Convolution",)
    ]
    found = operators(optimize(net)).count("_contrib_BatchNormWithReLU")
    assert 0 < found <= len(behind_sums)


def test_any_number_of_pictures_and_no_gradient():
    net = shared()
    optimized = optimize(net, "float32", [pictures()])
    for count in (1, 5, 2, 4):
        x = mx.nd.array(pictures(count))
        with autograd.record():  # which must not make norms use the batch's statistics
            scores = optimized(x)
        np.testing.assert_allclose(scores.asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4)


@needs_bfloat16
def test_bfloat16_weights_are_cast_once():
    optimized = optimize(shared(), "bfloat16", [pictures()])
    graph = Graph(optimized.symbol)
    casts = [i for i, node in enumerate(graph.nodes) if node["op"] == "amp_cast"]
    variables = {graph.nodes[graph.source(i)]["name"] for i in casts} & set(
        optimized.collect_params()
    )
    assert not variables
    kinds = [str(p.dtype) for p in optimized.collect_params().values()]
    assert any("bfloat16" in kind for kind in kinds)


def test_int8_quantises_and_keeps_the_scores():
    net = smallest()
    optimized = optimize(net, "int8", [pictures(16)])
    names = operators(optimized)
    assert any("quantize" in name for name in names)
    assert "elemwise_mul" in names  # the gate stays float32
    assert 1e-4 < optimized.disagreement < 0.2
    x = mx.nd.array(pictures(3))
    assert disagreement(net, optimized, pictures(3)) < 0.3
    assert optimized(x).shape == (3, 3)


@needs_bfloat16
def test_a_wrong_network_is_refused(monkeypatch):
    """MXNet's pattern, let loose on the blocked layout, gives wrong outputs."""
    monkeypatch.setattr(
        precisions, "fuse_convolutions", lambda symbol: symbol.get_backend_symbol("MKLDNN")
    )
    with pytest.raises(OptimizeError, match="bfloat16 network's scores differ from the original's"):
        optimize(shared(), "bfloat16", [pictures()])


def test_the_bound_can_be_set():
    with pytest.raises(OptimizeError, match="more than 0: choose another precision"):
        optimize(shared(), "float32", [pictures()], bound=0)


def test_scores_that_are_no_numbers_are_refused():
    net = small()
    net.output.weight.set_data(mx.nd.full(net.output.weight.shape, np.nan))
    with pytest.raises(OptimizeError, match="no finite numbers"):
        optimize(net, "float32", [pictures()])


def test_disagreement_is_that_of_centred_scores():
    class Fixed(nn.Block):
        def __init__(self, scores):
            super().__init__()
            self._scores = np.array(scores, np.float32)
            self.anything = nn.Dense(1, in_units=1)
            self.anything.initialize()

        def forward(self, x):
            return mx.nd.array(self._scores[: len(x)])

    net, shifted = Fixed([[1, -1], [3, 4]]), Fixed([[11, 9], [3, 4]])
    assert disagreement(net, shifted, pictures(2)) == 0
    other = Fixed([[1, -1], [3, 5]])  # centred: (1, -1, -0.5, 0.5) and (1, -1, -1, 1)
    assert disagreement(net, other, pictures(2)) == pytest.approx(np.sqrt(0.5 / 2.5))


@pytest.mark.filterwarnings("ignore:Cannot decide type")  # imports asks no type of its data
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_exported_files_give_the_same_scores(tmp_path, precision):
    optimized = optimize(shared(), precision, [pictures()])
    symbol, params = optimized.export(tmp_path / "served")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "served-0000.params",
        "served-symbol.json",
    ]
    again = SymbolBlock.imports(str(symbol), ["data"], str(params))
    again.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(pictures())
    assert np.array_equal(again(x).asnumpy(), optimized(x).asnumpy())
    loaded, arguments, states = mx.model.load_checkpoint(str(tmp_path / "served"), 0)
    assert set(states) == set(loaded.list_auxiliary_states())
    assert set(arguments) == set(loaded.list_arguments()) - {"data"}


@pytest.mark.parametrize("names", [("0000.params", "symbol.json"), ("symbol.json", "0000.params")])
def test_a_failing_export_leaves_both_files_as_they_were(tmp_path, names):
    kept, folder = (tmp_path / f"served-{name}" for name in names)
    kept.write_text("of before")
    folder.mkdir()  # which no file can take the place of
    with pytest.raises(OSError, match=folder.name):
        optimize(smallest(), "float32", [pictures()]).export(tmp_path / "served")
    assert kept.read_text() == "of before" and len(list(tmp_path.iterdir())) == 2


def test_of_several_devices_the_first_ones_statistics_are_served():
    net = smallest()
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    for parameter in net.collect_params(".*running_mean").values():
        parameter.list_data()[1][:] += 3
    served, x = optimize(net, "float32", [pictures()]), mx.nd.array(pictures(), ctx=mx.cpu(0))
    assert disagreement(net, served, x.asnumpy()) < 1e-4


def test_export_to_no_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        optimize(shared()).export(tmp_path / "missing" / "served")


def test_other_picture_sizes_are_refused():
    optimized = optimize(shared(), "float32", [pictures()])
    with pytest.raises(ValueError, match=r"\(3, 16, 16\), not \(3, 32, 32\)"):
        optimized(mx.nd.array(pictures(1, 32)))


@pytest.mark.parametrize(
    "x, name",
    [
        (mx.nd.zeros((1, 3, 16, 16), dtype="uint8"), "uint8 NDArray"),
        (np.zeros((1, 3, 16, 16), np.float32), "float32 ndarray"),
        ([1.0], "not list"),
    ],
)
def test_what_are_no_float32_arrays_are_refused(x, name):
    with pytest.raises(ValueError, match=name):
        optimize(shared(), "float32", [pictures()])(x)


def double():
    net = small()
    net.cast("float64")
    return net


class TwoOutputs(nn.HybridBlock):
    def hybrid_forward(self, F, x):
        return x, F.relu(x)


@pytest.mark.parametrize(
    "make, message",
    [
        (TwoOutputs, "one output"),
        (nn.Block, "takes a HybridBlock, not Block"),
        (double, r"float64 weights: call its cast\('float32'\)"),
    ],
)
def test_unfit_networks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        optimize(make(), "float32", [pictures()])


def test_networks_without_weights_are_refused():
    with pytest.raises(RuntimeError, match="has not been initialized"):
        optimize(ResidualAttentionNet(SPEC))


@pytest.mark.parametrize(
    "precision, calibration, message",
    [
        ("float8", None, "no precision is called 'float8'; there are: float32, bfloat16, int8"),
        ("int8", None, "int8 needs calibration batches"),
        ("float32", [], r"must be batches \(N, channels, H, W\)"),
        ("float32", [np.zeros((3, 16, 16))], r"not \[\(3, 16, 16\)\]"),
        ("float32", [pictures(0)], "no pictures"),
        ("float32", [pictures(), pictures(2, 32)], "one picture size"),
        ("float32", [np.full((1, 3, 16, 16), np.nan)], "finite"),
        ("float32", [np.zeros((1, 3, 18, 18))], "multiples of"),
    ],
)
def test_unfit_arguments_are_refused(precision, calibration, message):
    with pytest.raises(ValueError, match=message):
        optimize(shared(), precision, calibration)


def test_batches_of_pictures_and_labels_calibrate():
    batches = [(pictures(2), np.zeros(2)), (mx.nd.array(pictures(3)), None)]
    assert optimize(shared(), "float32", batches).disagreement < 1e-5


def test_float32_needs_calibration_where_nothing_tells_the_pictures():
    with pytest.raises(ValueError, match="nothing else tells"):
        optimize(with_statistics(get_model("cifar_resnet20_v1", classes=10)))


def test_cpus_without_bfloat16_are_told(monkeypatch):
    module = sys.modules[optimize.__module__]
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(OptimizeError, match="choose float32 or int8"):
        optimize(shared(), "bfloat16", [pictures()])
