import json
from collections import Counter

import numpy as np
import pytest
from small import SPEC

from gluon_ran.models import ResidualAttentionNet, get_model
from gluon_ran.models.spec import change
from gluon_ran.training.fusion import fuse_norm_relu

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import SymbolBlock, nn

FUSED = "_contrib_BatchNormWithReLU"

pytestmark = pytest.mark.skipif(
    not mx.runtime.Features().is_enabled("MKLDNN"), reason="MXNet was built without oneDNN"
)


def operators(symbol):
    return Counter(node["op"] for node in json.loads(symbol.tojson())["nodes"])


def trained(net, graph, images):
    """Scores, gradients and running statistics of a training step, and then scores of inference."""
    data = mx.sym.var("data", dtype="float32")
    block = SymbolBlock(graph, data, params=net.collect_params())
    block.hybridize(static_alloc=True, static_shape=True)
    with autograd.record():
        scores = block(images)
        loss = mx.nd.log_softmax(scores)[:, 0].mean()
    loss.backward()
    results = {"scores": scores}
    for name, parameter in net.collect_params().items():
        results[name] = (
            parameter.data() if parameter.grad_req == "null" else parameter.grad()
        ).copy()
    results["inference"] = block(images)
    return {name: array.asnumpy() for name, array in results.items()}


def assert_fusion_changes_nothing(make, images):
    results = []
    for fuse in (lambda graph, shape: graph, fuse_norm_relu):
        mx.random.seed(1)
        net = make()
        net.initialize()
        net(images)
        if isinstance(net, ResidualAttentionNet):
            with net.traced_for(images.shape):
                graph = net(mx.sym.var("data"))
        else:
            graph = net(mx.sym.var("data"))
        results.append(trained(net, fuse(graph, images.shape), images))
    assert operators(fuse_norm_relu(graph, images.shape))[FUSED] > 0
    assert len(results[0]) == len(results[1])
    for (name, plain), fused in zip(results[0].items(), results[1].values()):
        assert np.array_equal(plain, fused), name


@pytest.mark.parametrize(
    "changes",
    [{"widths": (64, 128)}, {"unit": "inception", "widths": (128, 256)}],
    ids=str,
)
def test_scores_gradients_and_statistics_are_the_same_to_the_bit(changes):
    images = mx.nd.random.uniform(shape=(8, 3, 16, 16))
    assert_fusion_changes_nothing(lambda: ResidualAttentionNet(change(SPEC, **changes)), images)


@pytest.mark.parametrize("name", ["cifar_resnet20_v1", "cifar_resnet20_v2"])
def test_baselines_are_the_same_to_the_bit(name):
    images = mx.nd.random.uniform(shape=(4, 3, 32, 32))
    assert_fusion_changes_nothing(lambda: get_model(name, classes=5), images)


@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}], ids=str)
def test_a_norm_between_convolutions_is_the_same_to_the_bit(norm):
    def make():
        net = nn.HybridSequential()
        net.add(nn.Conv2D(16, 3), nn.BatchNorm(**norm), nn.Activation("relu"), nn.Conv2D(32, 1))
        net.add(nn.GlobalAvgPool2D(), nn.Dense(3))
        return net

    assert_fusion_changes_nothing(make, mx.nd.random.uniform(shape=(4, 3, 8, 8)))


def test_only_a_norm_read_by_one_relu_between_plain_convolutions_is_fused():
    x = mx.sym.var("data")

    def conv(y, channels=16, groups=1):
        return mx.sym.Convolution(
            y, mx.sym.var(f"w{id(y)}"), kernel=(1, 1), num_filter=channels, num_group=groups,
            no_bias=True,
        )  # fmt: skip

    def norm(y=x, **changes):
        return mx.sym.BatchNorm(y, **changes)

    def relu(y):
        return mx.sym.Activation(y, act_type="relu")

    shared, out = norm(), relu(norm())
    for graph, expected in (
        (conv(relu(norm())), 1),
        (conv(relu(norm(conv(x)))), 1),
        (conv(out) + conv(out), 1),
        (conv(relu(norm())) + conv(relu(norm())), 2),
        (relu(norm()), 0),
        (conv(relu(norm(use_global_stats=True))), 0),
        (conv(mx.sym.Activation(norm(), act_type="sigmoid")), 0),
        (conv(relu(shared)) + shared, 0),
        (mx.sym.Group([conv(relu(shared)), shared]), 0),
        (conv(out) + out, 0),
        (mx.sym.Group([conv(out), out]), 0),
        (conv(relu(norm()), groups=4), 0),
        (conv(relu(norm(conv(x, groups=4)))), 0),
        (conv(relu(norm()), 8), 0),
        (conv(relu(norm(conv(x, 24)))), 0),
    ):
        fused = fuse_norm_relu(graph, (2, 16, 4, 4))
        assert operators(fused)[FUSED] == expected
        assert operators(fused)["BatchNorm"] == operators(graph)["BatchNorm"] - expected
        assert fused.list_arguments() == graph.list_arguments()
        assert fused.list_auxiliary_states() == graph.list_auxiliary_states()
