"""Networks of GluonCV's zoo to compare with, as the paper does in its study of label noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable

from gluon_ran import _runtime
from gluon_ran.models.spec import plain_integer
from gluon_ran.models.units import BEFORE_RELU, BEFORE_SIGMOID

from mxnet import nd
from mxnet.gluon import HybridBlock, nn

BASELINES = (
    *(f"cifar_resnet{depth}_v{version}" for version in (1, 2) for depth in (20, 56, 110)),
    "cifar_wideresnet16_10",
    "cifar_wideresnet28_10",
    "cifar_wideresnet40_8",
    "cifar_resnext29_32x4d",
    "cifar_resnext29_16x64d",
)


@dataclass(frozen=True)
class Baseline:
    """A network of GluonCV's zoo.

    Attributes:
        name: GluonCV's name, one of `BASELINES`.
        classes: outputs of the classifier.

    Raises:
        ValueError: the name is not one of them, or there is no class.
    """

    name: str
    classes: int = 10

    def __post_init__(self) -> None:
        if self.name not in BASELINES:
            raise ValueError(f"no baseline is called {self.name!r}; there are: {BASELINES}")
        object.__setattr__(self, "classes", plain_integer(self.classes))
        if not isinstance(self.classes, int) or self.classes < 1:
            raise ValueError(f"Baseline.classes is {self.classes!r}: give an integer of at least 1")

    @property
    def in_channels(self) -> int:
        """Channels of the pictures."""
        return 3

    @property
    def input_size(self) -> tuple[int, int]:
        """The height and width, in pixels, that the source trains at."""
        return (32, 32)

    @property
    def size_multiple(self) -> int:
        """Heights and widths of input pictures must be multiples of this, in pixels."""
        return 1

    def to_json(self) -> str:
        """The Baseline as JSON text; its "baseline" tells it from a Spec."""
        return json.dumps({"baseline": self.name, "classes": self.classes}, indent=2) + "\n"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Baseline:
        """The Baseline of the fields that `to_json` wrote.

        Raises:
            ValueError: they are others.
        """
        if set(values) != {"baseline", "classes"}:
            raise ValueError(f"a baseline has a name and classes, not {values!r}")
        return cls(values["baseline"], values["classes"])

    def build(
        self,
        norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
        norm_kwargs: dict[str, Any] | None = None,
    ) -> HybridBlock:
        """GluonCV's network, initialised by `initialize()` as He et al. 2015 do.

        GluonCV leaves the initialisation to its scripts; without it MXNet's default, uniform
        between -0.07 and 0.07, would be taken whatever the fan-in.
        """
        zoo = _runtime.load_gluoncv().model_zoo
        net = zoo.get_model(
            self.name, classes=self.classes, norm_layer=norm_layer, norm_kwargs=norm_kwargs
        )
        net.infer_shape(nd.empty((1, self.in_channels, *self.input_size)))
        net._clear_cached_op()
        for name, parameter in net.collect_params(".*weight").items():
            parameter.init = BEFORE_SIGMOID if "dense" in name else BEFORE_RELU
        return net


def list_baselines() -> list[str]:
    """Names of GluonCV's networks that `get_model` builds."""
    return list(BASELINES)
