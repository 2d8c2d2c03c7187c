import numpy as np
import pytest
from networks import assert_same, narrow, pictures, shake

from gluon_ran.models import WeightsError, get_model, load_weights

import mxnet as mx
from mxnet import nd


@pytest.fixture
def trained(tmp_path):
    """A network with weights of its own, and their file."""
    net = narrow()
    shake(net)
    path = tmp_path / "net.params"
    net.save_parameters(str(path))
    return net, path


def empty(**changes):
    return get_model("cifar_attention56_thin", widths=(8, 16, 32), stem_width=8, **changes)


@pytest.mark.parametrize("initialized", [False, True])
def test_the_same_network_comes_back(trained, initialized):
    net, path = trained
    other = empty()
    if initialized:
        other.initialize()
    assert load_weights(other, path) == []
    x = pictures()
    assert_same(other(x), net(x))


def test_another_number_of_classes_keeps_all_but_the_head(trained):
    net, path = trained
    other = empty(classes=3)
    left = load_weights(other, path, new_head=True)
    assert left == ["output.weight", "output.bias"]
    x = pictures()
    assert other(x).shape == (2, 3)
    assert_same(other.features(x), net.features(x))
    assert other.output.weight.data().asnumpy().std() > 0


def test_a_head_that_fits_is_taken_over(trained):
    net, path = trained
    other = empty()
    assert load_weights(other, path, new_head=True) == []
    assert_same(other.output.weight.data(), net.output.weight.data())


def test_an_embedding_takes_all_but_the_head(trained):
    net, path = trained
    other = empty(classes=0)
    assert load_weights(other, path, new_head=True) == []
    x = pictures()
    assert_same(other(x), net.features(x))


def test_half_precision_weights_are_widened(trained, tmp_path):
    net, path = trained
    arrays = {name: array.astype("float16") for name, array in nd.load(str(path)).items()}
    nd.save(str(tmp_path / "half.params"), arrays)
    other = empty()
    load_weights(other, tmp_path / "half.params")
    assert {p.data().dtype for p in other.collect_params().values()} == {np.float32}
    np.testing.assert_allclose(
        other.output.weight.data().asnumpy(), net.output.weight.data().asnumpy(), rtol=1e-3
    )


def test_weights_go_to_the_devices_that_are_named(trained):
    other = empty()
    load_weights(other, trained[1], [mx.cpu(0), mx.cpu(1)])
    assert other.output.weight.list_ctx() == [mx.cpu(0), mx.cpu(1)]


@pytest.mark.parametrize("new_head", [False, True])
def test_another_network_is_refused_and_the_first_difference_named(trained, new_head):
    other = empty(modules=(2, 1, 1))
    with pytest.raises(WeightsError, match="lacks .* arrays, features.stages.0.2"):
        load_weights(other, trained[1], new_head=new_head)
    with pytest.raises(WeightsError, match="has .* others, features.stages"):
        load_weights(empty(modules=(0, 1, 1)), trained[1], new_head=new_head)
    wide = get_model("cifar_attention56_thin", widths=(8, 16, 64), stem_width=8)
    with pytest.raises(WeightsError, match=r"is \(.*\) there and \(.*\) here"):
        load_weights(wide, trained[1], new_head=new_head)


def test_another_head_is_refused_unless_asked_for(trained):
    with pytest.raises(WeightsError, match=r"output.weight is \(10, 32\) there and \(3, 32\) here"):
        load_weights(empty(classes=3), trained[1])


def test_a_refusal_leaves_the_network_as_it_was(trained):
    other = narrow(classes=3)
    before = {name: p.data().copy() for name, p in other.collect_params().items()}
    with pytest.raises(WeightsError):
        load_weights(other, trained[1])
    for name, parameter in other.collect_params().items():
        assert_same(parameter.data(), before[name])


def test_a_missing_file_and_one_of_another_kind_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="there are no weights at .*none.params"):
        load_weights(empty(), tmp_path / "none.params")
    (tmp_path / "text.params").write_text("no weights")
    with pytest.raises(WeightsError, match="text.params can't be read"):
        load_weights(empty(), tmp_path / "text.params")
    nd.save(str(tmp_path / "list.params"), [nd.zeros((1,))])
    with pytest.raises(WeightsError, match="holds no named arrays"):
        load_weights(empty(), tmp_path / "list.params")
