import json
import re
from functools import lru_cache

import numpy as np
import pytest
from networks import (
    THIN,
    assert_close,
    assert_same,
    assert_same_direction,
    blocks,
    gradients,
    narrow,
    pictures,
)

from gluon_ran.models import (
    SPECS,
    ResidualAttentionNet,
    get_attention_cifar,
    get_attention_net,
    get_model,
    list_models,
)
from gluon_ran.models.attention import AttentionModule
from gluon_ran.models.units import InceptionUnit, PreActivationUnit

import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


@lru_cache(maxsize=None)
def shared(name):
    """A network that nobody initialises or changes."""
    return get_model(name)


def weighted_layers_along_the_trunk(block):
    if isinstance(block, (nn.Conv2D, nn.Dense)):
        return 1
    if isinstance(block, InceptionUnit):
        return 3  # As the paper's names count it.
    beside = ("shortcut", "mask", "head")
    along = (child for name, child in block._children.items() if name not in beside)
    return sum(map(weighted_layers_along_the_trunk, along))


@pytest.mark.parametrize("name", list_models())
def test_the_built_trunk_has_the_depth_of_the_name(name):
    net, spec = shared(name), SPECS[name]
    depth = weighted_layers_along_the_trunk(net)
    assert depth == spec.trunk_depth
    if name != "cifar_attention_compact":
        assert depth == int(re.search(r"(?:attention[a-z]*|preresnet)(\d+)", name).group(1))
    modules = len(blocks(net, AttentionModule))
    assert modules == sum(spec.modules)
    if modules and not name.startswith(
        ("attention452", "cifar_attention452", "cifar_attention_compact")
    ):
        assert depth == 36 * modules / 3 + 20


@pytest.mark.parametrize("name", list_models())
def test_every_size_that_fits_gives_one_score_a_class(name):
    net = shared(name)
    step = net.spec.size_multiple
    height, width = net.spec.input_size
    for size in [(height, width), (step, step), (height + step, width + 3 * step)]:
        with net.traced_for((5, 3) + size):
            _, (shape,), _ = net(mx.sym.var("data")).infer_shape(data=(5, 3) + size)
        assert shape == (5, net.spec.classes)


@pytest.mark.parametrize("edge", [224, 256, 320, 448])
def test_common_imagenet_sizes(edge):
    net = shared("attention56")
    with net.traced_for((2, 3, edge, edge)):
        _, (shape,), _ = net(mx.sym.var("data")).infer_shape(data=(2, 3, edge, edge))
        stem = net.features.stem(mx.sym.var("data")).infer_shape(data=(2, 3, edge, edge))[1]
    assert shape == (2, 1000)
    assert stem == [(2, 64, edge // 4, edge // 4)]


@pytest.mark.parametrize("depth", [56, 92])
def test_the_three_functions_build_the_rows(depth):
    for build, name in (
        (get_attention_net, f"attention{depth}"),
        (get_attention_cifar, f"cifar_attention{depth}"),
        (lambda n: get_attention_cifar(n, thin=True), f"cifar_attention{depth}_thin"),
    ):
        net = build(depth)
        assert isinstance(net, ResidualAttentionNet)
        assert net.spec == SPECS[name]


def test_changes_reach_the_network():
    net = get_attention_cifar(56, 100, thin=True, in_channels=1, r=2)
    assert (net.spec.classes, net.spec.in_channels, net.spec.r) == (100, 1, 2)
    net.initialize()
    assert net(pictures(channels=1)).shape == (2, 100)
    assert get_attention_net(56, classes=7).spec.classes == 7
    assert len(blocks(net, PreActivationUnit)) == 6 + 3 * 4 + (12 + 8 + 4) + (2 + 1)


def test_a_network_has_no_more_parameters_than_it_uses():
    net = narrow()
    used = net(mx.sym.var("data")).list_inputs()
    assert sorted(used) == sorted([*net.collect_params(), "data"])


def test_without_classes_the_network_gives_its_embedding():
    net = narrow(classes=0, dropout=0.5)
    assert net.output is None
    x = pictures()
    embedding = net.features(x)
    assert embedding.shape == (2, 32)
    assert_same(net(x), embedding)
    net.hybridize()
    assert_close(net(x), embedding)


def test_dropout_drops_its_share_of_the_embedding_in_training_alone():
    net = narrow(dropout=0.25, widths=(8, 16, 512))
    x = pictures()
    assert_same(net(x), net.output(net.features(x)))
    dropped = []
    net.dropout.register_forward_hook(lambda block, inputs, output: dropped.append(output))
    with autograd.train_mode():
        net(x)
    share = (dropped[0] == 0).mean().asscalar()
    assert 0.15 < share < 0.35


@pytest.mark.parametrize("after", [0, 2])
def test_post_processing_units_may_be_another_number(after):
    net = narrow(p_after=after)
    modules = blocks(net, AttentionModule)
    assert [(len(m.pre), len(m.post)) for m in modules] == [(1, after)] * 3
    assert weighted_layers_along_the_trunk(net) == net.spec.trunk_depth


def test_modules_without_units_around_them():
    net = narrow(p=0)
    assert weighted_layers_along_the_trunk(net) == net.spec.trunk_depth == 38
    x = pictures()
    y = net(x)
    net.hybridize()
    assert_close(net(x), y)


@pytest.mark.parametrize("name", ["resnet", "", "ATTENTION56"])
def test_an_unknown_name_is_refused_and_the_names_are_listed(name):
    with pytest.raises(ValueError) as error:
        get_model(name)
    assert all(known in str(error.value) for known in [repr(name), *list_models()])


@pytest.mark.parametrize("name", ["attention57", "cifar_attention56_wide"])
def test_a_mistyped_name_is_answered_with_a_close_one(name):
    with pytest.raises(ValueError, match=f"{name}.*did you mean .*attention56"):
        get_model(name)


@pytest.mark.parametrize("build", [get_attention_net, get_attention_cifar])
@pytest.mark.parametrize("depth", [57, 0, "56", None])
def test_an_unknown_depth_is_refused_and_the_depths_are_listed(build, depth):
    with pytest.raises(ValueError, match=f"{depth};.* 56, 92, 128, 164, 236, 452"):
        build(depth)


def test_an_unknown_field_is_refused_and_the_fields_are_listed():
    with pytest.raises(ValueError, match="trained; .*widths.*upsampling"):
        get_model(THIN, trained=True)


def test_a_wrong_value_is_refused():
    with pytest.raises(ValueError, match="Spec.classes"):
        get_model(THIN, classes=-1)


@pytest.mark.parametrize("name", [THIN, "cifar_attention56", "attention56"])
@pytest.mark.parametrize("offset", [(1, 0), (0, -1), (-1, 1), (4, 4), (2, -3)])
def test_a_wrong_size_is_refused_and_the_nearest_are_named(name, offset):
    net = shared(name)
    step = net.spec.size_multiple
    size = tuple(3 * step + more for more in offset)
    with pytest.raises(ValueError) as error:
        net(nd.zeros((1, 3) + size))
    message = str(error.value)
    assert f"got {size[0]}x{size[1]}" in message
    named = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)x(\d+)", message)][1:]
    below = tuple(edge // step * step for edge in size)
    above = tuple(-(-edge // step) * step for edge in size)
    assert named == [below, above]
    for fitting in named:
        with net.traced_for((1, 3) + fitting):
            pass


def test_the_nearest_of_too_small_a_size_is_the_smallest():
    with pytest.raises(ValueError, match="resize or crop to 8x8$"):
        shared(THIN)(nd.zeros((1, 3, 4, 7)))
    with pytest.raises(ValueError, match="resize or crop to 8x16 or 8x24$"):
        shared(THIN)(nd.zeros((1, 3, 4, 17)))


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 32, 32, 3), (3, 32, 32), (32, 32), (6,)])
def test_a_wrong_rank_or_channel_count_is_refused(shape, hybridize):
    net = narrow()
    if hybridize:
        net.hybridize()
        net(pictures())
    for take in (net, net.features, net.masks):
        with pytest.raises(ValueError, match=re.escape(f"(N, 3, H, W) pictures, not {shape}")):
            take(nd.zeros(shape))


@pytest.mark.parametrize("hybridize", [False, True])
def test_a_wrong_size_does_no_harm(hybridize):
    net = narrow()
    if hybridize:
        net.hybridize()
    x = pictures()
    before = net(x)
    for take in (net, net.features, net.masks):
        with pytest.raises(ValueError):
            take(pictures(33, 32))
    assert_same(net(x), before)


def test_a_wrong_size_is_refused_for_symbols_too():
    net = narrow()
    with pytest.raises(ValueError, match="multiples of 8"):
        with net.traced_for((1, 3, 36, 32)):
            pytest.fail("it was opened")
    x = pictures()
    assert net(x).shape == (2, 10)


def test_hybridized_gradients_are_the_same():
    net = narrow()
    x = pictures(count=4)
    plain = gradients(net, x)
    net.hybridize()
    assert_same_direction(gradients(net, x), plain)


@pytest.mark.parametrize(
    "name, sizes",
    [
        (THIN, [(32, 32), (64, 64), (40, 64), (64, 40), (8, 8)]),
        ("cifar_attention56", [(32, 32), (40, 64)]),
        ("attention56", [(64, 64), (96, 128), (32, 32)]),
    ],
)
def test_one_set_of_weights_takes_sizes_in_any_order(name, sizes):
    net = get_model(name)
    net.initialize()
    batches = [pictures(*size) for size in sizes]
    plain = [net(x) for x in batches]
    net.hybridize()
    for _ in range(2):
        for x, y in zip(batches, plain):
            assert_close(net(x), y)
    assert all(y.shape == (2, net.spec.classes) for y in plain)
    for scores in (y.asnumpy() for y in plain):
        assert np.isfinite(scores).all() and (scores[0] != scores[1]).any()


def test_features_run_alone():
    net = narrow()
    sizes = [(32, 32), (40, 64), (32, 32)]
    batches = [pictures(*size) for size in sizes]
    scores, embeddings = [net(x) for x in batches], [net.features(x) for x in batches]
    net.features.hybridize()
    for x, score, embedding in zip(batches, scores, embeddings):
        assert embedding.shape == (2, 32)
        assert_close(net.features(x), embedding)
        assert_close(net.output(embedding), score)
        # The whole is not hybridized but its features are.
        assert_close(net(x), score)
    net.hybridize()
    for x, score, embedding in zip(batches, scores, embeddings):
        assert_close(net(x), score)
        assert_close(net.features(x), embedding)


def test_the_batch_size_may_change():
    net = narrow()
    net.hybridize()
    x = pictures(count=5)
    whole = net(x)
    for count in (1, 3, 5):
        assert_close(net(x[:count]), whole[:count], 1e-5)


@pytest.mark.parametrize("size", [(32, 32), (40, 64)])
def test_each_way_to_upsample_is_the_same_function_of_the_weights(size, tmp_path):
    net = narrow()
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    x = pictures(*size)
    for method in ("matrix", "separable", "bilinear"):
        other = narrow(upsampling=method)
        other.load_parameters(path)
        assert_close(other(x), net(x), 1e-5)


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("method", ["auto", "bilinear"])
def test_the_blocked_graph_gives_the_same(method, hybridize):
    net = narrow(upsampling=method)
    if hybridize:
        net.hybridize()
    x = pictures(count=4)
    assert not net.blocked
    plain = gradients(net, x)
    scores = net(x)
    net.blocked = True
    assert net.blocked
    assert_close(net(x), scores)
    assert_same_direction(gradients(net, x), plain)


def test_blocked_changes_the_graph_of_a_hybridized_network():
    net = narrow()
    net.hybridize()
    net(pictures())
    plain = net(mx.sym.var("data")).tojson().count('"Convolution"')
    net.blocked = True
    net(pictures())
    blocked = net(mx.sym.var("data")).tojson().count('"Convolution"')
    # One behind the stem, one a module ahead of its product and one behind, 2 + 1 skips,
    # 3 + 2 + 1 upsamplings.
    assert blocked == plain + 1 + 3 + 3 + 3 + 6


def operators(net):
    return {node["op"] for node in json.loads(net(mx.sym.var("data")).tojson())["nodes"]}


def test_a_portable_graph_gives_the_same_with_the_operators_of_onnx():
    net, x = narrow(attention="channel"), pictures(40, 64)
    net.blocked = True
    before = operators(net)
    with net.traced_for(x.shape, portable=True):
        assert "_contrib_BilinearResize2D" in operators(net)
        assert not {"_arange", "_ones", "L2Normalization"} & operators(net)
        graph = net(mx.sym.var("data"))
    assert net.blocked and operators(net) == before
    data = mx.sym.var("data", dtype="float32")
    block = gluon.SymbolBlock(graph, data, params=net.collect_params())
    assert_close(block(x), net(x), 1e-5)
