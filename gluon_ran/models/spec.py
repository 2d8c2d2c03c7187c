"""What a network is: the frozen Spec and the table of networks, a row each with its source."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

DEPTHS = (56, 92, 128, 164, 236, 452)
STEMS = ("imagenet", "cifar")
UPSAMPLINGS = ("auto", "matrix", "separable", "bilinear")


@dataclass(frozen=True)
class Spec:
    """A Residual Attention Network: stem, stages of units and attention modules, classifier.

    The tuples have one entry a stage. A stage is `units_before` residual units (the first one has
    the stage's stride and widens to `widths`), then its attention modules, then `units_after`
    units.

    Attributes:
        name: the zoo's name of the network.
        source: where the definition comes from.
        stem: "imagenet" (7x7/2 convolution and 3x3/2 max-pool) or "cifar" (3x3/1 convolution).
        stem_width: channels that the stem gives.
        widths: channels of each stage.
        strides: stride of each stage's first unit.
        modules: attention modules in each stage.
        mask_depths: how often the soft mask branch of a stage's modules halves its plane.
        units_before: residual units ahead of the stage's modules.
        units_after: residual units behind the stage's modules.
        p: pre- and post-processing units of a module (paper section 3).
        t: units of the trunk branch.
        r: units between adjacent poolings of the mask branch.
        in_channels: channels of the pictures.
        classes: outputs of the classifier.
        zero_init: start each residual unit as the identity, by a zero last convolution. (A zero
            scale in the last BatchNorm of a pre-activation unit gives the same start, but then the
            ReLU behind it passes no gradient and the unit never learns.)
        upsampling: how the mask branch interpolates: "matrix" (one product with the whole plane's
            matrix), "separable" (a product a direction), "bilinear" (MXNet's own operator, whose
            CPU gradient is slow and changes from run to run) or "auto" (the faster one of the first
            two for each plane).
    """

    name: str
    source: str
    stem: str
    stem_width: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    modules: tuple[int, ...]
    mask_depths: tuple[int, ...]
    units_before: tuple[int, ...]
    units_after: tuple[int, ...]
    p: int = 1
    t: int = 2
    r: int = 1
    in_channels: int = 3
    classes: int = 1000
    zero_init: bool = False
    upsampling: str = "auto"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._check_stages()
        _check_choice("stem", self.stem, STEMS)
        _check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        for name, least in (
            ("p", 0),
            ("t", 1),
            ("r", 1),
            ("classes", 1),
            ("in_channels", 1),
            ("stem_width", 1),
        ):
            _check_integer(name, getattr(self, name), least)

    def _check_stages(self) -> None:
        least = {"widths": 4, "strides": 1, "units_before": 1}
        names = ("widths", "strides", "modules", "mask_depths", "units_before", "units_after")
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, tuple) or not value:
                raise ValueError(f"Spec.{name} is {value!r}: give a tuple of integers, one a stage")
            if len(value) != len(self.widths):
                raise ValueError(
                    f"Spec.{name} is {value!r}: give {len(self.widths)} integers, one a stage"
                )
            for entry in value:
                _check_integer(name, entry, least.get(name, 0))
        for count, depth in zip(self.modules, self.mask_depths):
            if count and not depth:
                raise ValueError("Spec.mask_depths must be at least 1 in a stage that has modules")
        if any(width % 4 for width in self.widths):
            raise ValueError(f"Spec.widths {self.widths}: a bottleneck needs multiples of 4")

    @property
    def size_multiple(self) -> int:
        """Heights and widths of input pictures must be multiples of this, in pixels."""
        stride = 4 if self.stem == "imagenet" else 1
        multiple = stride
        for step, count, depth in zip(self.strides, self.modules, self.mask_depths):
            stride *= step
            multiple = max(multiple, stride << depth if count else stride)
        return multiple

    @property
    def input_size(self) -> tuple[int, int]:
        """The height and width, in pixels, that the source trains at."""
        return (224, 224) if self.stem == "imagenet" else (32, 32)

    @property
    def trunk_depth(self) -> int:
        """Weighted layers along the trunk: 36 m + 20 for p, t, r = 1, 2, 1 (paper section 4)."""
        outside = sum(self.units_before) + sum(self.units_after)
        return 3 * (outside + (2 * self.p + self.t) * sum(self.modules)) + 2

    def to_json(self) -> str:
        """The Spec as JSON text, a field a key."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The Spec that `to_json` wrote.

        Raises:
            ValueError: the text is not JSON, has fields that a Spec does not, or lacks some.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"{cls.__name__} is a JSON object of fields, not {values!r}")
        values = _known_fields(cls, values)
        needed = (field.name for field in fields(cls) if field.default is MISSING)
        lacking = [name for name in needed if name not in values]
        if lacking:
            raise ValueError(f"{cls.__name__} lacks {', '.join(lacking)}")
        return cls(**values)


def _known_fields(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    choices = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(choices))
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {', '.join(unknown)}; its fields: {', '.join(choices)}"
        )
    return values


def change(spec: Spec, **changes: Any) -> Spec:
    """`dataclasses.replace` that names the fields there are when one is unknown.

    Raises:
        ValueError: an unknown field, or a value that the field does not take.
    """
    return replace(spec, **_known_fields(type(spec), changes))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Spec.{name} is {value!r}; choose one of {', '.join(choices)}")


def _check_integer(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"Spec.{name} has {value!r}: give an integer of at least {least}")


_MODULES = {
    56: (1, 1, 1),
    92: (1, 2, 3),
    128: (3, 3, 3),
    164: (4, 4, 4),
    236: (6, 6, 6),
    452: (6, 6, 6),
}
_THIN_MODULES = {**_MODULES, 92: (2, 2, 2)}
_PTR_452 = {"p": 2, "t": 4, "r": 3}


def _imagenet(depth: int) -> Spec:
    return Spec(
        name=f"attention{depth}",
        source="arXiv 1704.06904 table 2, the authors' Caffe definitions; beyond 92 by 36 m + 20",
        stem="imagenet",
        stem_width=64,
        widths=(256, 512, 1024, 2048),
        strides=(1, 2, 2, 2),
        modules=_MODULES[depth] + (0,),
        mask_depths=(3, 2, 1, 0),
        units_before=(1, 1, 1, 3),
        units_after=(0, 0, 0, 0),
        **(_PTR_452 if depth == 452 else {}),
    )


def _cifar_wide(depth: int) -> Spec:
    return replace(
        _imagenet(depth),
        name=f"cifar_attention{depth}",
        source="earlier Gluon port (haoxintong): the ImageNet network at half width, CIFAR stem",
        stem="cifar",
        stem_width=32,
        widths=(128, 256, 512, 1024),
        classes=10,
    )


def _cifar_thin(depth: int) -> Spec:
    return Spec(
        name=f"cifar_attention{depth}_thin",
        source="arXiv 1704.06904 table 4: layout inferred from its parameter counts (1.9M, 5.1M)",
        stem="cifar",
        stem_width=16,
        widths=(64, 128, 256),
        strides=(1, 2, 2),
        modules=_THIN_MODULES[depth],
        mask_depths=(3, 2, 1),
        units_before=(1, 1, 1),
        units_after=(1, 1, 1),
        classes=10,
        **(_PTR_452 if depth == 452 else {}),
    )


SPECS: dict[str, Spec] = {
    spec.name: spec
    for make in (_imagenet, _cifar_wide, _cifar_thin)
    for spec in (make(depth) for depth in DEPTHS)
}


def list_models() -> list[str]:
    """Names that `get_model` builds."""
    return list(SPECS)
