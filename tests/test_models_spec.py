import json
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

from gluon_ran.models import SPECS, Spec, find_spec, list_models
from gluon_ran.models.spec import change

THIN = SPECS["cifar_attention56_thin"]


@pytest.mark.parametrize("name", list_models())
def test_every_row_is_under_its_own_name_and_says_where_it_is_from(name):
    assert SPECS[name].name == name
    assert SPECS[name].source


@pytest.mark.parametrize("name", list_models())
def test_the_trunk_is_as_deep_as_the_name_says(name):
    spec = SPECS[name]
    if name == "cifar_attention_compact":
        assert spec.trunk_depth == 3 * (5 + 2 * 4) + 2
        return
    assert str(spec.trunk_depth) in name
    if sum(spec.modules) and (spec.p, spec.t) == (1, 2):
        assert spec.trunk_depth == 36 * sum(spec.modules) / 3 + 20


def test_452_has_the_modules_of_236_with_more_units():
    for name in ("attention{}", "cifar_attention{}", "cifar_attention{}_thin"):
        smaller, larger = SPECS[name.format(236)], SPECS[name.format(452)]
        assert (larger.p, larger.t, larger.r) == (2, 4, 3)
        assert (smaller.p, smaller.t, smaller.r) == (1, 2, 1)
        assert replace(smaller, name=larger.name, p=2, t=4, r=3) == larger


@pytest.mark.parametrize("name", list_models())
def test_json_gives_the_spec_back(name):
    text = SPECS[name].to_json()
    assert Spec.from_json(text) == SPECS[name]
    assert list(json.loads(text)) == [field.name for field in fields(Spec)]


def test_json_keeps_what_was_changed():
    spec = change(THIN, classes=7, zero_init=True, upsampling="separable", widths=(4, 8, 12))
    assert Spec.from_json(spec.to_json()) == spec


def test_json_may_lack_fields_that_have_a_default():
    values = asdict(THIN)
    for name in ("p", "t", "r", "in_channels", "zero_init", "upsampling"):
        del values[name]
    assert Spec.from_json(json.dumps(values)) == THIN


def test_json_with_an_unknown_field_is_refused_and_the_fields_are_listed():
    values = dict(asdict(THIN), drop_path=0.5)
    with pytest.raises(ValueError, match="drop_path.*widths.*upsampling"):
        Spec.from_json(json.dumps(values))


@pytest.mark.parametrize("name", ["name", "widths", "units_after"])
def test_json_without_a_needed_field_is_refused_by_its_name(name):
    values = asdict(THIN)
    del values[name]
    with pytest.raises(ValueError, match=f"lacks.*{name}"):
        Spec.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"widths"'])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError):
        Spec.from_json(text)


def test_json_is_checked_like_any_spec():
    values = dict(asdict(THIN), widths=[64, 128, 255])
    with pytest.raises(ValueError, match="widths"):
        Spec.from_json(json.dumps(values))


def test_changing_an_unknown_field_lists_the_fields():
    with pytest.raises(ValueError, match="depth.*stem_width.*zero_init"):
        change(THIN, depth=56)


def test_lists_become_tuples():
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(THIN).items()}
    spec = Spec(**values)
    assert spec == THIN
    assert hash(spec) == hash(THIN)


def test_a_spec_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        THIN.classes = 100


def test_rows_can_be_keys():
    assert len(set(SPECS.values())) == len(SPECS)


STAGE_FIELDS = ("widths", "strides", "modules", "mask_depths", "units_before", "units_after")


@pytest.mark.parametrize("name", STAGE_FIELDS)
@pytest.mark.parametrize(
    "value",
    [(), (4, 4), (4, 4, 4, 4), 4, None, "444", {4, 8}, (4, 4, -4), (4, 4.0, 4), (4, True, 4)],
    ids=repr,
)
def test_a_stage_field_that_is_not_an_integer_a_stage_is_refused(name, value):
    # With two or four widths, it is the next field that has a wrong length.
    blamed = "strides" if name == "widths" and value in ((4, 4), (4, 4, 4, 4)) else name
    with pytest.raises(ValueError, match=f"Spec.{blamed} "):
        replace(THIN, **{name: value})


@pytest.mark.parametrize("name", ["p", "t", "r", "classes", "in_channels", "stem_width"])
@pytest.mark.parametrize("value", [-1, 1.0, "1", True, None, (1,)], ids=repr)
def test_a_number_that_is_not_a_large_enough_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=f"Spec.{name} "):
        replace(THIN, **{name: value})


@pytest.mark.parametrize("name", ["t", "r", "in_channels", "stem_width"])
def test_zero_is_refused_where_there_must_be_one(name):
    with pytest.raises(ValueError, match=f"Spec.{name} "):
        replace(THIN, **{name: 0})


@pytest.mark.parametrize("widths", [(64, 128, 250), (2, 128, 256), (64, 129, 256)])
def test_widths_that_a_bottleneck_cannot_quarter_are_refused(widths):
    with pytest.raises(ValueError, match="Spec.widths"):
        replace(THIN, widths=widths)


@pytest.mark.parametrize("name", ["strides", "units_before"])
def test_every_stage_needs_a_first_unit_with_a_stride(name):
    with pytest.raises(ValueError, match=f"Spec.{name} "):
        replace(THIN, **{name: (1, 1, 0)})


@pytest.mark.parametrize(
    "unit, fits, multiple", [("resnext", (64, 128, 256), 64), ("inception", (16, 48, 80), 16)]
)
def test_widths_that_a_unit_cannot_divide_are_refused(unit, fits, multiple):
    assert replace(THIN, unit=unit, widths=fits).widths == fits
    with pytest.raises(ValueError, match=f"Spec.widths .*{unit}.* multiples of {multiple}"):
        replace(THIN, unit=unit, widths=(*fits[:2], fits[2] + multiple // 2))


@pytest.mark.parametrize("name", ["mask_features", "zero_init"])
@pytest.mark.parametrize("value", ["False", 0, None])
def test_a_choice_of_two_is_true_or_false(name, value):
    with pytest.raises(ValueError, match=f"Spec.{name} is .*true or false"):
        replace(THIN, **{name: value})


def test_a_mask_of_local_convolutions_has_no_features_to_add():
    with pytest.raises(ValueError, match="Spec.mask_features"):
        replace(THIN, mask="local_conv", mask_features=True)


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), "0.5", True, None])
def test_a_dropout_that_is_no_share_is_refused(value):
    with pytest.raises(ValueError, match="Spec.dropout "):
        replace(THIN, dropout=value)


@pytest.mark.parametrize("value", [-1, 1.0, "1", True])
def test_post_processing_units_are_a_number_or_none(value):
    assert replace(THIN, p_after=0).p_after == 0
    with pytest.raises(ValueError, match="Spec.p_after "):
        replace(THIN, p_after=value)


def test_a_size_that_the_source_did_not_have_becomes_the_next_that_fits():
    changes = {"strides": (2, 2, 2), "mask_depths": (4, 3, 2)}
    assert replace(THIN, stem="imagenet", **changes).size_multiple == 128
    assert replace(THIN, stem="imagenet", **changes).input_size == (256, 256)


def test_numpys_integers_are_taken_as_pythons():
    spec = replace(THIN, classes=np.int64(7), widths=(np.int32(8), 16, np.int64(32)))
    assert spec == replace(THIN, classes=7, widths=(8, 16, 32))
    assert Spec.from_json(spec.to_json()) == spec
    baseline = find_spec("cifar_resnet20_v1", np.int64(7))
    assert baseline == find_spec("cifar_resnet20_v1", 7) and '"classes": 7' in baseline.to_json()
    with pytest.raises(ValueError, match="Spec.classes has -1"):
        replace(THIN, classes=np.int64(-1))


@pytest.mark.parametrize(
    "name, value, choices",
    [
        ("stem", "cifar10", "imagenet.*cifar"),
        ("stem", ["cifar"], "imagenet.*cifar"),
        ("stem", None, "imagenet.*cifar"),
        ("upsampling", "nearest", "auto.*matrix.*separable.*bilinear"),
        ("upsampling", "", "auto.*matrix.*separable.*bilinear"),
        ("unit", "bottleneck", "preactivation.*resnext.*inception"),
        ("attention", "f1", "mixed.*channel.*spatial"),
        ("learning", "arl", "residual.*naive"),
        ("mask", "none", "encoder_decoder.*local_conv"),
    ],
)
def test_an_unknown_choice_is_refused_and_the_choices_are_listed(name, value, choices):
    with pytest.raises(ValueError, match=f"Spec.{name} .*{choices}"):
        replace(THIN, **{name: value})


@pytest.mark.parametrize("name", list_models())
def test_picture_sizes_are_multiples_of_8_for_cifar_and_of_32_for_imagenet(name):
    spec = SPECS[name]
    if sum(spec.modules):
        assert spec.size_multiple == (8 if name.startswith("cifar") else 32)
    else:  # nothing but the strides of the stages
        assert spec.size_multiple == 4
    assert all(edge % spec.size_multiple == 0 for edge in spec.input_size)


def halves_evenly(spec, edge):
    """Whether every stride and pooling of the network meets an even edge (the stem takes 4)."""
    steps = {"imagenet": [4], "cifar": [], "compact": [2]}[spec.stem]
    for step, count, depth in zip(spec.strides, spec.modules, spec.mask_depths):
        steps.append(step)
        below = steps + [2] * depth if count and spec.mask != "local_conv" else steps
        left = edge
        for divisor in below:
            if left % divisor:
                return False
            left //= divisor
    return True


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stem": "imagenet"},
        {"mask_depths": (1, 1, 1)},
        {"mask_depths": (5, 1, 1)},
        {"mask_depths": (1, 2, 4)},
        {"mask_depths": (5, 2, 1), "modules": (0, 1, 1)},
        {"modules": (0, 0, 0)},
        {"strides": (2, 2, 2), "stem": "imagenet"},
        {"strides": (1, 1, 1)},
        {"strides": (1, 3, 2)},
        {"stem": "compact"},
        {"mask_depths": (0, 0, 0)},
        {"mask": "local_conv"},
    ],
    ids=repr,
)
def test_the_size_multiple_is_the_least_size_that_halves_evenly(changes):
    spec = replace(THIN, **changes)
    least = next(edge for edge in range(1, 1000) if halves_evenly(spec, edge))
    assert spec.size_multiple == least
