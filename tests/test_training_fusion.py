import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scripts import ROOT
from small import RECIPE

from gluon_ran.models import get_model
from gluon_ran.training import precision
from gluon_ran.training.fusion import fuse_norm_relu
from gluon_ran.training.precision import symbol_of
from gluon_ran.training.step import Stepper

import mxnet as mx

FUSED = "_contrib_BatchNormWithReLU"

pytestmark = pytest.mark.skipif(
    not mx.runtime.Features().is_enabled("MKLDNN"), reason="MXNet was built without oneDNN"
)


def operators(symbol):
    return Counter(node["op"] for node in json.loads(symbol.tojson())["nodes"])


def trained(make, dtype, images, monkeypatch, fuse):
    """Losses, weights, gradients, statistics and scores of two steps; and the operators."""
    monkeypatch.setattr(precision, "fuse_norm_relu", fuse)
    net = make()
    stepper = Stepper(net, replace(RECIPE, dtype=dtype), [mx.cpu()], "device")
    targets = np.eye(net.spec.classes, dtype=np.float32)[np.arange(len(images)) % 3]
    results = []
    for _ in range(2):
        results.append((stepper(images, targets, 0.05).loss,))
        for parameter in net.collect_params().values():
            results.append(parameter.data().asnumpy())
            if parameter.grad_req != "null":
                results.append(parameter.grad().asnumpy())
    results.append(stepper.frozen(images.shape)(mx.nd.array(images)).asnumpy())
    return results, operators(symbol_of(net, dtype, images.shape))


def assert_fusion_changes_nothing(make, dtype, images, monkeypatch):
    if dtype == "bfloat16" and not precision.cpu_has_bfloat16():
        pytest.skip("this CPU has neither avx512_bf16 nor amx_bf16")
    plain, _ = trained(make, dtype, images, monkeypatch, lambda graph, shape: graph)
    fused, found = trained(make, dtype, images, monkeypatch, fuse_norm_relu)
    assert found[FUSED] > 0
    assert len(plain) == len(fused)
    assert all(np.array_equal(one, other) for one, other in zip(plain, fused))


# An ImageNet network with fewer units: as wide, and built in half the time.
FEW = {"units_before": (1, 1, 1, 1), "p": 0, "t": 1}
NETWORKS = [
    ("attention56", FEW, "float32"), ("attentionnext56", FEW, "bfloat16"),
] + [
    (name, {}, dtype)
    for name, dtype in (
        ("cifar_attention56_thin", "float32"), ("cifar_attention56_thin", "bfloat16"),
        ("cifar_attention56", "bfloat16"), ("cifar_attentionnext56", "float32"),
        ("cifar_attentioninception56", "bfloat16"),
    )
] + [
    ("cifar_attention56_thin", changes, "bfloat16")
    for changes in (
        {"attention": "channel"}, {"attention": "spatial"}, {"learning": "naive"},
        {"mask": "local_conv"}, {"mask_features": True},
    )
]  # fmt: skip


@pytest.mark.parametrize("name, changes, dtype", NETWORKS, ids=str)
def test_training_is_the_same_to_the_bit(name, changes, dtype, monkeypatch):
    """At full width, which decides about the layouts."""
    side = 16 if name.startswith("cifar") else 64
    images = np.random.default_rng(0).random((4, 3, side, side), dtype=np.float32)

    def make():
        return get_model(name, classes=3, **changes)

    assert_fusion_changes_nothing(make, dtype, images, monkeypatch)


def test_frozen_networks_are_the_same_to_the_bit(monkeypatch):
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)

    def make():
        mx.random.seed(1)
        net = get_model("cifar_attention56_thin", classes=3)
        net.initialize()
        net.freeze(1)
        return net

    assert_fusion_changes_nothing(make, "float32", images, monkeypatch)


@pytest.mark.parametrize("name", ["cifar_attention56", "cifar_attention_compact"])
def test_odd_shapes_are_the_same_up_to_rounding(name, monkeypatch):
    """Where oneDNN takes other code for the one operator than for the two."""
    images = np.random.default_rng(0).random((3, 3, 8, 24), dtype=np.float32)
    make = lambda: get_model(name, classes=3, dropout=0.0)  # noqa: E731
    plain, _ = trained(make, "float32", images, monkeypatch, lambda graph, shape: graph)
    fused, _ = trained(make, "float32", images, monkeypatch, fuse_norm_relu)
    assert plain[0] == pytest.approx(fused[0], rel=1e-5)
    step = len(plain) // 2  # of the first step; rounding grows with each further one
    one, other = (np.concatenate([np.ravel(a) for a in r[1:step]]) for r in (plain, fused))
    assert np.linalg.norm(one - other) < 1e-4 * np.linalg.norm(one)


def test_training_goes_on_where_onednn_is_turned_off():
    """In a process of its own, since MXNet reads the variable once."""
    code = (
        "import numpy as np\n"
        "from gluon_ran import get_model, get_recipe\n"
        "from gluon_ran.training.step import Stepper\n"
        "import mxnet as mx\n"
        "net = get_model('cifar_attention56_thin', classes=3)\n"
        "stepper = Stepper(net, get_recipe('gluon'), [mx.cpu()], 'device')\n"
        "images, targets = np.ones((3, 3, 16, 16), np.float32), np.eye(3, dtype=np.float32)\n"
        "print(stepper(images, targets, 0.1).loss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MXNET_MKLDNN_ENABLED": "0"},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.isfinite(float(done.stdout))


def test_networks_of_other_layouts_are_left_alone():
    for net in (get_model("cifar_attention56_thin"), get_model("cifar_resnet20_v2")):
        net.initialize()
        assert operators(symbol_of(net, "float32", (2, 3, 32, 32)))[FUSED] == 0


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
