import numpy as np
import pytest

from gluon_ran.models.units import UNITS, InceptionUnit, Norm, PreActivationUnit, ResNeXtUnit, conv

import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

SHAPES = [(16, 16, 1), (16, 8, 1), (16, 16, 2), (16, 24, 2), (8, 16, 1)]


def unit_of(channels=16, in_channels=16, stride=1, **kwargs):
    unit = PreActivationUnit(channels, in_channels, stride, Norm(), **kwargs)
    unit.initialize()
    return unit


def pictures(*shape):
    return nd.random.uniform(-2, 2, shape)


def shake(block):
    """Random scales, shifts and running statistics, so that no normalisation is the identity."""
    for name, parameter in block.collect_params().items():
        if not name.endswith("weight"):
            parameter.set_data(nd.random.uniform(0.5, 1.5, parameter.shape))


def array(parameter):
    return parameter.data().asnumpy().astype("float64")


def normalise(layer, x, training):
    """Textbook batch normalisation in float64."""
    mean, variance = array(layer.running_mean), array(layer.running_var)
    if training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale = array(layer.gamma) / np.sqrt(variance + 1e-5)
    return (x - mean[:, None, None]) * scale[:, None, None] + array(layer.beta)[:, None, None]


def norm_relu(layer, x, training):
    return np.maximum(normalise(layer, x, training), 0)


def convolve(layer, x, stride=1, groups=1):
    """Textbook zero-padded convolution in float64, a sum over the kernel's offsets."""
    weight = array(layer.weight)
    size = weight.shape[2]
    height, width = x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    parts = zip(np.split(weight, groups), np.split(x, groups, axis=1))
    return np.concatenate(
        [
            sum(
                np.einsum(
                    "oc,nchw->nohw",
                    part[:, :, i, j],
                    planes[:, :, i : i + height : stride, j : j + width : stride],
                )
                for i in range(size)
                for j in range(size)
            )
            for part, planes in parts
        ],
        axis=1,
    )


def reference(unit, x, stride, training):
    x = x.asnumpy().astype("float64")
    y = norm_relu(unit.norm1, x, training)
    shortcut = x if unit.shortcut is None else convolve(unit.shortcut, y, stride)
    y = convolve(unit.conv1, y)
    y = convolve(unit.conv2, norm_relu(unit.norm2, y, training), stride)
    return shortcut + convolve(unit.conv3, norm_relu(unit.norm3, y, training))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels, in_channels, stride", SHAPES)
def test_a_unit_is_the_pre_activation_bottleneck(channels, in_channels, stride, training):
    unit = unit_of(channels, in_channels, stride)
    x = pictures(3, in_channels, 8, 6)
    unit(x)  # The normalisations learn their number of channels.
    shake(unit)
    expected = reference(unit, x, stride, training)
    with autograd.record(train_mode=training):
        y = unit(x)
    assert y.shape == (3, channels, 8 // stride, 6 // stride)
    np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_hybridized_is_the_same_unit():
    unit = unit_of(16, 8, 2)
    x = pictures(2, 8, 6, 8)
    y = unit(x)
    unit.hybridize()
    np.testing.assert_allclose(unit(x).asnumpy(), y.asnumpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels, in_channels, stride", SHAPES)
def test_only_a_change_of_shape_has_a_projection(channels, in_channels, stride):
    unit = unit_of(channels, in_channels, stride)
    assert (unit.shortcut is None) == (channels == in_channels and stride == 1)


def test_the_inner_width_is_a_quarter():
    unit = unit_of(64, 32, 2)
    unit(pictures(1, 32, 4, 4))
    shapes = [layer.weight.shape for layer in (unit.conv1, unit.conv2, unit.conv3, unit.shortcut)]
    assert shapes == [(16, 32, 1, 1), (16, 16, 3, 3), (64, 16, 1, 1), (64, 32, 1, 1)]


def test_a_kept_shape_is_passed_on_untouched_when_the_last_convolution_is_zero():
    unit = unit_of()
    x = pictures(2, 16, 4, 4)
    unit(x)
    shake(unit)
    unit.conv3.weight.set_data(nd.zeros_like(unit.conv3.weight.data()))
    assert (unit(x) == x).asnumpy().all()


def gradients(unit, x, head):
    with autograd.record():
        loss = (unit(x) * head).sum()
    loss.backward()
    trained = unit.collect_params().values()
    return {p.name: p.grad().asnumpy() for p in trained if p.grad_req != "null"}


def test_zero_init_starts_as_the_identity():
    unit = unit_of(zero_init=True)
    x = pictures(4, 16, 4, 4)
    assert (unit(x) == x).asnumpy().all()
    with autograd.record():
        y = unit(x)
    assert (y == x).asnumpy().all()


def test_zero_init_with_a_projection_starts_as_the_projection():
    unit = unit_of(16, 8, 2, zero_init=True)
    x = pictures(4, 8, 4, 4)
    expected = unit.shortcut(nd.relu(unit.norm1(x)))
    assert (unit(x) == expected).asnumpy().all()
    assert expected.asnumpy().any()


@pytest.mark.parametrize("channels, in_channels, stride", SHAPES)
def test_every_parameter_of_a_zero_unit_learns_after_one_step(channels, in_channels, stride):
    unit = unit_of(channels, in_channels, stride, zero_init=True)
    x = pictures(4, in_channels, 4, 4)
    head = pictures(*unit(x).shape)
    assert gradients(unit, x, head)[unit.conv3.weight.name].any()
    gluon.Trainer(unit.collect_params(), "sgd", {"learning_rate": 0.1}).step(1)
    idle = [name for name, gradient in gradients(unit, x, head).items() if not gradient.any()]
    assert idle == []


def test_every_parameter_learns_from_the_default_start():
    unit = unit_of(16, 8, 2)
    x = pictures(4, 8, 4, 4)
    found = gradients(unit, x, pictures(*unit(x).shape))
    assert len(found) == 4 + 3 * 2
    assert [name for name, gradient in found.items() if not gradient.any()] == []


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_keep_the_plane_but_for_the_stride(kernel, stride):
    layer = conv(5, kernel, stride)
    layer.initialize()
    assert layer(pictures(1, 3, 8, 12)).shape == (1, 5, 8 // stride, 12 // stride)
    assert list(layer.collect_params()) == [layer.weight.name]


@pytest.mark.parametrize("kernel, in_channels", [(1, 64), (3, 32), (7, 3)])
def test_convolutions_start_with_a_variance_of_2_over_fan_in(kernel, in_channels):
    layer = conv(256, kernel)
    layer.initialize(mx.init.Zero())
    # Until then the pass may reorder the weights, which can't be read meanwhile.
    layer(nd.zeros((1, in_channels, 8, 8))).wait_to_read()
    weight = array(layer.weight)
    expected = np.sqrt(2 / (in_channels * kernel**2))
    # A standard deviation from n draws has a relative standard error of sqrt(1 / 2n).
    assert abs(weight.std() / expected - 1) < 4 * np.sqrt(1 / (2 * weight.size))
    assert abs(weight.mean()) < 4 * expected / np.sqrt(weight.size)


def test_norm_makes_a_new_layer_with_its_arguments_each_time():
    kwargs = {"epsilon": 0.25, "momentum": 0.5}
    norm = Norm(nn.BatchNorm, kwargs)
    kwargs["epsilon"] = 1
    first, second = norm(), norm()
    assert first is not second
    for layer in (first, second):
        assert (layer._kwargs["eps"], layer._kwargs["momentum"]) == (0.25, 0.5)


def test_norm_is_batch_norm_unless_told():
    assert type(Norm()()) is nn.BatchNorm
    assert type(Norm(nn.GroupNorm, {"num_groups": 2})()) is nn.GroupNorm


def resnext_reference(unit, x, stride, training):
    x = x.asnumpy().astype("float64")
    shortcut = x
    if unit.shortcut is not None:
        shortcut = normalise(unit.shortcut[1], convolve(unit.shortcut[0], x, stride), training)
    y = norm_relu(unit.norm1, convolve(unit.conv1, x), training)
    y = norm_relu(unit.norm2, convolve(unit.conv2, y, stride, groups=32), training)
    y = normalise(unit.norm3, convolve(unit.conv3, y), training)
    return np.maximum(y + shortcut, 0)


def inception_reference(unit, x, stride, training):
    x = x.asnumpy().astype("float64")
    y = norm_relu(unit.norm1, x, training)
    shortcut = x if unit.shortcut is None else convolve(unit.shortcut, y, stride)
    joined = []
    for branch in (unit.branch1, unit.branch2, unit.branch3):
        z = y
        *chain, last = [layer for layer in branch if not isinstance(layer, nn.Activation)]
        for layer, norm in zip(chain[::2], chain[1::2]):
            z = norm_relu(norm, convolve(layer, z), training)
        joined.append(convolve(last, z, stride))
    z = norm_relu(unit.norm2, np.concatenate(joined, axis=1), training)
    return shortcut + convolve(unit.conv, z)


OTHERS = [(ResNeXtUnit, resnext_reference, 64), (InceptionUnit, inception_reference, 16)]
OTHER_SHAPES = [(1, 1, 1), (1, 2, 1), (2, 2, 2), (2, 1, 2)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("out, source, stride", OTHER_SHAPES)
@pytest.mark.parametrize("kind, formula, multiple", OTHERS)
def test_the_other_units_are_their_formulas(kind, formula, multiple, out, source, stride, training):
    unit = kind(out * multiple, source * multiple, stride, Norm())
    unit.initialize()
    x = pictures(3, source * multiple, 8, 6)
    unit(x)
    shake(unit)
    expected = formula(unit, x, stride, training)
    with autograd.record(train_mode=training):
        y = unit(x)
    assert y.shape == (3, out * multiple, 8 // stride, 6 // stride)
    np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-3, atol=1e-3)
    unit.hybridize()
    with autograd.record(train_mode=training):
        assert abs(unit(x) - y).max().asscalar() < 1e-4


def shapes_of(unit):
    unit(pictures(2, 64, 4, 4))
    return [p.shape for name, p in unit.collect_params().items() if "conv" in name]


def test_the_widths_of_a_resnext_unit():
    unit = ResNeXtUnit(128, 64, 2, Norm())
    unit.initialize()
    assert shapes_of(unit) == [(64, 64, 1, 1), (64, 2, 3, 3), (128, 64, 1, 1), (128, 64, 1, 1)]


def test_the_widths_of_an_inception_unit():
    unit = InceptionUnit(128, 64, 2, Norm())
    unit.initialize()
    assert shapes_of(unit) == [
        (16, 64, 1, 1),
        (16, 64, 1, 1),
        (16, 16, 3, 3),
        (8, 64, 1, 1),
        (16, 8, 3, 3),
        (16, 16, 3, 3),
        (128, 48, 1, 1),
        (128, 64, 1, 1),
    ]


@pytest.mark.parametrize("kind", [kind for kind in UNITS.values() if kind != PreActivationUnit])
def test_zero_init_of_the_other_units_starts_as_the_identity_and_learns(kind):
    unit = kind(64, 64, 1, Norm(), zero_init=True)
    unit.initialize()
    x = nd.relu(pictures(4, 64, 4, 4))
    assert (unit(x) == x).asnumpy().all()
    head = pictures(*x.shape)
    gradients(unit, x, head)
    gluon.Trainer(unit.collect_params(), "sgd", {"learning_rate": 0.1}).step(1)
    idle = [name for name, gradient in gradients(unit, x, head).items() if not gradient.any()]
    assert idle == []


def test_only_post_activation_units_need_no_norm_before_a_head():
    assert [kind.pre_activation for kind in UNITS.values()] == [True, False, True]
