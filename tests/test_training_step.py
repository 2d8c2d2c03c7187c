from dataclasses import replace

import numpy as np
import pytest
from small import RECIPE, net, train_batches

from gluon_ran.training import get_recipe
from gluon_ran.training.recipe import OPTIMIZERS
from gluon_ran.training.step import Stepper
from gluon_ran.training.targets import soft_targets

import mxnet as mx

FROZEN = {"norm_kwargs": {"use_global_stats": True}}


def batch(count=None):
    images, labels = train_batches()(0)[0]
    return images[:count], soft_targets(labels[:count], 3)


def weights(stepper):
    named = stepper.net._collect_params_with_prefix()
    return {n: [p.data(c).asnumpy() for c in p.list_ctx()] for n, p in named.items()}


def stepped(devices, kvstore="local", count=None, steps=3, recipe=RECIPE):
    stepper = Stepper(
        net(zero_init=True, **FROZEN), recipe, [mx.cpu(i) for i in range(devices)], kvstore
    )
    results = [stepper(*batch(count), lr=0.05) for _ in range(steps)]
    return stepper, results


@pytest.mark.parametrize(
    "devices, count, kvstore, optimizer",
    [
        *((*each, kvstore, "nag") for each in ((2, 8), (2, 7), (3, 7), (3, 2))
          for kvstore in ("local", "device")),
        (3, 7, "device", "muon"),
    ],
)  # fmt: skip
def test_several_devices_make_the_update_of_one_with_the_whole_batch(
    devices, count, kvstore, optimizer
):
    recipe = replace(RECIPE, optimizer=optimizer)
    one, expected = stepped(1, count=count, recipe=recipe)
    several, results = stepped(devices, kvstore, count, recipe=recipe)
    assert [r.loss for r in results] == pytest.approx([r.loss for r in expected], rel=1e-4)
    assert [r.hits for r in results] == [r.hits for r in expected]
    assert np.isfinite([r.loss for r in expected]).all()
    start, reference = weights(stepped(1, steps=0)[0]), weights(one)
    for name, copies in weights(several).items():
        moved = np.abs(reference[name][0] - start[name][0]).max()
        for copy in copies:
            assert np.abs(copy - reference[name][0]).max() <= 0.01 * moved + 1e-6, name


def test_each_device_keeps_the_statistics_of_its_own_pictures():
    def statistics(devices, images):
        stepper = Stepper(net(), RECIPE, [mx.cpu(i) for i in range(devices)], "local")
        stepper(images, batch(len(images))[1], lr=0.0)
        named = weights(stepper)
        return {name: named[name] for name in named if name.endswith("running_mean")}

    images = batch()[0]
    both = statistics(2, images)
    halves = [statistics(1, images[:4]), statistics(1, images[4:])]
    first = "features.stem.2.running_mean"
    for device, half in enumerate(halves):
        assert both[first][device] == pytest.approx(half[first][0], rel=1e-5)
    assert not np.allclose(*both[first])
    again = statistics(2, images)
    for name, copies in both.items():
        assert all(map(np.array_equal, copies, again[name])), name


def test_one_step_is_nesterovs_update_of_the_mean_gradient():
    recipe = get_recipe("gluon", wd=0.01, momentum=0.9, seed=3)
    stepper, _ = stepped(1, steps=0, recipe=recipe)
    before = stepper.net.output.weight.data().asnumpy()
    stepper(*batch(), lr=0.1)
    parameter = stepper.net.output.weight
    gradient = parameter.grad().asnumpy() / 8 + 0.01 * before
    expected = before - 0.1 * (gradient + 0.9 * gradient)
    assert parameter.data().asnumpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_is_the_recipes(name):
    recipe = get_recipe("gluon", optimizer=name, momentum=0.7, wd=0.3)
    optimizer = Stepper(net(), recipe, [mx.cpu()], "local").trainer.optimizer
    assert type(optimizer).__name__.lower() == name
    assert (optimizer.momentum, optimizer.wd) == (0.7, 0.3)


def test_a_step_of_muon_spares_what_is_frozen_and_what_has_no_decay():
    recipe = get_recipe("gluon", optimizer="muon", wd=0.5, no_wd=True, seed=3)
    model = net(zero_init=True)
    model.initialize()
    model.freeze(1)
    model.output.bias.set_data(mx.nd.ones(3))  # zeros have nothing to decay
    stepper = Stepper(model, recipe, [mx.cpu()], "local")
    before = weights(stepper)
    stepper(*batch(), lr=0.1)
    after = weights(stepper)
    assert np.array_equal(after["features.stem.0.weight"], before["features.stem.0.weight"])
    bias = after["output.bias"][0] - before["output.bias"][0]
    assert np.sqrt((bias**2).mean()) == pytest.approx(0.1 * 0.1, rel=1e-3)
    step = after["output.weight"][0] - 0.95 * before["output.weight"][0]
    values = np.linalg.svd(step, compute_uv=False) / 0.1
    assert 0.6 < values[:2].min() and values.max() < 1.25


@pytest.mark.parametrize("no_wd", [False, True])
def test_decay_spares_biases_and_norms_only_where_asked(no_wd):
    stepper, _ = stepped(1, steps=0, recipe=get_recipe("gluon", no_wd=no_wd))
    for name, parameter in stepper.net.collect_params().items():
        spared = no_wd and not name.endswith("weight")
        assert parameter.wd_mult == (0 if spared else 1), name


def test_the_network_is_initialised_from_the_seed_and_left_alone_if_it_is_already():
    first, second, other = (
        Stepper(net(), get_recipe("gluon", seed=seed), [mx.cpu()], "local") for seed in (1, 1, 2)
    )
    name = "features.stem.0.weight"
    assert np.array_equal(weights(first)[name], weights(second)[name])
    assert not np.array_equal(weights(first)[name], weights(other)[name])
    again = Stepper(first.net, get_recipe("gluon", seed=2), [mx.cpu()], "local")
    assert np.array_equal(weights(again)[name], weights(second)[name])


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_without_finite_numbers_leaves_no_trace(devices, recompute, bad):
    def trained(poisoned):
        contexts = [mx.cpu(i) for i in range(devices)]
        stepper = Stepper(net(), RECIPE, contexts, "local", recompute)
        images, targets = batch()
        wrong = images.copy()
        wrong[-1, 0, 0, 0] = bad
        results = [
            stepper(x, targets, lr=0.05)
            for x in ([images, wrong, wrong, images] if poisoned else [images, images])
        ]
        return weights(stepper), results

    (ours, results), (expected, quiet) = trained(True), trained(False)
    assert [result.skipped for result in results] == [False, True, True, False]
    assert [results[0], results[3]] == quiet
    for name, copies in expected.items():
        assert all(map(np.array_equal, ours[name], copies)), name


def test_an_overflow_under_loss_scaling_skips_the_update():
    stepper, _ = stepped(1, steps=1)
    stepper.scale.active, stepper.scale.value = True, 8.0
    before = weights(stepper)
    images, targets = batch()
    images = images.copy()
    images[0, 0, 0, 0] = np.inf
    stepper(images, targets, lr=0.1)
    assert stepper.scale.value == 4.0
    trained = {
        n for n, p in stepper.net._collect_params_with_prefix().items() if p.grad_req != "null"
    }
    assert all(np.array_equal(weights(stepper)[name], before[name]) for name in trained)


def test_a_scaled_loss_makes_the_same_update():
    plain, _ = stepped(1, steps=2)
    scaled, _ = stepped(1, steps=1)
    scaled.scale.active, scaled.scale.value = True, 1024.0
    scaled(*batch(), lr=0.05)
    for name, (array,) in weights(plain).items():
        assert weights(scaled)[name][0] == pytest.approx(array, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("end", ["weight", "running_var", "beta"])
def test_an_array_with_no_number_is_found_out(end):
    stepper = Stepper(net(), RECIPE, [mx.cpu()], "local")
    assert stepper.weights_finite()
    named = stepper.net._collect_params_with_prefix()
    array = next(p for name, p in named.items() if name.endswith(end)).data()
    array[0] = np.inf
    assert not stepper.weights_finite()
