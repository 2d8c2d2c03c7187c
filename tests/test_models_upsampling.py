import math

import numpy as np
import pytest

from gluon_ran.models import get_model
from gluon_ran.models.upsampling import (
    MATRIX_PIXELS,
    Blocked,
    Trace,
    Upsample,
    interpolation_matrix,
)

import mxnet as mx
from mxnet import autograd, gluon, nd

METHODS = ["matrix", "separable", "auto", "bilinear"]
EXACT_METHODS = METHODS[:3]
# Up to 64 pixels "auto" is one product, beyond that two.
PLANES = [(1, 1), (1, 3), (3, 1), (2, 2), (4, 5), (8, 8), (7, 10), (10, 7)]
CHANNELS = 3


def corners(i, source, target):
    """The two source points beside target point i, and the weight of the second one."""
    position = i * (source - 1) / (target - 1)
    low = math.floor(position)
    return low, min(low + 1, source - 1), position - low


def taps(height, width):
    """(output row, output column, input row, input column, weight) of the textbook formula."""
    for i in range(2 * height):
        top, bottom, down = corners(i, height, 2 * height)
        for j in range(2 * width):
            left, right, across = corners(j, width, 2 * width)
            yield i, j, top, left, (1 - down) * (1 - across)
            yield i, j, top, right, (1 - down) * across
            yield i, j, bottom, left, down * (1 - across)
            yield i, j, bottom, right, down * across


def textbook(x):
    y = np.zeros(x.shape[:2] + (2 * x.shape[2], 2 * x.shape[3]))
    for i, j, row, column, weight in taps(*x.shape[2:]):
        y[:, :, i, j] += weight * x[:, :, row, column]
    return y


def textbook_gradient(head):
    height, width = head.shape[2] // 2, head.shape[3] // 2
    gradient = np.zeros(head.shape[:2] + (height, width))
    for i, j, row, column, weight in taps(height, width):
        gradient[:, :, row, column] += weight * head[:, :, i, j]
    return gradient


def upsample(method, plane, blocked=False, hybridize=False):
    block = Upsample(method, CHANNELS, 1, Trace((2 * plane[0], 2 * plane[1]), blocked))
    if hybridize:
        block.hybridize()
    return block


def problem(plane):
    """A batch of planes, and what the gradient of the output shall be."""
    height, width = plane
    x = nd.random.uniform(-1, 1, (2, CHANNELS, height, width))
    return x, nd.random.uniform(-1, 1, (2, CHANNELS, 2 * height, 2 * width))


def value_and_gradient(block, x, head):
    x.attach_grad()
    with autograd.record():
        y = block(x)
    y.backward(head)
    return y.asnumpy(), x.grad.asnumpy()


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_those_of_the_textbook(method, plane, hybridize):
    x, head = problem(plane)
    y, gradient = value_and_gradient(upsample(method, plane, hybridize=hybridize), x, head)
    assert y.shape == head.shape
    np.testing.assert_allclose(y, textbook(x.asnumpy()), atol=2e-6)
    np.testing.assert_allclose(gradient, textbook_gradient(head.asnumpy()), atol=2e-6)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_the_transposed_operator(method, plane):
    x, head = problem(plane)
    y, gradient = (
        a.astype("float64") for a in value_and_gradient(upsample(method, plane), x, head)
    )
    forward = (y * head.asnumpy()).sum()
    assert forward == pytest.approx((x.asnumpy() * gradient).sum(), abs=1e-4)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("method", EXACT_METHODS)
def test_corners_and_constants_are_kept(method, plane):
    x, _ = problem(plane)
    y = upsample(method, plane)(x).asnumpy()
    ends = np.ix_(range(2), range(CHANNELS), [0, -1], [0, -1])
    np.testing.assert_allclose(y[ends], x.asnumpy()[ends], atol=1e-7)
    np.testing.assert_allclose(upsample(method, plane)(nd.ones_like(x)).asnumpy(), 1, atol=1e-6)


@pytest.mark.parametrize("plane", [(3, 4), (10, 7)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_ramp_stays_a_ramp(method, plane):
    def ramp(height, width):
        i, j = np.mgrid[:height, :width]
        return 2 * i / (height - 1) - 3 * j / (width - 1)

    x = nd.from_numpy(np.tile(ramp(*plane).astype("float32"), (1, CHANNELS, 1, 1)))
    y = upsample(method, plane)(x).asnumpy()
    expected = ramp(2 * plane[0], 2 * plane[1])
    np.testing.assert_allclose(y, np.broadcast_to(expected, y.shape), atol=2e-6)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_the_blocked_graph_gives_the_same(method, plane):
    x, head = problem(plane)
    plain = value_and_gradient(upsample(method, plane), x, head)
    for hybridize in (False, True):
        blocked = value_and_gradient(upsample(method, plane, True, hybridize), x, head)
        np.testing.assert_allclose(blocked[0], plain[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(blocked[1], plain[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("plane", PLANES, ids=str)
def test_auto_is_one_product_up_to_so_many_pixels_and_two_beyond(plane):
    x, _ = problem(plane)
    chosen = "matrix" if plane[0] * plane[1] <= MATRIX_PIXELS else "separable"
    with_auto, with_chosen = (upsample(method, plane)(x) for method in ("auto", chosen))
    assert (with_auto == with_chosen).asnumpy().all()
    nodes = [upsample(method, plane)(mx.sym.var("data")).tojson() for method in ("auto", chosen)]
    assert [graph.count("Convolution") for graph in nodes] == [chosen == "separable"] * 2


@pytest.mark.parametrize("source, target", [(1, 2), (2, 4), (3, 6), (7, 14), (5, 9), (28, 56)])
def test_the_matrix_holds_the_textbook_weights(source, target):
    expected = np.zeros((target, source))
    for i in range(target):
        low, high, weight = corners(i, source, target)
        expected[i, low] += 1 - weight
        expected[i, high] += weight
    matrix = interpolation_matrix(nd, source, target)
    assert matrix.shape == (target, source)
    # Each entry is rounded once: within half a unit in the last place of 1.
    np.testing.assert_allclose(matrix.asnumpy(), expected, rtol=0, atol=6e-8)
    symbolic = interpolation_matrix(mx.sym, source, target).bind(mx.cpu(), {}).forward()[0]
    assert (symbolic == matrix).asnumpy().all()


def test_a_symbol_takes_its_plane_from_the_trace():
    trace = Trace((64, 96))
    assert trace.plane(8) == (8, 12)
    block = Upsample("auto", CHANNELS, 8, trace)
    graph = block(mx.sym.var("data"))
    _, (shape,), _ = graph.infer_shape(data=(2, CHANNELS, 4, 6))
    assert shape == (2, CHANNELS, 8, 12)


def test_blocked_layout_keeps_the_values():
    x, _ = problem((4, 5))
    assert (Blocked(CHANNELS, Trace((8, 10), blocked=True))(x) == x).asnumpy().all()


def gradients(net, x, labels):
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    with autograd.record():
        value = loss(net(x), labels).sum()
    value.backward()
    trained = (p for p in net.collect_params().values() if p.grad_req != "null")
    return [p.grad().asnumpy() for p in trained]


@pytest.mark.parametrize("method", EXACT_METHODS)
def test_training_gradients_are_the_same_bits_in_every_run(method):
    net = get_model("cifar_attention56_thin", widths=(8, 16, 32), upsampling=method)
    net.initialize()
    net.hybridize()
    x = nd.random.uniform(shape=(4, 3, 32, 32))
    labels = nd.arange(4)
    first = gradients(net, x, labels)
    for _ in range(3):
        for before, after in zip(first, gradients(net, x, labels)):
            assert before.tobytes() == after.tobytes()
