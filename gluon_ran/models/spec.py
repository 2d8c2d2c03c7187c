"""What a network is: the frozen Spec, its checks, and its JSON."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from math import gcd
from numbers import Integral
from typing import Any

STEMS = ("imagenet", "cifar", "compact")
UNITS = ("preactivation", "resnext", "inception")
ATTENTIONS = ("mixed", "channel", "spatial")
LEARNINGS = ("residual", "naive")
MASKS = ("encoder_decoder", "local_conv")
UPSAMPLINGS = ("auto", "matrix", "separable", "bilinear")

# What the inner widths of a unit divide by: C/4, 32 groups of C/2, and sixteenths of C.
_WIDTH_MULTIPLES = {"preactivation": 4, "resnext": 64, "inception": 16}


@dataclass(frozen=True)
class Spec:
    """A Residual Attention Network: stem, stages of units and attention modules, classifier.

    The tuples have one entry a stage. A stage is `units_before` residual units (the first one has
    the stage's stride and widens to `widths`), then its attention modules, then `units_after`
    units.

    Attributes:
        name: the zoo's name of the network.
        source: where the definition comes from.
        stem: "imagenet" (7x7/2 convolution and 3x3/2 max-pool), "cifar" (3x3/1 convolution) or
            "compact" (5x5/1 convolution and 2x2/2 max-pool).
        stem_width: channels that the stem gives.
        widths: channels of each stage.
        strides: stride of each stage's first unit.
        modules: attention modules in each stage.
        mask_depths: how often the soft mask branch of a stage's modules halves its plane; at 0 it
            is 2r units on the plane as it is.
        units_before: residual units ahead of the stage's modules.
        units_after: residual units behind the stage's modules.
        p: pre- and post-processing units of a module (paper section 3).
        p_after: post-processing units, where they are not p as in GluonCV's Attention-452.
        t: units of the trunk branch.
        r: units between adjacent poolings of the mask branch.
        in_channels: channels of the pictures.
        classes: outputs of the classifier; 0 for none, the network then gives its embedding.
        unit: kind of residual unit: "preactivation" (Attention-N), "resnext" (AttentionNeXt-N) or
            "inception" (AttentionInception-N).
        attention: what makes the mask of the mask branch's output x (paper section 3.1, table 1):
            "mixed", sigmoid(x); "channel", x over its L2 norm over the channels of a position;
            "spatial", the sigmoid of x standardised over each channel's plane.
        learning: "residual", (1 + M) * T, or "naive", M * T (paper section 3.2).
        mask: "encoder_decoder", or "local_conv": as many units in a row on the plane as it is,
            without pooling and interpolation (paper section 4.1).
        mask_features: add to the mask branch, as GluonCV's network and the PyTorch port of
            tengshaofeng do and the paper's does not, the down path's own output at each level and
            the trunk's output before the head.
        dropout: share of the embedding that is dropped in training.
        zero_init: start each residual unit as the identity: by a zero scale in its last BatchNorm
            where its output is one, else by a zero last convolution. (A zero scale in the last
            BatchNorm of a pre-activation unit would give the same start, but then the ReLU behind
            it passes no gradient and the unit never learns.)
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
    p_after: int | None = None
    in_channels: int = 3
    classes: int = 1000
    unit: str = "preactivation"
    attention: str = "mixed"
    learning: str = "residual"
    mask: str = "encoder_decoder"
    mask_features: bool = False
    dropout: float = 0.0
    zero_init: bool = False
    upsampling: str = "auto"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (list, tuple)):
                object.__setattr__(self, field.name, tuple(map(plain_integer, value)))
            else:
                object.__setattr__(self, field.name, plain_integer(value))
        self._check_stages()
        for name, choices in (
            ("stem", STEMS),
            ("unit", UNITS),
            ("attention", ATTENTIONS),
            ("learning", LEARNINGS),
            ("mask", MASKS),
            ("upsampling", UPSAMPLINGS),
        ):
            _check_choice(name, getattr(self, name), choices)
        for name in ("mask_features", "zero_init"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"Spec.{name} is {getattr(self, name)!r}: give true or false")
        number = isinstance(self.dropout, (int, float)) and not isinstance(self.dropout, bool)
        if not number or not 0 <= self.dropout < 1:
            raise ValueError(f"Spec.dropout is {self.dropout!r}: give a share from 0 to below 1")
        if self.mask_features and self.mask == "local_conv":
            raise ValueError("Spec.mask_features adds to an encoder_decoder mask: give that mask")
        for name, least in (
            ("p", 0),
            ("t", 1),
            ("r", 1),
            ("classes", 0),
            ("in_channels", 1),
            ("stem_width", 1),
        ):
            _check_integer(name, getattr(self, name), least)
        if self.p_after is not None:
            _check_integer("p_after", self.p_after, 0)

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
        multiple = _WIDTH_MULTIPLES.get(self.unit, 1)
        if any(width % multiple for width in self.widths):
            raise ValueError(
                f"Spec.widths {self.widths}: the unit {self.unit!r} needs multiples of {multiple}"
            )

    @property
    def stem_stride(self) -> int:
        """Pixels of the picture to one of the stem's plane."""
        return {"imagenet": 4, "cifar": 1, "compact": 2}[self.stem]

    @property
    def size_multiple(self) -> int:
        """Heights and widths of input pictures must be multiples of this, in pixels."""
        multiple = stride = self.stem_stride
        for step, count, depth in zip(self.strides, self.modules, self.mask_depths):
            stride *= step
            pooled = count and self.mask == "encoder_decoder"
            each = stride << depth if pooled else stride
            multiple = multiple * each // gcd(multiple, each)
        return multiple

    @property
    def input_size(self) -> tuple[int, int]:
        """The height and width, in pixels, that the source trains at, or the next that fit."""
        edge = 224 if self.stem == "imagenet" else 32
        edge = -(-edge // self.size_multiple) * self.size_multiple
        return edge, edge

    @property
    def trunk_depth(self) -> int:
        """Weighted layers along the trunk: 36 m + 20 for p, t, r = 1, 2, 1 (paper section 4).

        As in the paper's names a unit counts three, of whatever kind it is.
        """
        outside = sum(self.units_before) + sum(self.units_after)
        after = self.p if self.p_after is None else self.p_after
        return 3 * (outside + (self.p + self.t + after) * sum(self.modules)) + 2

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


def plain_integer(value: Any) -> Any:
    """A NumPy integer as Python's, which JSON has too; anything else as it is."""
    numpys = isinstance(value, Integral) and not isinstance(value, int)
    return int(value) if numpys else value


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Spec.{name} is {value!r}; choose one of {', '.join(choices)}")


def _check_integer(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"Spec.{name} has {value!r}: give an integer of at least {least}")
