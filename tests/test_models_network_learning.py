import copy

import numpy as np
import pytest
from networks import (
    NARROW,
    THIN,
    assert_close,
    assert_same,
    blocks,
    gradients,
    narrow,
    pictures,
    shake,
)

from gluon_ran.models import get_model
from gluon_ran.models.attention import MaskHead
from gluon_ran.models.units import PreActivationUnit

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn


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


def statistics(block):
    return [p.data().copy() for n, p in block.collect_params().items() if "running" in n]


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("stages", [0, 1, 3])
def test_frozen_stages_keep_weights_and_statistics(stages, hybridize):
    net = narrow()
    shake(net)
    net.freeze(stages)
    if hybridize:
        net.hybridize()
    kept = [net.features.stem, *net.features.stages[:stages]]
    free = list(net.features.stages[stages:])
    before = [p.data().copy() for part in kept for p in part.collect_params().values()]
    moving = [statistics(part) for part in free]
    x = pictures(count=4)
    found = gradients(net, x)
    gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}).step(4)
    after = [p.data() for part in kept for p in part.collect_params().values()]
    for old, new in zip(before, after):
        assert_same(new, old)
    for part, old in zip(free, moving):
        assert all((a != b).asnumpy().any() for a, b in zip(statistics(part), old))
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert len(found) == len(trained) > 0
    assert not {p.name for p in trained} & {name for part in kept for name in part.collect_params()}


def test_frozen_norms_normalise_by_their_statistics_in_training_too():
    net = narrow()
    shake(net)
    net.freeze(0)
    x = pictures(count=4)
    expected = net.features.stem(x)
    with autograd.train_mode():
        assert_same(net.features.stem(x), expected)
        net.freeze(None)
        assert (net.features.stem(x) != expected).asnumpy().any()


def test_freezing_again_frees_what_is_no_longer_named():
    net = narrow()
    everything = len(gradients(net, pictures(count=4)))
    net.freeze(3)
    assert len(gradients(net, pictures(count=4))) == 4  # the last BatchNorm and the classifier
    net.freeze(None)
    assert len(gradients(net, pictures(count=4))) == everything
    assert not any(p.grad_req != "null" for n, p in net.collect_params().items() if "running" in n)


def test_freeing_leaves_what_someone_else_had_set():
    net = narrow(norm_kwargs={"use_global_stats": True})
    first, last = (net.features.stages[index].collect_params() for index in (0, 2))
    first.setattr("grad_req", "add")
    last.setattr("grad_req", "null")
    before = {name: p.grad_req for name, p in net.collect_params().items()}
    for stages in (2, 1, None):
        net.freeze(stages)
        assert all(norm._kwargs["use_global_stats"] for norm in blocks(net, nn.BatchNorm))
    assert {name: p.grad_req for name, p in net.collect_params().items()} == before


def test_a_copy_of_a_frozen_network_is_frozen_on_its_own():
    net = narrow()
    trained = {name for name, p in net._collect_params_with_prefix().items()
               if p.grad_req == "write"}  # fmt: skip
    net.freeze(1)
    other = copy.deepcopy(net)
    other.freeze(None)

    def writing(model):
        parameters = model._collect_params_with_prefix()
        return {name for name, p in parameters.items() if p.grad_req == "write"}

    assert writing(other) == trained
    assert len(writing(net)) < len(trained)
    net.freeze(None)
    assert writing(net) == trained


@pytest.mark.parametrize("stages", [-1, 4])
def test_stages_that_are_not_there_are_refused(stages):
    with pytest.raises(ValueError, match=f"has 3 stages.* not {stages}"):
        narrow().freeze(stages)


def test_gradients_in_double_precision_do_not_depend_on_how_the_network_is_run():
    """In float64 hardly an activation crosses a kink by rounding, so each gradient can be held.

    Not with static_alloc: see _runtime on MXNET_EXEC_INPLACE_GRAD_SUM_CAP.
    """
    net = narrow(upsampling="bilinear")
    net.cast("float64")
    x = pictures(count=4).astype("float64")
    plain = gradients(net, x)
    net.hybridize()
    for name, gradient in gradients(net, x).items():
        expected = plain[name].asnumpy()
        error = np.abs(gradient.asnumpy() - expected).max()
        assert error < 1e-9 * max(np.abs(expected).max(), 1), name
