from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import small

from gluon_ran.models.attention import (
    CHANNEL_EPSILON,
    SPATIAL_EPSILON,
    AttentionModule,
    MaskBranch,
    MaskHead,
)
from gluon_ran.models.spec import ATTENTIONS
from gluon_ran.models.units import Norm, PreActivationUnit
from gluon_ran.models.upsampling import Plane, Trace

import mxnet as mx
from mxnet import autograd, nd

CHANNELS = 8


def parts(size, method="auto", blocked=False):
    """What a module is made from, for planes of `size` that are the picture itself."""
    unit = partial(PreActivationUnit, CHANNELS, CHANNELS, 1, Norm())
    return unit, Plane(CHANNELS, 1, method, Trace(size, blocked))


def module_of(depth, p=1, t=2, r=1, size=(16, 24), method="auto", blocked=False, **changes):
    unit, plane = parts(size, method, blocked)
    spec = replace(small.SPEC, p=p, t=t, r=r, **changes)
    head = partial(MaskHead, norm=Norm(), attention=spec.attention)
    module = AttentionModule(spec, depth, plane, unit, head)
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


def mask_reference(branch, x, adds_features=False):
    """The paper's soft mask branch before its head, by a stack of the sizes and skips."""
    sizes, skips, ups = [], [], []
    while branch is not None:
        sizes.append(x.shape[2:])
        x = nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
        x = units_reference(branch.down, x)
        ups.append(branch.up)
        if branch.inner is not None:
            skips.append(unit_reference(branch.skip, x) + (x if adds_features else 0))
        branch = branch.inner
    while ups:
        x = units_reference(ups.pop(), x)
        height, width = sizes.pop()
        x = nd.contrib.BilinearResize2D(x, height=height, width=width)
        if skips:
            x = x + skips.pop()
    return x


def attend(x, attention):
    """The paper's f1, f2 and f3 in NumPy, in float64."""
    x = x.astype(np.float64)
    if attention == "channel":
        return x / np.sqrt((x**2).sum(axis=1, keepdims=True) + CHANNEL_EPSILON)
    if attention == "spatial":
        deviation = np.sqrt(x.var(axis=(2, 3), keepdims=True) + SPATIAL_EPSILON)
        x = (x - x.mean(axis=(2, 3), keepdims=True)) / deviation
    return 1 / (1 + np.exp(-x))


def head_reference(head, x, attention="mixed"):
    x = convolve(head.conv1, norm_relu(head.norm1, x))
    x = convolve(head.conv2, norm_relu(head.norm2, x))
    return nd.array(attend(x.asnumpy(), attention))


def module_reference(module, x, attention="mixed", learning="residual", mask_features=False):
    x = units_reference(module.pre, x)
    trunk = units_reference(module.trunk, x)
    if isinstance(module.mask, MaskBranch):
        mask = mask_reference(module.mask, x, mask_features)
        mask = mask + trunk if mask_features else mask
    else:
        mask = units_reference(module.mask, x)
    mask = head_reference(module.head, mask, attention)
    return units_reference(module.post, (mask + (learning == "residual")) * trunk)


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


CHANGES = [
    *({"attention": attention} for attention in ATTENTIONS),
    *({"attention": attention, "learning": "naive"} for attention in ATTENTIONS),
    {"mask": "local_conv"},
    {"mask_features": True},
    {"mask_features": True, "learning": "naive", "r": 2},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_module_is_the_formula_of_its_fields(depth, changes):
    module = module_of(depth, **changes)
    x = pictures()
    shake(module, x)
    formula = {k: v for k, v in changes.items() if k in ("attention", "learning", "mask_features")}
    expected = module_reference(module, x, **formula)
    assert_close(module(x), expected)
    module.hybridize()
    assert_close(module(x), expected)


@pytest.mark.parametrize("learning", ["residual", "naive"])
def test_an_open_mask_doubles_the_trunk_or_leaves_it(learning):
    module = module_of(1, learning=learning, p=0)
    x = pictures()
    module(x)
    module.head.norm2.beta.set_data(nd.ones(CHANNELS) * 100)
    module.head.conv2.weight.set_data(nd.ones((CHANNELS, CHANNELS, 1, 1)))
    trunk = units_reference(module.trunk, x)
    assert_close(module(x), trunk * (2 if learning == "residual" else 1))


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_local_convolutions_are_as_many_units_at_full_resolution(depth):
    local, pooled = (module_of(depth, r=2, mask=mask) for mask in ("local_conv", "encoder_decoder"))
    assert units_in(local.mask) == units_in(pooled.mask)
    graph = local.mask(mx.sym.var("data")).get_internals()
    assert not any("pool" in name or "fullyconnected" in name for name in graph.list_outputs())


def gradients_of(function, x, weights):
    x = nd.array(x)
    x.attach_grad()
    with autograd.record():
        loss = (function(x) * weights).sum()
    loss.backward()
    return x.grad.asnumpy()


def numeric_gradients(function, x, weights, step=1e-5):
    gradients = np.zeros_like(x, dtype=np.float64)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.astype(np.float64)
            moved[index] += sign * step
            ends.append((function(moved) * weights).sum())
        gradients[index] = (ends[0] - ends[1]) / (2 * step)
    return gradients


# Naive learning is in the last one; its formula with each attention is held above.
@pytest.mark.parametrize(
    "changes",
    [c for c in CHANGES if c.get("attention") != "spatial" and len(c) != 2],
    ids=str,
)
def test_the_gradients_of_a_module_are_the_numeric_ones(changes):
    """In float64, along a random direction of the input and of each parameter, while training.

    MXNet's InstanceNorm has no float64; the gradient of spatial attention is held on its own.
    """
    module = module_of(2, size=(8, 12), method="bilinear", **changes)
    x = pictures((8, 12)).astype("float64")
    module.cast("float64")
    module(x)
    weights = nd.random.normal(shape=x.shape, dtype="float64")

    def loss():
        with autograd.train_mode():
            return (module(x) * weights).sum()

    x.attach_grad()
    with autograd.record():
        value = loss()
    value.backward()
    trained = [p for p in module.collect_params().values() if p.grad_req != "null"]
    assert len(trained) > 50
    step = 1e-6
    for array in [x, *(p.data() for p in trained)]:
        direction, kept = nd.random.normal(shape=array.shape, dtype="float64"), array.copy()
        ends = []
        for sign in (1, -1):
            array[:] = kept + sign * step * direction
            ends.append(loss().asscalar())
        array[:] = kept
        numeric = (ends[0] - ends[1]) / (2 * step)
        exact = (array.grad * direction).sum().asscalar()
        scale = array.grad.norm().asscalar() * direction.norm().asscalar()
        assert abs(numeric - exact) < 1e-4 * scale + 1e-6


def normalised(attention, portable=False):
    """What a head does behind its convolutions."""
    plane = Plane(4, 1, "auto", Trace((3, 3)))
    plane.trace.portable = portable
    return partial(MaskHead(plane, Norm(), attention)._attend, nd)


@pytest.mark.parametrize("scale", [0, 1e-4, 1])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_portable_head_gives_the_same_masks(attention, scale):
    x = scale * nd.random.normal(shape=(2, 4, 3, 3))
    assert_close(normalised(attention, portable=True)(x), normalised(attention)(x))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_gradients_of_each_attention_are_the_numeric_ones(attention):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    weights = rng.normal(size=x.shape).astype(np.float32)
    actual = gradients_of(normalised(attention), x, nd.array(weights))
    expected = numeric_gradients(partial(attend, attention=attention), x, weights)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("x", [np.zeros, np.ones], ids=["zeros", "constant"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_nothing_to_divide_by_gives_finite_masks_and_gradients(attention, x):
    x = x((2, 4, 3, 3), np.float32)
    weights = nd.random.normal(shape=x.shape)
    function = normalised(attention)
    assert np.isfinite(function(nd.array(x)).asnumpy()).all()
    assert np.isfinite(gradients_of(function, x, weights)).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_mask_branch_ends_in_its_own_units_and_not_in_its_input(depth):
    unit, plane = parts((16, 24))
    branch = MaskBranch(small.SPEC, depth, unit, plane)
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
    head = MaskHead(parts((16, 24))[1], Norm())
    head.initialize()
    x = pictures()
    shake(head, x)
    mask = head(x)
    assert_close(mask, head_reference(head, x))
    assert 0 < mask.min().asscalar() < mask.max().asscalar() < 1


def test_the_masks_are_named_in_the_graph():
    head = MaskHead(parts((16, 24))[1], Norm())
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


@pytest.mark.parametrize(
    "depth, changes",
    [(1, {}), (2, {}), (3, {}), (0, {})] + [(2, changes) for changes in CHANGES[1:]],
    ids=str,
)
def test_hybridized_and_blocked_give_the_same_values_and_gradients(depth, changes):
    module = module_of(depth, **changes)
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
