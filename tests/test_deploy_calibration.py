"""int8's ranges, against their definition and against MXNet's own operator: made-up numbers."""

import numpy as np
import pytest

from gluon_ran.deploy import calibration
from gluon_ran.deploy.calibration import entropy_losses, histograms, output_range

import mxnet as mx
from mxnet.contrib.quantization import _LayerHistogramCollector


def loss_by_definition(counts, half, levels):
    """Clip, merge, spread, and compare: bin by bin."""
    middle = len(counts) // 2
    start, stop = middle - half, middle + half + 1
    inside = counts[start:stop].astype(float)
    if not inside.sum():
        return np.inf
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[stop:].sum()
    width, spread = len(inside) // levels, np.zeros(len(inside))
    for step in range(levels):
        place = slice(step * width, (step + 1) * width if step + 1 < levels else None)
        filled = clipped[place] > 0
        if filled.any():
            spread[place] = np.where(filled, max(inside[place].sum() / filled.sum(), 1e-4), 0)
    there = clipped > 0
    p, q = clipped[there] / clipped.sum(), spread[there] / inside.sum()
    return (p * np.log(p / q)).sum()


@pytest.mark.parametrize("kind", ["dense", "with gaps", "far from zero", "one side"])
@pytest.mark.parametrize("levels", [7, 15])
def test_losses_are_those_of_the_definition(kind, levels):
    rng = np.random.default_rng(levels)
    counts = rng.integers(1, 1000, 81)
    if kind == "with gaps":
        counts[rng.random(81) < 0.6] = 0
    elif kind == "far from zero":
        counts[12:] = 0
    elif kind == "one side":
        counts[:40] = 0
    bins, losses = entropy_losses(counts, levels)
    assert bins.tolist() == list(range(levels // 2, 41))
    expected = [loss_by_definition(counts, half, levels) for half in bins]
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)
    assert np.isinf(losses).any() == (kind == "far from zero")


NUMBERS = {
    "normal": lambda rng: rng.normal(size=100_000),
    "laplace": lambda rng: rng.laplace(size=100_000),
    "off zero": lambda rng: rng.normal(1, 0.3, size=100_000),
    "heavy tails": lambda rng: rng.standard_t(3, size=100_000),
    "never negative": lambda rng: np.maximum(rng.normal(size=100_000), 0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_ranges_lose_no_more_than_those_of_mxnet(name):
    """Its operator smooths empty bins, ours does not: so they may choose neighbours."""
    numbers = NUMBERS[name](np.random.default_rng(0)).astype(np.float32)
    least, greatest = numbers.min(), np.abs(numbers).max()
    counts, edges = np.histogram(numbers, 2001, (-greatest, greatest))
    low, high = output_range((counts, edges, least, numbers.max(), greatest))
    levels = 511 if least >= 0 else 255
    theirs, loss = mx.nd.contrib.calibrate_entropy(
        mx.nd.array(counts), mx.nd.array(edges), num_quantized_bins=levels
    )
    bins, losses = entropy_losses(counts, levels)
    ends = edges[2001 // 2 + 1 + bins]
    place = np.abs(ends - theirs.asscalar()).argmin()
    assert ends[place] == pytest.approx(theirs.asscalar())
    assert losses.min() == pytest.approx(losses[place], rel=0.1)
    assert losses.min() == pytest.approx(loss.asscalar(), rel=0.1)
    assert high == pytest.approx(ends[losses.argmin()])
    assert low == (0.0 if least >= 0 else -high)


def test_layers_that_give_zero_alone_have_a_range():
    counts, edges = np.histogram(np.zeros(10), 1001, (-0.5, 0.5))
    low, high = output_range((counts, edges, 0.0, 0.0, 0.0))
    assert low == 0 and 0 < high < 0.5


def test_long_histograms_are_looked_at_in_parts(monkeypatch):
    counts = np.random.default_rng(0).integers(0, 50, 1001)
    whole = entropy_losses(counts, 15)
    monkeypatch.setattr(calibration, "_BLOCK", 37)
    for one, other in zip(whole, entropy_losses(counts, 15)):
        assert np.array_equal(one, other)


def test_histograms_count_what_the_layers_give():
    data = mx.sym.var("data")
    symbol = mx.sym.tanh(mx.sym.broadcast_mul(data, mx.sym.var("scale"), name="scaled"), name="out")
    pictures = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)
    scale = np.full((1, 3, 1, 1), 2, np.float32)
    collector = _LayerHistogramCollector(51, ["scaled_output", "out_output"])
    found = histograms(symbol, {"scale": mx.nd.array(scale)}, {}, pictures, collector)
    # Batches of 32: MXNet fills the last one up with the first pictures.
    seen = np.concatenate([pictures, pictures[:24]])
    for name, values in (("scaled_output", seen * scale), ("out_output", np.tanh(seen * scale))):
        counts, _, least, most, magnitude = found[name]
        assert counts.sum() == values.size
        np.testing.assert_allclose([least, most], [values.min(), values.max()], rtol=1e-6)
        assert magnitude >= np.abs(values).max() * (1 - 1e-6)


def tanh_histogram(pictures):
    symbol = mx.sym.tanh(mx.sym.var("data"), name="out")
    collector = _LayerHistogramCollector(51, ["out_output"])
    return histograms(symbol, {}, {}, pictures, collector)["out_output"]


def test_a_layer_may_be_silent_at_first():
    pictures = np.zeros((64, 3, 4, 4), np.float32)
    assert tanh_histogram(pictures)[-1] == 0
    pictures[32:] = np.random.default_rng(0).normal(size=(32, 3, 4, 4))
    counts, _, least, most, _ = tanh_histogram(pictures)
    assert counts.sum() == pictures[32:].size
    np.testing.assert_allclose([least, most], np.tanh([pictures.min(), pictures.max()]), rtol=1e-6)


def test_outputs_that_are_no_numbers_are_an_error():
    pictures = np.full((2, 3, 4, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="outputs of layer out_output: .*finite"):
        tanh_histogram(pictures)
