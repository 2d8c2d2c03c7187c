"""Networks, pictures and comparisons for the tests of the networks."""

from itertools import chain

import numpy as np

from gluon_ran.models import get_model

from mxnet import autograd, nd

THIN = "cifar_attention56_thin"
# The thin network of half to an eighth of its width, for what does not depend on it.
NARROW = {"widths": (8, 16, 32), "stem_width": 8}


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
        loss = (y * nd.cos(nd.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum()
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
