import copy
import json
from collections import Counter

import numpy as np
import pytest
from networks import assert_close, assert_same, blocks, gradients, narrow, pictures

from gluon_ran.models.attention import MaskHead

from mxnet import autograd, nd, sym


def calibrated(**changes):
    """A network whose running statistics fit its pictures: its masks are not all near 0 or 1."""
    net = narrow(norm_kwargs={"momentum": 0.0}, **changes)
    gradients(net, pictures(count=8))
    return net


def masks_by_hand(net, x):
    captured = []
    hooks = [
        head.register_forward_hook(lambda block, inputs, output: captured.append(output))
        for head in blocks(net, MaskHead)
    ]
    net(x)
    for hook in hooks:
        hook.detach()
    return captured


@pytest.mark.parametrize("changes", [{}, {"modules": (1, 2, 3)}, {"modules": (0, 1, 0)}], ids=repr)
def test_masks_are_those_of_the_forward_pass(changes):
    net = calibrated(**changes)
    batches = [pictures(*size) for size in [(32, 32), (40, 64)]]
    by_hand = [masks_by_hand(net, x) for x in batches]
    for hybridize in (False, True):
        if hybridize:
            net.hybridize()
        for x, expected in zip(batches, by_hand):
            y = net(x)
            masks = net.masks(x)
            assert len(masks) == len(expected) == sum(net.spec.modules)
            for mask, wanted in zip(masks, expected):
                assert_close(mask, wanted, 1e-5)
            assert_same(net(x), y)


def test_masks_have_the_shape_of_their_stage_and_lie_between_0_and_1():
    net = calibrated(modules=(1, 2, 1))
    masks = net.masks(pictures(40, 64))
    shapes = [(8, 40, 64), (16, 20, 32), (16, 20, 32), (32, 10, 16)]
    assert [mask.shape for mask in masks] == [(2,) + shape for shape in shapes]
    for mask in masks:
        assert 0 < mask.min().asscalar() < mask.max().asscalar() < 1


def test_a_network_can_be_copied_behind_its_masks():
    net, x = narrow(), pictures()
    masks = net.masks(x)
    other = copy.deepcopy(net)
    for one, two in zip(masks, other.masks(x)):
        assert_same(one, two)


@pytest.mark.parametrize(
    "changes",
    [
        *({"upsampling": method} for method in ("auto", "matrix", "separable", "bilinear")),
        {"attention": "channel"},
        {"mask": "local_conv"},
    ],
    ids=repr,
)
def test_a_network_computes_in_float64_too(changes):
    """Scores and masks, hybridized and not, and back again."""
    net, x = calibrated(**changes), pictures()
    scores, masks = net(x), net.masks(x)
    net.cast("float64")
    for hybridize in (False, True):
        if hybridize:
            net.hybridize()
        double = net(x.astype("float64"))
        assert double.dtype == np.float64
        assert_close(double.astype("float32"), scores, 1e-4)
    for one, two in zip(net.masks(x.astype("float64")), masks):
        assert one.dtype == np.float64
        assert_close(one.astype("float32"), two, 1e-3)
    net.cast(np.float32)
    assert_close(net(x), scores, 1e-5)


def test_spatial_attention_is_told_to_be_float32_alone():
    net = narrow(attention="spatial")
    with pytest.raises(ValueError, match="'spatial' computes in float32 alone, not float64"):
        net.cast(np.float64)
    net.cast("float32")


def test_masks_of_a_network_without_modules_are_none():
    assert narrow(modules=(0, 0, 0)).masks(pictures()) == []


def test_masks_are_in_inference_mode_even_while_training():
    net = narrow()
    x = pictures()
    expected = net.masks(x)
    with autograd.record():
        masks = net.masks(x)
    for mask, wanted in zip(masks, expected):
        assert_same(mask, wanted)


@pytest.mark.parametrize("changes", [{}, {"modules": (1, 2, 1)}, {"mask": "local_conv"}], ids=str)
def test_masks_cost_one_pass(changes):
    """No layer is computed twice, and none that the network itself does not compute."""

    def layers(symbol):
        nodes = json.loads(symbol.tojson())["nodes"]
        return Counter(
            nodes[node["inputs"][1][0]]["name"] for node in nodes if node["op"] == "Convolution"
        )

    net = narrow(**changes)
    x = pictures()
    with net.traced_for(x.shape):
        whole = layers(net(sym.var("data")))
    masks = layers(net.mask_graph(x.shape))
    assert set(masks.values()) == {1} and set(masks) <= set(whole)
    last = blocks(net, MaskHead)[-1].conv2.weight.name
    assert last in masks and len(masks) < len(whole)


def test_masks_leave_the_network_able_to_learn():
    net = narrow()
    x = pictures()
    plain = gradients(net, x)
    net.masks(x)
    assert gradients(net, x).keys() == plain.keys()


def test_masks_follow_the_weights():
    net = narrow()
    x = pictures()
    before = net.masks(x)[0]
    head = blocks(net, MaskHead)[0]
    head.conv2.weight.set_data(nd.zeros_like(head.conv2.weight.data()))
    assert (before != 0.5).asnumpy().any()
    assert (net.masks(x)[0] == 0.5).asnumpy().all()
