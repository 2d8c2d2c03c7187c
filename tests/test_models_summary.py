from dataclasses import FrozenInstanceError, replace
from functools import lru_cache

import pytest

from gluon_ran.models import SPECS, get_model, list_models, summary
from gluon_ran.models.summary import count_macs

import mxnet as mx
from mxnet import nd
from mxnet.gluon import nn


@lru_cache(maxsize=None)
def cost(name, size=None):
    return summary(name, size, verbose=False)


class Tally:
    """Parameters and multiply-accumulates of a Spec by hand, layer after layer."""

    def __init__(self, spec, height, width):
        self.spec, self.parameters, self.macs = spec, 0, 0
        self.channels, self.pixels = spec.in_channels, height * width
        self.stem()
        for stage in zip(
            spec.widths,
            spec.strides,
            spec.modules,
            spec.mask_depths,
            spec.units_before,
            spec.units_after,
        ):
            self.stage(*stage)
        if spec.unit != "resnext":
            self.norm(self.channels)
        self.conv_macs = self.macs
        self.macs += self.channels * spec.classes
        self.parameters += (self.channels + 1) * spec.classes

    def conv(self, source, target, kernel, pixels, groups=1):
        self.parameters += source * target * kernel**2 // groups
        self.macs += source * target * kernel**2 // groups * pixels

    def norm(self, channels):
        self.parameters += 2 * channels

    def stem(self):
        width = self.spec.stem_width
        kernel, stride, pooled = {
            "imagenet": (7, 2, 2),
            "cifar": (3, 1, 1),
            "compact": (5, 1, 2),
        }[self.spec.stem]
        self.pixels //= stride**2
        self.conv(self.channels, width, kernel, self.pixels)
        self.pixels //= pooled**2
        self.norm(width)
        self.channels = width

    def unit(self, target, stride, pixels):
        smaller = pixels // stride**2
        if self.channels != target or stride > 1:
            self.conv(self.channels, target, 1, smaller)
            if self.spec.unit == "resnext":
                self.norm(target)
        getattr(self, self.spec.unit)(self.channels, target, pixels, smaller)

    def preactivation(self, source, target, pixels, smaller):
        inner = target // 4
        for channels in (source, inner, inner):
            self.norm(channels)
        self.conv(source, inner, 1, pixels)
        self.conv(inner, inner, 3, smaller)
        self.conv(inner, target, 1, smaller)

    def resnext(self, source, target, pixels, smaller):
        inner = target // 2
        for channels in (inner, inner, target):
            self.norm(channels)
        self.conv(source, inner, 1, pixels)
        self.conv(inner, inner, 3, smaller, groups=32)
        self.conv(inner, target, 1, smaller)

    def inception(self, source, target, pixels, smaller):
        eighth = target // 8
        self.norm(source)
        self.conv(source, eighth, 1, smaller)
        self.conv(source, eighth, 1, pixels)
        self.norm(eighth)
        self.conv(eighth, eighth, 3, smaller)
        self.conv(source, eighth // 2, 1, pixels)
        self.norm(eighth // 2)
        self.conv(eighth // 2, eighth, 3, pixels)
        self.norm(eighth)
        self.conv(eighth, eighth, 3, smaller)
        self.norm(3 * eighth)
        self.conv(3 * eighth, target, 1, smaller)

    def stage(self, width, stride, modules, depth, before, after):
        self.unit(width, stride, self.pixels)
        self.channels, self.pixels = width, self.pixels // stride**2
        for _ in range(before - 1 + after):
            self.unit(width, 1, self.pixels)
        for _ in range(modules):
            self.module(depth)

    def module(self, depth):
        width, pixels, spec = self.channels, self.pixels, self.spec
        after = spec.p if spec.p_after is None else spec.p_after
        for _ in range(spec.p + spec.t + after):
            self.unit(width, 1, pixels)
        pooled = 4 if spec.mask == "encoder_decoder" else 1
        for level in range(1, depth + 1):
            skip = level < depth
            for _ in range(2 * spec.r + skip):
                self.unit(width, 1, pixels // pooled**level)
        for _ in range(0 if depth else 2 * spec.r):
            self.unit(width, 1, pixels)
        for _ in range(2):
            self.conv(width, width, 1, pixels)
        for _ in range(1 if spec.unit == "resnext" else 2):
            self.norm(width)


@pytest.mark.parametrize(
    "name, millions",
    [
        ("attention56", "31.81"),
        ("attention92", "52.47"),
        ("attentionnext56", "31.32"),
        ("cifar_attention92_thin", "1.84"),
        ("cifar_attention236_thin", "5.08"),
    ],
)
def test_parameters_known_from_the_paper_and_the_authors_definitions(name, millions):
    assert f"{cost(name).parameters / 1e6:.2f}" == millions


@pytest.mark.parametrize(
    "name, size, digits, billions",
    [
        ("attention56", (224, 224), 3, "6.271"),
        ("attention92", (224, 224), 3, "10.534"),
        ("attention92", (320, 320), 2, "21.50"),
        ("attentionnext56", (224, 224), 3, "6.419"),
    ],
)
def test_multiply_accumulates_known_from_the_authors_definitions(name, size, digits, billions):
    assert f"{cost(name, size).macs / 1e9:.{digits}f}" == billions


def test_attention_inception_keeps_the_papers_budget():
    result = cost("attentioninception56")
    assert abs(result.parameters / 31.9e6 - 1) < 0.03
    assert abs(result.macs / 6.3e9 - 1) < 0.03


def test_multiply_accumulates_of_the_wide_56_in_convolutions():
    assert f"{cost('cifar_attention56').conv_macs / 1e6:.2f}" == "502.99"


@pytest.mark.parametrize("name", list_models())
def test_costs_are_those_counted_by_hand(name):
    result = cost(name)
    by_hand = Tally(SPECS[name], *SPECS[name].input_size)
    assert result.parameters == by_hand.parameters
    assert result.conv_macs == by_hand.conv_macs
    assert result.macs == by_hand.macs


@pytest.mark.parametrize(
    "changes, size",
    [
        ({}, (40, 64)),
        ({"classes": 100, "in_channels": 1}, (32, 32)),
        ({"stem": "imagenet"}, (96, 128)),
        ({"p": 0, "t": 3, "r": 2, "units_after": (0, 2, 1)}, (32, 32)),
        ({"mask_depths": (1, 3, 2), "strides": (2, 1, 2)}, (64, 128)),
        ({"modules": (2, 0, 1)}, (32, 64)),
        ({"upsampling": "bilinear", "zero_init": True}, (32, 32)),
        ({"mask": "local_conv", "r": 2}, (32, 32)),
        ({"mask_depths": (2, 0, 1), "r": 2, "mask_features": True}, (32, 32)),
        ({"attention": "spatial", "learning": "naive", "dropout": 0.5}, (32, 32)),
        ({"attention": "channel", "stem": "compact", "p_after": 2}, (32, 64)),
        ({"unit": "resnext", "widths": (64, 64, 128)}, (32, 32)),
        ({"unit": "inception", "widths": (16, 16, 48), "strides": (1, 1, 2)}, (32, 32)),
    ],
    ids=repr,
)
def test_costs_of_other_networks_are_those_counted_by_hand(changes, size):
    changes = {"widths": (8, 16, 20), **changes}
    spec = replace(SPECS["cifar_attention56_thin"], **changes)
    result = summary(get_model(spec.name, **changes), size, verbose=False)
    by_hand = Tally(spec, *size)
    assert result.parameters == by_hand.parameters
    assert (result.conv_macs, result.macs) == (by_hand.conv_macs, by_hand.macs)


@pytest.mark.parametrize("name", ["attention56", "cifar_attention56", "cifar_attention92_thin"])
def test_parameters_are_the_trained_ones_of_the_built_network(name):
    net = get_model(name)
    net.initialize()
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert cost(name).parameters == sum(p.data().size for p in trained)
    rest = set(net.collect_params()) - {p.name for p in trained}
    assert rest and all("running" in parameter for parameter in rest)


def test_a_size_may_be_one_side():
    name = "cifar_attention56_thin"
    assert cost(name, 64) == cost(name, (64, 64)) != cost(name)


def test_the_blocked_layouts_own_operators_are_not_counted():
    net = get_model("cifar_attention56_thin")
    before = summary(net, verbose=False)
    net.blocked = True
    assert summary(net, verbose=False) == before


def test_macs_of_any_network():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, strides=2, padding=1, groups=2, in_channels=4))
    net.add(nn.Conv2D(6, (1, 3), dilation=(1, 2), in_channels=8))
    net.add(nn.Dense(5, flatten=False, in_units=4))
    # 8x8 to 4x4 by four outputs from each half of the input; then 4 wide loses 2 x 2 columns.
    net.initialize()
    assert net(nd.zeros((1, 4, 8, 16))).shape == (1, 6, 4, 5)
    conv_macs, macs = count_macs(net, (1, 4, 8, 16))
    assert conv_macs == 8 * 4 * 8 * (2 * 9) + 6 * 4 * 4 * (8 * 3)
    assert macs - conv_macs == 6 * 4 * 5 * 4


@pytest.mark.parametrize(
    "name, size, stages",
    [
        (
            "attention56",
            None,
            [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)],
        ),
        (
            "attention56",
            (320, 448),
            [(64, 80, 112), (256, 80, 112), (512, 40, 56), (1024, 20, 28), (2048, 10, 14)],
        ),
        (
            "cifar_attention56",
            None,
            [(32, 32, 32), (128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)],
        ),
        (
            "cifar_attention56_thin",
            (40, 64),
            [(16, 40, 64), (64, 40, 64), (128, 20, 32), (256, 10, 16)],
        ),
    ],
)
def test_shapes_behind_each_stage(name, size, stages):
    spec = SPECS[name]
    result = cost(name, size)
    names = ["stem"] + [f"stage {i + 1}" for i in range(len(spec.widths))]
    expected = dict(zip(names, ((1,) + stage for stage in stages)))
    expected["pool"] = (1, spec.widths[-1], 1, 1)
    expected["output"] = (1, spec.classes)
    assert result.stages == expected
    assert list(result.stages) == list(expected)
    assert result.input_shape == (1, 3) + (size or spec.input_size)


@pytest.mark.parametrize("name", ["cifar_attention56_thin", "attention56"])
def test_a_name_its_spec_and_its_network_have_the_same_summary(name):
    assert summary(get_model(name), verbose=False) == cost(name)
    assert summary(SPECS[name], verbose=False) == cost(name)


def test_frozen_weights_count_as_parameters():
    net = get_model("cifar_attention56_thin")
    net.freeze(2)
    assert summary(net, verbose=False) == cost("cifar_attention56_thin")


def test_it_is_printed_and_returned(capsys):
    result = summary("cifar_attention56")
    printed = capsys.readouterr().out
    assert printed == f"{result}\n"
    for part in ("cifar_attention56", "32x32", "7,467,370", "502.99 M", "stage 4", "1024 x 4 x 4"):
        assert part in printed


def test_it_can_be_silent(capsys):
    summary("cifar_attention56_thin", verbose=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_it_names_the_size_that_was_asked_for(capsys):
    summary("cifar_attention56_thin", (40, 64))
    assert "40x64" in capsys.readouterr().out


def test_it_leaves_the_network_as_it_was():
    net = get_model("cifar_attention56_thin", widths=(8, 16, 32))
    net.initialize()
    net.hybridize()
    x = nd.random.uniform(shape=(1, 3, 32, 32))
    before = net(x)
    summary(net, (64, 40), verbose=False)
    assert (net(x) == before).asnumpy().all()
    _, (shape,), _ = net.features.stages(mx.sym.var("x")).infer_shape(x=(1, 4, 32, 32))
    assert shape == (1, 32, 8, 8)


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="networks of gluon_ran"):
        summary(nn.Dense(3))


def test_a_result_is_frozen():
    with pytest.raises(FrozenInstanceError):
        cost("cifar_attention56_thin").macs = 0


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="224x225.*224x224 or 224x256"):
        summary("attention56", (224, 225), verbose=False)


def test_an_unknown_name_is_refused_and_close_ones_or_all_are_named():
    with pytest.raises(ValueError, match="attention57'; did you mean attention56 or [^,]*\\?$"):
        summary("attention57")
    with pytest.raises(ValueError, match="'vgg'; there are: attention56, .*cifar_resnet20_v1"):
        summary("vgg")
