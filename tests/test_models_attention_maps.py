import json
import re
from collections import Counter

import pytest
from networks import assert_close, assert_same, blocks, narrow, pictures

from gluon_ran.models import AttentionMaps
from gluon_ran.models.attention import AttentionModule
from gluon_ran.models.attention_maps import attention_graph

from mxnet import autograd, nd, sym

SPECS = [
    {"modules": (1, 2, 1)},
    {"modules": (0, 1, 0), "learning": "naive"},
    {"modules": (1, 0, 0), "attention": "channel"},
    {"modules": (1, 0, 0), "attention": "spatial"},
    {"modules": (0, 0, 2), "mask": "local_conv", "p": 0, "t": 1},
    {"modules": (1, 0, 0), "mask_features": True, "p_after": 0},
    {"modules": (1, 0, 0), "unit": "resnext", "widths": (64, 64, 64)},
    {"modules": (0, 1, 0), "unit": "inception", "widths": (16, 16, 16), "upsampling": "bilinear"},
]


def net_of(**changes):
    """A network whose running statistics fit its pictures: its masks are not all near 0 or 1."""
    net = narrow(norm_kwargs={"momentum": 0.0}, **changes)
    with autograd.record():
        net(pictures(16, 16, count=8))
    return net


def layers(symbol):
    """How often each convolution with weights of its own is there."""
    nodes = json.loads(symbol.tojson())["nodes"]
    weights = [nodes[n["inputs"][1][0]] for n in nodes if n["op"] == "Convolution"]
    return Counter(weight["name"] for weight in weights if weight["op"] == "null")


def maps_by_hand(net, x):
    """Each module's children one by one, on what its own pass gave its first ones."""
    inputs, modules = [], blocks(net, AttentionModule)
    hooks = [
        module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        for module in modules
    ]
    net(x)
    for hook in hooks:
        hook.detach()
    for module, y in zip(modules, inputs):
        y = module.pre(y)
        before, branch = module.trunk(y), module.mask(y)
        if net.spec.mask_features:
            branch = branch + before
        mask = module.head(branch)
        gate = 1 + mask if net.spec.learning == "residual" else mask
        yield before, mask, gate * before


@pytest.mark.parametrize("changes", SPECS, ids=str)
def test_the_maps_are_what_the_modules_children_give(changes):
    net = net_of(**changes)
    for size in ((16, 16), (8, 24)):
        x = pictures(*size)
        found, expected = net.attention(x), list(maps_by_hand(net, x))
        assert len(found) == len(expected) == sum(net.spec.modules)
        for maps, by_hand, mask in zip(found, expected, net.masks(x)):
            for one, other in zip(maps, by_hand):
                assert one.dtype.__name__ == "float32" and one.shape == other.shape
                assert_close(one, other, 1e-5)
            assert_same(maps.mask, mask)
            gate = maps.mask + (net.spec.learning == "residual")
            assert_close(maps.after, gate * maps.before)


def test_a_map_has_the_shape_of_its_stage():
    found = net_of(modules=(1, 0, 1)).attention(pictures(16, 24))
    for maps, shape in zip(found, [(2, 8, 16, 24), (2, 32, 4, 6)]):
        assert isinstance(maps, AttentionMaps)
        assert {each.shape for each in maps} == {shape}


def test_a_blocked_network_has_the_same_maps():
    net, x = net_of(modules=(1, 0, 1)), pictures(16, 16)
    plain = net.attention(x)
    net.blocked = True
    for maps, expected in zip(net.attention(x), plain):
        for one, other in zip(maps, expected):
            assert_close(one, other, 1e-5)
    net.blocked = False
    assert_same(net.attention(x)[1].after, plain[1].after)


def test_a_network_without_modules_has_none():
    assert narrow(modules=(0, 0, 0)).attention(pictures()) == []


@pytest.mark.parametrize("changes", [{"modules": (1, 2, 1)}, {"mask": "local_conv"}], ids=str)
def test_maps_cost_one_pass(changes):
    net, shape = narrow(**changes), (1, 3, 32, 32)
    with net.traced_for(shape):
        whole = layers(net(sym.var("data")))
    found = layers(attention_graph(net, shape))
    assert set(found.values()) == {1} and found.keys() < whole.keys()
    assert found.keys() > layers(net.mask_graph(shape)).keys()


def test_the_graph_is_made_once_a_size(monkeypatch):
    net, sizes = narrow(modules=(1, 0, 0)), []
    trace = net.traced_for
    monkeypatch.setattr(net, "traced_for", lambda shape: sizes.append(shape) or trace(shape))
    for x in (pictures(16, 16), pictures(16, 16, count=3), pictures(8, 16), pictures(8, 16)):
        net.attention(x)
        net.masks(x)
    assert sizes == [(2, 3, 16, 16)] * 2 + [(2, 3, 8, 16)] * 2


def test_maps_follow_the_weights_and_are_in_inference_mode():
    net, x = narrow(modules=(1, 0, 0)), pictures(16, 16)
    (first,) = net.attention(x)
    with autograd.record():
        (again,) = net.attention(x)
    assert_same(again.after, first.after)
    weight = blocks(net, AttentionModule)[0].head.conv2.weight
    weight.set_data(nd.zeros_like(weight.data()))
    (later,) = net.attention(x)
    assert_same(later.before, first.before)
    assert_same(later.mask, nd.full(first.mask.shape, 0.5))


def test_the_network_itself_is_as_before():
    net, x = net_of(modules=(1, 0, 1)), pictures(16, 16)
    net.hybridize()
    y, names = net(x), list(net.collect_params())
    net.attention(x)
    assert_same(net(x), y)
    assert list(net.collect_params()) == names
    for module in blocks(net, AttentionModule):
        for child in module._children.values():
            assert not child._forward_hooks and not child._forward_pre_hooks


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 12, 16), (3, 16, 16)])
def test_pictures_that_do_not_fit_are_refused(shape):
    net = narrow(modules=(1, 0, 0))
    for take in (net.attention, net.masks):
        take(pictures(16, 16))
        with pytest.raises(ValueError, match=f"{re.escape(str(shape))}|multiples of 8"):
            take(nd.zeros(shape))
