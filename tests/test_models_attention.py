from functools import partial

import numpy as np
import pytest

from gluon_ran.models.attention import AttentionModule, MaskBranch, MaskHead
from gluon_ran.models.units import Norm, PreActivationUnit
from gluon_ran.models.upsampling import Plane, Trace

import mxnet as mx
from mxnet import autograd, nd

CHANNELS = 8


def parts(size, method="auto", blocked=False):
    """What a module is made from, for planes of `size` that are the picture itself."""
    unit = partial(PreActivationUnit, CHANNELS, CHANNELS, 1, Norm())
    return unit, Plane(CHANNELS, 1, method, Trace(size, blocked))


def module_of(depth, p=1, t=2, r=1, size=(16, 24), **kwargs):
    unit, plane = parts(size, **kwargs)
    module = AttentionModule(plane, depth, p, t, r, unit, Norm())
    module.initialize()
    return module


def pictures(size=(16, 24)):
    return nd.random.uniform(-2, 2, (2, CHANNELS) + size)


def shake(block, x):
    """Random scales, shifts and running statistics, so that no normalisation is the identity."""
    block(x)  # The normalisations learn their number of channels.
    for name, parameter in block.collect_params().items():
        if not name.endswith("weight"):
            parameter.set_data(nd.random.uniform(0.5, 1.5, parameter.shape))


def norm_relu(layer, x):
    gamma, beta, mean, variance = (
        nd.reshape(parameter.data(), (1, -1, 1, 1))
        for parameter in (layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    )
    return nd.maximum((x - mean) / nd.sqrt(variance + 1e-5) * gamma + beta, 0)


def convolve(layer, x):
    weight = layer.weight.data()
    channels, _, size, _ = weight.shape
    return nd.Convolution(
        x,
        weight,
        kernel=(size, size),
        pad=(size // 2, size // 2),
        num_filter=channels,
        no_bias=True,
    )


def unit_reference(unit, x):
    y = convolve(unit.conv1, norm_relu(unit.norm1, x))
    y = convolve(unit.conv2, norm_relu(unit.norm2, y))
    return x + convolve(unit.conv3, norm_relu(unit.norm3, y))


def units_reference(units, x):
    for unit in units:
        x = unit_reference(unit, x)
    return x


def mask_reference(branch, x):
    """The paper's soft mask branch before its head, by a stack of the sizes and skips."""
    sizes, skips, ups = [], [], []
    while branch is not None:
        sizes.append(x.shape[2:])
        x = nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
        x = units_reference(branch.down, x)
        ups.append(branch.up)
        if branch.inner is not None:
            skips.append(unit_reference(branch.skip, x))
        branch = branch.inner
    while ups:
        x = units_reference(ups.pop(), x)
        height, width = sizes.pop()
        x = nd.contrib.BilinearResize2D(x, height=height, width=width)
        if skips:
            x = x + skips.pop()
    return x


def head_reference(head, x):
    x = convolve(head.conv1, norm_relu(head.norm1, x))
    x = convolve(head.conv2, norm_relu(head.norm2, x))
    return 1 / (1 + nd.exp(-x))


def module_reference(module, x):
    x = units_reference(module.pre, x)
    mask = head_reference(module.head, mask_reference(module.mask, x))
    return units_reference(module.post, (1 + mask) * units_reference(module.trunk, x))


def assert_close(actual, expected, tolerance=2e-5):
    actual, expected = actual.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("method", ["auto", "bilinear"])
@pytest.mark.parametrize("p, t, r", [(1, 2, 1), (2, 3, 2), (0, 1, 1)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_module_is_the_papers_formula(depth, p, t, r, method):
    module = module_of(depth, p, t, r, method=method)
    x = pictures()
    shake(module, x)
    expected = module_reference(module, x)
    assert_close(module(x), expected)
    module.hybridize()
    assert_close(module(x), expected)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_mask_branch_ends_in_its_own_units_and_not_in_its_input(depth):
    unit, plane = parts((16, 24))
    branch = MaskBranch(depth, 1, unit, plane)
    branch.initialize()
    x = pictures()
    shake(branch, x)
    assert_close(branch(x), mask_reference(branch, x))


def units_in(block):
    return isinstance(block, PreActivationUnit) + sum(map(units_in, block._children.values()))


@pytest.mark.parametrize("p, t, r", [(1, 2, 1), (2, 4, 3)])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_units_of_each_branch(depth, p, t, r):
    module = module_of(depth, p, t, r)
    assert [units_in(block) for block in (module.pre, module.trunk, module.post)] == [p, t, p]
    # r at each level on the way down and up, and one skip a level but the lowest.
    assert units_in(module.mask) == 2 * r * depth + depth - 1


def test_a_mask_lies_between_0_and_1():
    head = MaskHead(CHANNELS, Norm())
    head.initialize()
    x = pictures()
    shake(head, x)
    mask = head(x)
    assert_close(mask, head_reference(head, x))
    assert 0 < mask.min().asscalar() < mask.max().asscalar() < 1


def test_the_masks_are_named_in_the_graph():
    head = MaskHead(CHANNELS, Norm())
    (output,) = head(mx.sym.var("data")).list_outputs()
    assert output == f"{head.prefix}mask_output"


def outputs_and_gradients(module, x):
    x.attach_grad()
    with autograd.record():
        y = module(x)
        loss = (y * nd.arange(y.size).reshape(y.shape) / y.size).sum()
    loss.backward()
    trained = (q for q in module.collect_params().values() if q.grad_req != "null")
    return [y, x.grad.copy()] + [q.grad().copy() for q in trained]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_hybridized_and_blocked_give_the_same_values_and_gradients(depth):
    module = module_of(depth)
    x = pictures()
    module(x)
    plain = outputs_and_gradients(module, x)
    module.hybridize()
    hybridized = outputs_and_gradients(module, x)
    module.hybridize(False)
    module.blocked._trace.blocked = True
    blocked = outputs_and_gradients(module, x)
    for expected, *others in zip(plain, hybridized, blocked):
        for actual in others:
            # Sums over a batch normalisation's gradient cancel.
            assert_close(actual, expected, 1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_parameter_gets_a_gradient(depth):
    module = module_of(depth)
    x = pictures()
    module(x)
    gradients = outputs_and_gradients(module, x)
    units = 1 + 2 + 1 + 2 * depth + depth - 1
    assert len(gradients) == 2 + 9 * units + 6
    assert all(gradient.asnumpy().any() for gradient in gradients)
