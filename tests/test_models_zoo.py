"""Every network of the zoo, at a fraction of its width: what is built and that all of it learns."""

import json

import numpy as np
import pytest
from networks import (
    assert_close,
    assert_same,
    assert_same_direction,
    gradients,
    pictures,
    shake,
)

from gluon_ran.models import (
    SPECS,
    Baseline,
    Spec,
    build,
    find_spec,
    get_model,
    list_baselines,
    list_models,
    spec_from_json,
    summary,
)

import mxnet as mx
from mxnet import nd

LEAST = {"resnext": 64, "inception": 64, "preactivation": 16}


def slim(name):
    """A network of the zoo with all its layers, no wider than it needs to be."""
    spec = SPECS[name]
    widths = tuple(max(width // 16, LEAST[spec.unit]) for width in spec.widths)
    # Without dropout a pass can be repeated.
    return get_model(name, classes=7, widths=widths, stem_width=8, dropout=0.0)


@pytest.mark.parametrize("name", list_models())
def test_every_network_runs_and_all_of_it_learns(name):
    net = slim(name)
    net.initialize()
    step = net.spec.size_multiple
    # Where the last plane is one pixel, four pictures are all that a BatchNorm has.
    small, large = pictures(step, step, count=4), pictures(step, 2 * step, count=2)
    # Deep networks run for seconds each way, so they are trained one way alone; and rounding grows
    # with depth, through ever more kinks.
    deep = net.spec.trunk_depth > 92
    found = None if deep else gradients(net, small)
    plain = [net(x) for x in (small, large)]
    assert [scores.shape for scores in plain] == [(4, 7), (2, 7)]
    if not deep:
        net.hybridize()
        for x, expected in zip((small, large), plain):
            assert_close(net(x), expected, 1e-5)
    # As it is trained: hybridized, in oneDNN's layout, with gradients added in place.
    net.blocked = True
    net.hybridize(static_alloc=True, static_shape=True)
    assert_close(net(small), plain[0], 1e-5)
    first, second = gradients(net, small), gradients(net, small)
    for key, gradient in second.items():
        assert_same(gradient, first[key])
    if not deep:
        assert_same_direction(second, found)
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert len(second) == len(trained)
    values = {key: gradient.asnumpy() for key, gradient in second.items()}
    assert [key for key, value in values.items() if not value.any()] == []
    assert all(np.isfinite(value).all() for value in values.values())


@pytest.mark.parametrize("name", list_models())
def test_every_row_can_be_found_built_and_written_down(name):
    spec = find_spec(name)
    assert spec == SPECS[name]
    assert spec_from_json(spec.to_json()) == spec


def test_names_never_clash():
    gluoncv = pytest.importorskip("gluoncv")
    theirs = set(gluoncv.model_zoo.get_model_list())
    assert not theirs & set(list_models())
    assert set(list_baselines()) <= theirs
    assert not set(list_baselines()) & set(list_models())


@pytest.mark.parametrize("name", ["cifar_resnet20_v1", "cifar_resnet56_v2"])
def test_a_baseline_is_gluoncvs_network(name):
    gluoncv = pytest.importorskip("gluoncv")
    ours, theirs = get_model(name, classes=7), gluoncv.model_zoo.get_model(name, classes=7)
    ours.initialize()
    theirs.initialize()
    x = pictures()
    theirs(x)
    values = [p.data() for p in ours.collect_params().values()]
    for parameter, value in zip(theirs.collect_params().values(), values):
        parameter.set_data(value)
    shake(ours)
    for one, other in zip(ours.collect_params().values(), theirs.collect_params().values()):
        other.set_data(one.data())
    assert ours(x).shape == (2, 7)
    assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet20_v1", "cifar_resnet20_v2", "cifar_wideresnet16_10", "cifar_resnext29_32x4d"],
)
def test_all_of_a_baseline_learns_hybridized_or_not(name):
    net = get_model(name, classes=7)
    net.initialize()
    x = pictures(16, 16, count=4)
    plain = gradients(net, x)
    assert [key for key, gradient in plain.items() if not gradient.asnumpy().any()] == []
    scores = net(x)
    net.hybridize(static_alloc=True, static_shape=True)
    assert_close(net(x), scores, 1e-5)
    assert_same_direction(gradients(net, x), plain)


@pytest.mark.parametrize(
    "name, millions",
    [
        ("cifar_resnet56_v2", 0.86),
        ("cifar_resnet110_v2", 1.73),
        ("cifar_wideresnet16_10", 17.1),
        ("cifar_resnext29_32x4d", 4.9),
    ],
)
def test_baselines_have_the_parameters_of_their_papers(name, millions):
    cost = summary(name, verbose=False)
    assert cost.parameters / 1e6 == pytest.approx(millions, rel=0.03)
    assert cost.stages == {"output": (1, 10)}


def test_a_baseline_starts_with_a_variance_of_2_over_fan_in():
    net = get_model("cifar_resnet56_v2")
    net.initialize(mx.init.Zero())
    weights = [p for n, p in net.collect_params(".*conv.*weight").items() if p.shape[0] == 64]
    values = np.concatenate([p.data().asnumpy().ravel() for p in weights if p.shape[1] == 64])
    fan_ins = {p.shape[1] * p.shape[2] * p.shape[3] for p in weights if p.shape[1] == 64}
    assert fan_ins == {576}
    assert abs(values.std() / np.sqrt(2 / 576) - 1) < 0.01


def test_a_baseline_is_written_down_and_told_from_a_spec():
    baseline = find_spec("cifar_resnet20_v2", classes=100)
    assert baseline == Baseline("cifar_resnet20_v2", 100)
    assert json.loads(baseline.to_json()) == {"baseline": "cifar_resnet20_v2", "classes": 100}
    assert spec_from_json(baseline.to_json()) == baseline
    assert isinstance(spec_from_json(SPECS["attention56"].to_json()), Spec)


@pytest.mark.parametrize(
    "text", ['{"baseline": "resnet"}', '{"baseline": "vgg", "classes": 3}', "[]", "3", "{}"]
)
def test_what_is_neither_is_refused(text):
    with pytest.raises(ValueError):
        spec_from_json(text)


def test_a_baseline_has_no_fields_to_change():
    with pytest.raises(ValueError, match="cifar_resnet20_v1 .*has no attention, zero_init"):
        find_spec("cifar_resnet20_v1", attention="spatial", zero_init=True)
    with pytest.raises(ValueError, match="Baseline.classes is 0"):
        find_spec("cifar_resnet20_v1", classes=0)


def test_an_unknown_name_lists_both_kinds():
    with pytest.raises(ValueError, match="'resnet'.*attention56.*cifar_resnet56_v2"):
        find_spec("resnet")


def test_building_reaches_the_normalisation_of_a_baseline():
    net = build(Baseline("cifar_resnet20_v1"), norm_kwargs={"epsilon": 0.5})
    assert '"eps": "0.5"' in net(mx.sym.var("data")).tojson()
    net.initialize()
    assert net(nd.zeros((1, 3, 32, 32))).shape == (1, 10)
