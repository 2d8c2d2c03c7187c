from dataclasses import replace
from functools import lru_cache

import foreign_ports
import numpy as np
import pytest
from foreign_cases import TOLERANCE, difference, haoxintong, pictures, tengshaofeng

from gluon_ran.models import SPECS, ResidualAttentionNet
from gluon_ran.models.convert import (
    PORTS,
    ConversionError,
    convert_arrays,
    load_foreign,
)

from gluoncv.model_zoo import residual_attentionnet as gluoncv
from mxnet import nd
from mxnet.gluon import nn


def assert_equal_outputs(conversion, x, scores):
    net = conversion.network()
    assert difference(net(x), scores) < TOLERANCE
    for mask in net.masks(x):
        assert mask.asnumpy().std() > 0.02, "a mask that is the same everywhere proves nothing"


def randomise(net, x, seed=0):
    """Random arrays everywhere; statistics around those of the layers' inputs, as in Foreign."""
    rng = np.random.default_rng(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        kind = name.rpartition(".")[2]
        gain = 0.5 if name.endswith("conv3.weight") else 1
        deviation = gain * (2 / np.prod(parameter.shape[1:])) ** 0.5 if kind == "weight" else 0.3
        value = rng.normal(0, deviation, parameter.shape)
        value = rng.uniform(0.5, 1.5, parameter.shape) if kind == "gamma" else value
        parameter.set_data(nd.array(value))

    def set_statistics(norm, inputs):
        mean, deviation = foreign_ports.statistics(inputs[0].asnumpy())
        norm.running_mean.set_data(nd.array(mean + rng.normal(0, 0.3, mean.shape) * deviation))
        norm.running_var.set_data(nd.array(rng.uniform(0.5, 2, mean.shape) * deviation**2))

    hooks = []

    def hook_norms(block):
        if isinstance(block, nn.BatchNorm):
            hooks.append(block.register_forward_pre_hook(set_statistics))

    net.apply(hook_norms)
    net(x)
    for hook in hooks:
        hook.detach()


@lru_cache(maxsize=None)
def gluoncv_net(imagenet=False, scale=(1, 2, 1), modules=(1, 1, 1), classes=10):
    make = gluoncv.ResidualAttentionModel if imagenet else gluoncv.cifar_ResidualAttentionModel
    net = make(scale, modules, classes=classes)
    net.initialize()
    x = pictures(224, 1) if imagenet else pictures()
    net(x)
    randomise(net, x)
    return x, net(x), net


def gluoncv_arrays(net):
    return {
        name: parameter.data().asnumpy()
        for name, parameter in net._collect_params_with_prefix().items()
    }


# Equal outputs


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({}, "cifar_attention56"),
        ({"modules": (1, 2, 3)}, "cifar_attention92"),
        ({"ptr": (2, 4, 3)}, None),
        ({"imagenet": True, "modules": (1, 2, 3), "size": 64, "classes": 5}, "attention92"),
    ],
)
def test_the_earlier_gluon_port(kwargs, name):
    x, scores, arrays = haoxintong(**kwargs)
    conversion = convert_arrays(arrays)
    assert_equal_outputs(conversion, x, scores)
    spec = conversion.spec
    assert (spec.p, spec.t, spec.r) == kwargs.get("ptr", (1, 2, 1))
    assert not spec.mask_features
    if name:
        widened = {"stem_width": SPECS[name].stem_width, "widths": SPECS[name].widths}
        same = {"name": name, "source": SPECS[name].source, "classes": SPECS[name].classes}
        assert replace(spec, **widened, **same) == SPECS[name]


@pytest.mark.parametrize(
    "network, size",
    [
        ("ResidualAttentionModel_56", 64),
        ("ResidualAttentionModel_92", 96),
        ("ResidualAttentionModel_448input", 128),
        ("ResidualAttentionModel_92_32input", 32),
        ("ResidualAttentionModel_92_32input_update", 32),
    ],
)
def test_the_pytorch_port(network, size):
    x, scores, arrays = tengshaofeng(network, size)
    conversion = convert_arrays(arrays)
    assert_equal_outputs(conversion, x, scores)
    stem, depths, modules = foreign_ports.TENGSHAOFENG[network]
    spec = conversion.spec
    assert (spec.stem, spec.mask_depths, spec.modules) == (stem, (*depths, 0), (*modules, 0))
    kept = [name for name in arrays if name.endswith("conv4.weight")]
    counts = [name for name in arrays if name.endswith("num_batches_tracked")]
    # The first units of the stages have one that is used.
    assert conversion.normalization.mean.tolist() == [0, 0, 0]
    assert conversion.normalization.std.tolist() == [255, 255, 255]
    assert len(conversion.unused) == len(kept) - len(spec.widths) + len(counts)
    assert set(conversion.unused) < {*kept, *counts}


@pytest.mark.parametrize(
    "imagenet, scale, modules",
    [
        (False, (1, 2, 1), (1, 1, 1)),
        (False, (1, 2, 1), (1, 2, 3)),
        (False, (2, 4, 3), (1, 1, 1)),
        (True, (1, 2, 1), (1, 1, 1)),
    ],
)
def test_gluoncv(imagenet, scale, modules):
    x, scores, net = gluoncv_net(imagenet, scale, modules)
    conversion = convert_arrays(gluoncv_arrays(net))
    assert_equal_outputs(conversion, x, scores)
    spec = conversion.spec
    assert (spec.p, spec.t, spec.r) == scale
    # GluonCV's p counts the units ahead only.
    assert (spec.p_after or spec.p) == 1
    assert spec.modules == (*modules, 0)
    assert spec.mask_features
    red = 123.68 if imagenet else 0.4914 * 255
    assert conversion.normalization.mean[0] == pytest.approx(red, rel=1e-6)
    assert not conversion.unused


def test_a_network_of_the_zoo_gets_its_name():
    spec = replace(SPECS["cifar_attention56"], classes=7)
    net = ResidualAttentionNet(spec)
    conversion = convert_arrays(haoxintong()[2])
    assert conversion.spec.name == "haoxintong_cifar_attention56"
    wide = dict(_named_for_the_gluon_port(net))
    assert replace(convert_arrays(wide).spec, source=spec.source) == spec


def _named_for_the_gluon_port(net):
    """Zeros of the shapes of the full-size network, under the port's names."""
    narrow = haoxintong()[2]
    ours = [p.shape for p in net._collect_params_with_prefix().values()]
    places = convert_arrays({name: narrow[name] for name in narrow}).arrays
    by_shape = dict(zip(places, ours))
    for name, array in narrow.items():
        (place,) = [k for k, v in places.items() if v.shape == array.shape and (v == array).all()]
        yield name, np.zeros(by_shape[place], "float32")


def test_files_that_gluoncv_saves(tmp_path):
    x, scores, net = gluoncv_net()
    path = tmp_path / "theirs.params"
    net.save_parameters(str(path))
    assert difference(load_foreign(path)(x), scores) < TOLERANCE
    named = {parameter.name: parameter.data() for parameter in net.collect_params().values()}
    nd.save(str(path), named)
    with pytest.raises(ConversionError, match="a graph's.* net.save_parameters"):
        load_foreign(path)


# What a mistake would change


SWAPS = [
    ("features.4.pre.0.bn1", "features.4.post.0.bn1"),
    ("features.4.mask_branch.skip_connection_1", "features.4.mask_branch.down_res_unit_1.0"),
    ("features.4.mask_branch.skip_connection_1", "features.4.mask_branch.skip_connection_2"),
    ("features.4.mask_branch.up_res_unit_1.0", "features.4.mask_branch.up_res_unit_2.0"),
    ("features.4.mask_branch.up_res_unit_3.0", "features.4.mask_branch.down_res_unit_3.0"),
    ("features.4.trunk_branch.0", "features.4.trunk_branch.1"),
    ("features.4.mask_branch.output.0", "features.4.mask_branch.output.3"),
    ("features.4.mask_branch.output.2", "features.4.mask_branch.output.5"),
    ("features.10.bn2", "features.10.bn3"),
]


@pytest.mark.parametrize("first, second", SWAPS)
def test_layers_of_equal_shape_that_are_swapped_are_noticed(first, second):
    x, scores, arrays = haoxintong()
    swapped = dict(arrays)
    for name in arrays:
        for one, other in ((first, second), (second, first)):
            if name.startswith(f"{one}."):
                swapped[other + name[len(one) :]] = arrays[name]
    assert swapped.keys() == arrays.keys()
    assert difference(convert_arrays(swapped).network()(x), scores) > 10 * TOLERANCE


@pytest.mark.parametrize("changes", [{"mask_features": False}, {"mask_depths": (2, 1, 1, 0)}])
def test_the_graph_matters(changes):
    x, scores, arrays = tengshaofeng()
    assert difference(convert_arrays(arrays, **changes).network()(x), scores) > 10 * TOLERANCE


def test_every_array_is_used_once():
    _, _, arrays = haoxintong()
    marked = {name: np.full_like(a, index) for index, (name, a) in enumerate(arrays.items())}
    placed = convert_arrays(marked).arrays
    marks = [array.flat[0] for array in placed.values()]
    assert all((array == mark).all() for array, mark in zip(placed.values(), marks))
    assert sorted(marks) == list(range(len(arrays)))


# What is refused


def refused(arrays, *parts, **kwargs):
    with pytest.raises(ConversionError) as error:
        convert_arrays(arrays, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def without(name):
    return {key: array for key, array in haoxintong()[2].items() if key != name}


@pytest.mark.parametrize(
    "name",
    [
        "features.0.weight",
        "features.1.gamma",
        "features.3.conv1.weight",
        "features.3.downsample.weight",
        "features.4.trunk_branch.1.bn2.running_var",
        "features.4.mask_branch.skip_connection_2.conv2.weight",
        "features.4.mask_branch.output.5.weight",
        "output.bias",
    ],
)
def test_a_missing_array_is_named(name):
    refused(without(name), f"no array {name}")


def test_a_missing_unit_is_named():
    arrays = haoxintong()[2]
    unit = "features.6.trunk_branch.1."
    refused(
        {name: array for name, array in arrays.items() if not name.startswith(unit)},
        "features.stages.1.1.trunk.1",
    )


def test_an_array_of_another_shape_is_named():
    arrays = {**haoxintong()[2], "features.4.pre.0.bn2.beta": np.zeros(5)}
    refused(arrays, "features.4.pre.0.bn2.beta", "(5,)", "(4,)", "features.stages.0.1.pre.0.norm2")


def test_an_array_without_a_place_is_named():
    arrays = {**haoxintong()[2], "features.4.pre.0.bn4.beta": np.zeros(5)}
    refused(arrays, "features.4.pre.0.bn4.beta", "(5,)", "no place")


def test_arrays_of_nobody_are_refused_and_the_known_are_listed():
    refused({"layer1.weight": np.zeros(3)}, "'layer1.weight'", *PORTS)
    refused({"net0_conv0_weight": np.zeros(3)}, "graph", "save_parameters")


def test_a_wrong_source_is_refused():
    refused(haoxintong()[2], "'features.0.weight'", "gluoncv", source="gluoncv")
    refused({}, "'caffe'", *PORTS, source="caffe")


def test_no_modules_and_unknown_planes_are_refused():
    kept = {k: v for k, v in haoxintong()[2].items() if ".mask_branch.down" not in k}
    refused(kept, "no attention module")
    seven = {**haoxintong()[2], "features.0.weight": np.zeros((4, 3, 9, 9))}
    refused(seven, "stem '9x9'", "'cifar'", "'imagenet'")
    flat = {**haoxintong()[2], "features.0.weight": np.zeros(4)}
    refused(flat, "features.0.weight", "(4,)", "4 axes")


def test_a_depth_that_the_arrays_contradict_is_refused():
    refused(haoxintong()[2], "has 3 levels", "says 2", mask_depths=(2, 2, 1, 0))
    with pytest.raises(ValueError, match="pretrained"):
        convert_arrays(haoxintong()[2], pretrained=True)
