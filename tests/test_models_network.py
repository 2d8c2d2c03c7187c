import re
from functools import lru_cache
from itertools import chain

import numpy as np
import pytest

from gluon_ran.models import (
    SPECS,
    ResidualAttentionNet,
    get_attention_cifar,
    get_attention_net,
    get_model,
    list_models,
)
from gluon_ran.models.attention import AttentionModule, MaskHead
from gluon_ran.models.units import PreActivationUnit

import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

THIN = "cifar_attention56_thin"
# The thin network of half to an eighth of its width, for what does not depend on it.
NARROW = {"widths": (8, 16, 32), "stem_width": 8}


@lru_cache(maxsize=None)
def shared(name):
    """A network that nobody initialises or changes."""
    return get_model(name)


def narrow(**changes):
    net = get_model(THIN, **{**NARROW, **changes})
    net.initialize()
    return net


def pictures(height=32, width=32, count=2, channels=3):
    return nd.random.uniform(-2, 2, (count, channels, height, width))


def shake(net):
    """Random scales, shifts and running statistics: inference is not training at the start."""
    for name, parameter in net.collect_params().items():
        if not name.endswith("weight"):
            parameter.set_data(nd.random.uniform(0.5, 1.5, parameter.shape))


def assert_close(actual, expected, tolerance=1e-6):
    actual, expected = actual.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert (actual == expected).asnumpy().all()


def blocks(block, kind):
    found = [block] if isinstance(block, kind) else []
    return found + list(chain.from_iterable(blocks(b, kind) for b in block._children.values()))


def gradients(net, x):
    """Gradients of a random weighting of the scores, by parameter."""
    with autograd.record():
        y = net(x)
        loss = (y * nd.cos(nd.arange(y.size)).reshape(y.shape)).sum()
    loss.backward()
    trained = (p for p in net.collect_params().values() if p.grad_req != "null")
    return {p.name[len(net.prefix) :]: p.grad().copy() for p in trained}


def assert_same_direction(actual, expected):
    """Gradients of two roundings of one network.

    Where rounding takes an activation across the kink of a ReLU or a max-pool, the gradients before
    it differ by more than rounding, so only the whole can be compared. test_models_attention.py
    compares each gradient of a module.
    """
    assert actual.keys() == expected.keys()
    ours, theirs = (
        np.concatenate([g[name].asnumpy().astype("float64").ravel() for name in expected])
        for g in (actual, expected)
    )
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)


# What is built


def weighted_layers_along_the_trunk(block):
    if isinstance(block, (nn.Conv2D, nn.Dense)):
        return 1
    beside = ("shortcut", "mask", "head")
    along = (child for name, child in block._children.items() if name not in beside)
    return sum(map(weighted_layers_along_the_trunk, along))


@pytest.mark.parametrize("name", list_models())
def test_the_built_trunk_has_the_depth_of_the_name(name):
    net, spec = shared(name), SPECS[name]
    depth = weighted_layers_along_the_trunk(net)
    assert depth == int(re.search(r"attention(\d+)", name).group(1)) == spec.trunk_depth
    modules = len(blocks(net, AttentionModule))
    assert modules == sum(spec.modules)
    if not name.startswith(("attention452", "cifar_attention452")):
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


@pytest.mark.parametrize(
    "name", [THIN, "cifar_attention92_thin", "cifar_attention56", "attention56"]
)
def test_scores_are_finite_and_differ_between_pictures(name):
    net = get_model(name)
    net.initialize()
    scores = net(pictures()).asnumpy()
    assert scores.shape == (2, net.spec.classes)
    assert np.isfinite(scores).all()
    assert (scores[0] != scores[1]).any()


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


def test_modules_without_units_around_them():
    net = narrow(p=0)
    assert weighted_layers_along_the_trunk(net) == net.spec.trunk_depth == 38
    x = pictures()
    y = net(x)
    net.hybridize()
    assert_close(net(x), y)


# What is refused


@pytest.mark.parametrize("name", ["attention57", "", "ATTENTION56", "cifar_attention56_wide"])
def test_an_unknown_name_is_refused_and_the_names_are_listed(name):
    with pytest.raises(ValueError) as error:
        get_model(name)
    assert all(known in str(error.value) for known in [repr(name), *list_models()])


@pytest.mark.parametrize("build", [get_attention_net, get_attention_cifar])
@pytest.mark.parametrize("depth", [57, 0, "56", None])
def test_an_unknown_depth_is_refused_and_the_depths_are_listed(build, depth):
    with pytest.raises(ValueError, match=f"{depth};.* 56, 92, 128, 164, 236, 452"):
        build(depth)


def test_an_unknown_field_is_refused_and_the_fields_are_listed():
    with pytest.raises(ValueError, match="pretrained; .*widths.*upsampling"):
        get_model(THIN, pretrained=True)


def test_a_wrong_value_is_refused():
    with pytest.raises(ValueError, match="Spec.classes"):
        get_model(THIN, classes=0)


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


# Learning


@pytest.mark.parametrize("name", [THIN, "cifar_attention56", "attention56"])
def test_every_parameter_gets_a_gradient(name):
    net = get_model(name)
    net.initialize()
    # 4 pictures: at 32x32, ImageNet's last planes are single pixels.
    found = gradients(net, pictures(count=4))
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert len(found) == len(trained)
    assert [key for key, gradient in found.items() if not gradient.asnumpy().any()] == []
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in found.values())


def test_zero_init_starts_as_its_shortcuts_and_still_learns():
    net = narrow(zero_init=True)
    x = pictures(count=4)
    for unit in blocks(net, PreActivationUnit):
        assert not unit.conv3.weight.data().asnumpy().any()
    before = gradients(net, x)
    idle = [name for name, gradient in before.items() if not gradient.asnumpy().any()]
    assert idle, "nothing behind a zero convolution learns in the first step"
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    for _ in range(3):
        trainer.step(4)
        after = gradients(net, x)
    assert [name for name, gradient in after.items() if not gradient.asnumpy().any()] == []


def deviation_error(weight, expected):
    """Standard deviation's distance from what is expected, in its own standard errors."""
    error = expected / np.sqrt(2 * weight.size)
    return abs(weight.std() - expected) / error


@pytest.mark.parametrize("name", [THIN, "cifar_attention56"])
def test_initial_weights_have_the_variance_of_their_activation(name):
    net = get_model(name)
    net.initialize(mx.init.Zero())
    before_sigmoid = {head.conv2 for head in blocks(net, MaskHead)} | {net.output}
    layers = blocks(net, (nn.Conv2D, nn.Dense))
    assert before_sigmoid < set(layers)
    for layer in layers:
        weight = layer.weight.data().asnumpy().astype("float64")
        fan_in = weight[0].size
        gain = 1 if layer in before_sigmoid else 2
        assert deviation_error(weight, np.sqrt(gain / fan_in)) < 5, layer.name
        assert abs(weight.mean()) < 5 * np.sqrt(gain / fan_in / weight.size), layer.name


def test_initial_norms_are_the_standard_ones():
    net = narrow()
    for norm in blocks(net, nn.BatchNorm):
        assert (norm.gamma.data() == 1).asnumpy().all()
        assert (norm.running_var.data() == 1).asnumpy().all()
        assert not norm.beta.data().asnumpy().any()
        assert not norm.running_mean.data().asnumpy().any()
    assert not net.output.bias.data().asnumpy().any()


def test_the_initializer_is_part_of_the_network():
    weights = []
    for default in (mx.init.Uniform(), mx.init.Zero(), mx.init.Normal(3)):
        mx.random.seed(0)
        net = get_model(THIN, **NARROW)
        net.initialize(default)
        weights.append([p.data() for p in net.collect_params().values()])
    for plain, *others in zip(*weights):
        for other in others:
            assert_same(other, plain)


# The same function, however it is run


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
    # One behind the stem, one a module behind its product, 2 + 1 skips, 3 + 2 + 1 upsamplings.
    assert blocked == plain + 1 + 3 + 3 + 6


# Files


def test_saved_parameters_give_the_same_network(tmp_path):
    net = narrow()
    shake(net)
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    other = get_model(THIN, **NARROW)
    other.load_parameters(path)
    x = pictures()
    assert_same(other(x), net(x))


@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")
@pytest.mark.parametrize(
    "name, size", [(THIN, (32, 32)), (THIN, (40, 64)), ("attention56", (64, 64))]
)
def test_an_exported_network_gives_the_same(name, size, tmp_path):
    net = get_model(name)
    net.initialize()
    if name == THIN:
        shake(net)
    net.hybridize()
    x = pictures(*size)
    y = net(x)
    net.export(str(tmp_path / "net"), epoch=7)
    loaded = gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0007.params")
    )
    assert_close(loaded(x), y)


# Masks


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


# Normalisation


class OtherNorm(nn.BatchNorm):
    pass


def norms_of(spec):
    """Three a unit, two a mask head, the stem's and the last."""
    units = sum(spec.units_before) + sum(spec.units_after)
    heads = 0
    for count, depth in zip(spec.modules, spec.mask_depths):
        units += count * (2 * spec.p + spec.t + 2 * spec.r * depth + depth - 1)
        heads += count
    return 3 * units + 2 * heads + 2


@pytest.mark.parametrize("name", [THIN, "cifar_attention56", "attention92", "attention452"])
def test_every_normalisation_is_of_the_given_class_with_its_arguments(name):
    kwargs = {"epsilon": 0.01, "momentum": 0.5, "scale": False}
    net = get_model(name, norm_layer=OtherNorm, norm_kwargs=kwargs)
    norms = blocks(net, nn.BatchNorm)
    assert len(norms) == norms_of(net.spec)
    for norm in norms:
        assert type(norm) is OtherNorm
        assert (norm._kwargs["eps"], norm._kwargs["momentum"]) == (0.01, 0.5)
        assert norm.gamma.grad_req == "null"
    graph = net(mx.sym.var("data")).tojson()
    assert graph.count('"op": "BatchNorm"') == len(norms)
    assert kwargs == {"epsilon": 0.01, "momentum": 0.5, "scale": False}


def test_a_normalisation_without_scale_leaves_only_shifts_to_learn():
    net = narrow(norm_kwargs={"scale": False})
    found = gradients(net, pictures(count=4))
    assert not [name for name in found if name.endswith("gamma")]
    assert len([name for name in found if name.endswith("beta")]) == norms_of(net.spec)


def test_the_arguments_change_the_outputs():
    x = pictures()
    plain = narrow()
    state = [p.data() for p in plain.collect_params().values()]
    other = narrow(norm_kwargs={"epsilon": 1.0})
    for parameter, value in zip(other.collect_params().values(), state):
        parameter.set_data(value)
    assert np.abs((other(x) - plain(x)).asnumpy()).max() > 1e-3


def test_synchronised_normalisation_is_batch_normalisation_on_one_device():
    kwargs = {"num_devices": 1}
    net = narrow(norm_layer=gluon.contrib.nn.SyncBatchNorm, norm_kwargs=kwargs)
    plain = narrow()
    for parameter, value in zip(plain.collect_params().values(), net.collect_params().values()):
        parameter.set_data(value.data())
    x = pictures(count=4)
    with autograd.train_mode():
        assert_close(net(x), plain(x), 1e-4)
    found = gradients(net, x)
    assert [name for name, gradient in found.items() if not gradient.asnumpy().any()] == []
    net.hybridize()
    assert net(x).shape == (4, 10)


def test_a_normalisation_without_statistics_is_taken():
    net = narrow(norm_layer=nn.GroupNorm, norm_kwargs={"num_groups": 2})
    assert len(blocks(net, nn.GroupNorm)) == norms_of(net.spec)
    found = gradients(net, pictures())
    assert [name for name, gradient in found.items() if not gradient.asnumpy().any()] == []
