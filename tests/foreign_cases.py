"""Pictures, other implementations' scores of them and the arrays that gave these, made once."""

from functools import lru_cache

import foreign_ports
import numpy as np

from mxnet import nd

TOLERANCE = 1e-4


def pictures(size=32, count=2):
    rng = np.random.default_rng(size)
    return nd.array(rng.normal(0, 1, (count, 3, size, size)), dtype="float32")


def difference(actual, expected):
    """Greatest difference over greatest magnitude."""
    actual, expected = actual.asnumpy(), expected.asnumpy()
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@lru_cache(maxsize=None)
def haoxintong(size=32, **kwargs):
    x = pictures(size)
    return (x, *foreign_ports.haoxintong(x, **kwargs))


@lru_cache(maxsize=None)
def tengshaofeng(network="ResidualAttentionModel_92_32input", size=32):
    x = pictures(size)
    return (x, *foreign_ports.tengshaofeng(x, network))
