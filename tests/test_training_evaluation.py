import numpy as np
import pytest
from small import dataset, net, validation_batches

from gluon_ran.training import evaluate

import mxnet as mx
from mxnet.gluon import HybridBlock


class Scores(HybridBlock):
    """Gives its input, flattened, as scores."""

    def hybrid_forward(self, F, x):
        return F.flatten(x)


def scores_and_labels(count=23, classes=8):
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(count, classes, 1, 1)).astype(np.float32)
    return scores, rng.integers(0, classes, count)


def in_batches(scores, labels, size):
    return [(scores[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


@pytest.mark.parametrize("size", [1, 7, 23])
@pytest.mark.parametrize("devices", [1, 2])
def test_scores_equal_a_count_by_hand(size, devices):
    scores, labels = scores_and_labels()
    contexts = [mx.cpu(i) for i in range(devices)]
    result = evaluate(Scores(), in_batches(scores, labels, size), contexts)
    confusion = np.zeros((8, 8), int)
    loss = top1 = top5 = 0
    for row, label in zip(scores[:, :, 0, 0].astype(float), labels):
        order = sorted(range(8), key=lambda k: -row[k])
        confusion[label, order[0]] += 1
        top1 += order[0] == label
        top5 += label in order[:5]
        loss -= row[label] - np.log(np.exp(row).sum())
    assert result.count == 23
    assert np.array_equal(result.confusion, confusion)
    assert (result.top1, result.top5) == (top1 / 23, top5 / 23)
    assert result.loss == pytest.approx(loss / 23, rel=1e-5)


def test_per_class_accuracy_is_the_share_of_a_class_and_nan_without_pictures():
    scores = np.zeros((3, 3, 1, 1), np.float32)
    scores[[0, 1, 2], [0, 1, 1]] = 1
    result = evaluate(Scores(), [(scores, np.array([0, 0, 1]))])
    assert result.per_class[:2] == pytest.approx([0.5, 1.0])
    assert np.isnan(result.per_class[2])


def test_top5_of_few_classes_is_everything():
    scores, labels = scores_and_labels(classes=3)
    assert evaluate(Scores(), [(scores, labels)]).top5 == 1


def test_scores_that_are_no_numbers_are_no_hits():
    scores = np.full((4, 9), np.nan, np.float32)
    result = evaluate(Scores(), [(scores, np.array([0, 0, 1, 2]))])
    assert np.isnan(result.loss) and result.top5 == result.top1 == 0


def test_flip_averages_the_probabilities_of_both_mirror_images():
    model = net()
    model.initialize()
    images, labels = validation_batches()[0]
    p = mx.nd.softmax(model(mx.nd.array(images))).asnumpy()
    q = mx.nd.softmax(model(mx.nd.array(images[..., ::-1].copy()))).asnumpy()
    expected = -np.log(((p + q) / 2)[np.arange(len(labels)), labels]).mean()
    assert not np.allclose(p, q)
    assert evaluate(model, [(images, labels)], flip=True).loss == pytest.approx(expected, rel=1e-4)


def test_data_with_more_classes_than_the_network_is_refused():
    model = net()
    model.initialize()
    with pytest.raises(ValueError, match="labels from 0 to 4 do not fit a network of 3 classes"):
        evaluate(model, validation_batches(dataset(classes=5)))


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="no batches"):
        evaluate(Scores(), [])
