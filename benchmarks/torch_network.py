"""The networks of a Spec in PyTorch: the peer of throughput.py, and equal to ours.

Needs PyTorch alone. Modules bear the names that our blocks have, so that weights go over by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What this file builds; of a Spec's other fields every value.
_COVERED = {
    "unit": ("preactivation",),
    "attention": ("mixed",),
    "learning": ("residual",),
    "mask": ("encoder_decoder",),
    "mask_features": (False,),
    "stem": ("imagenet", "cifar"),
}
# MXNet's names of the arrays of a BatchNorm, where PyTorch has others.
_RENAMED = {"gamma": "weight", "beta": "bias"}

UnitMaker = Callable[[], nn.Module]


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)


class Unit(nn.Module):
    """Pre-activation bottleneck residual unit.

    Args:
        in_channels: channels of the input.
        channels: channels of the output; a quarter of them inside.
        stride: stride of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = channels // 4
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _conv(in_channels, inner, 1)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = _conv(inner, inner, 3, stride)
        self.norm3 = nn.BatchNorm2d(inner)
        self.conv3 = _conv(inner, channels, 1)
        self.shortcut = None
        if stride != 1 or channels != in_channels:
            self.shortcut = _conv(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        y = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(F.relu(self.norm2(y), inplace=True))
        y = self.conv3(F.relu(self.norm3(y), inplace=True))
        return y.add_(shortcut)


class MaskBranch(nn.Module):
    """Bottom-up, top-down part of the soft mask branch.

    Args:
        depth: halvings from here on, at least 1.
        r: units between adjacent poolings.
        unit: makes a unit that keeps the shape.
    """

    def __init__(self, depth: int, r: int, unit: UnitMaker) -> None:
        super().__init__()
        self.down = _units(r, unit)
        self.skip = self.inner = None
        if depth > 1:
            self.skip = unit()
            self.inner = MaskBranch(depth - 1, r, unit)
        self.up = _units(r, unit)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = self.down(F.max_pool2d(x, 3, 2, 1))
        if self.inner is not None:
            y = self.inner(y).add_(self.skip(y))
        size = x.shape[2:]
        return F.interpolate(self.up(y), size, mode="bilinear", align_corners=True)


class MaskHead(nn.Module):
    """BN, ReLU, 1x1, BN, ReLU, 1x1, sigmoid.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = _conv(channels, channels, 1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the soft mask of the same shape."""
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        return self.conv2(F.relu(self.norm2(y), inplace=True)).sigmoid_()


class AttentionModule(nn.Module):
    """p units, (1 + M) * T of mask and trunk branch, p units.

    Args:
        spec: gives p, t and r.
        mask_depth: halvings in the mask branch; without any it is 2r units.
        channels: C.
        unit: makes a unit that keeps the shape.
    """

    def __init__(
        self, spec: Mapping[str, Any], mask_depth: int, channels: int, unit: UnitMaker
    ) -> None:
        super().__init__()
        p, r = spec["p"], spec["r"]
        self.pre = _units(p, unit)
        self.trunk = _units(spec["t"], unit)
        self.mask = MaskBranch(mask_depth, r, unit) if mask_depth else _units(2 * r, unit)
        self.head = MaskHead(channels)
        self.post = _units(p if spec["p_after"] is None else spec["p_after"], unit)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x = self.pre(x)
        trunk = self.trunk(x)
        return self.post(torch.addcmul(trunk, self.head(self.mask(x)), trunk))


class ResidualAttentionNet(nn.Module):
    """The network that a Spec describes.

    Args:
        spec: its fields.

    Raises:
        ValueError: a Spec that is not covered here.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        check_spec(spec)
        width, in_channels = spec["widths"][-1], spec["stem_width"]
        stages = nn.Sequential()
        for index, channels in enumerate(spec["widths"]):
            stages.append(_stage(spec, index, in_channels))
            in_channels = channels
        self.features = nn.ModuleDict(
            {"stem": _stem(spec), "stages": stages, "norm": nn.BatchNorm2d(width)}
        )
        self.dropout = nn.Dropout(spec["dropout"])
        self.output = nn.Linear(width, spec["classes"])

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, classes) scores before the softmax."""
        x = self.features["stages"](self.features["stem"](x))
        x = F.relu(self.features["norm"](x), inplace=True)
        return self.output(self.dropout(x.mean((2, 3))))


def check_spec(spec: Mapping[str, Any]) -> None:
    """Refuses a Spec that this file does not cover.

    Raises:
        ValueError: says which field.
    """
    for name, values in _COVERED.items():
        if spec[name] not in values:
            covered = " or ".join(map(str, values))
            raise ValueError(
                f"the PyTorch network has {name} {covered} alone, and {spec['name']} has "
                f"{spec[name]!r}"
            )
    if not spec["classes"]:
        raise ValueError(f"the PyTorch network has a classifier, and {spec['name']} has none")


def load_weights(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a network the arrays of ours.

    Args:
        net: what to fill.
        arrays: by structural name, `features.stem.0.weight` for example.

    Raises:
        RuntimeError: arrays that the network has not, or has in another shape, or lacks.
    """
    state = {}
    for name, array in arrays.items():
        block, _, kind = name.rpartition(".")
        state[f"{block}.{_RENAMED.get(kind, kind)}"] = torch.from_numpy(array)
    # The number of batches that a BatchNorm has seen counts for nothing at a fixed momentum.
    counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
    net.load_state_dict({**counters, **state})


def _stem(spec: Mapping[str, Any]) -> nn.Sequential:
    width, imagenet = spec["stem_width"], spec["stem"] == "imagenet"
    layers = OrderedDict()
    layers["0"] = _conv(spec["in_channels"], width, *((7, 2) if imagenet else (3,)))
    layers["2"] = nn.BatchNorm2d(width)
    layers["3"] = nn.ReLU(inplace=True)
    if imagenet:
        layers["4"] = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(layers)


def _stage(spec: Mapping[str, Any], index: int, in_channels: int) -> nn.Sequential:
    channels, depth = spec["widths"][index], spec["mask_depths"][index]
    keep = partial(Unit, channels, channels)
    return nn.Sequential(
        Unit(in_channels, channels, spec["strides"][index]),
        *(keep() for _ in range(spec["units_before"][index] - 1)),
        *(AttentionModule(spec, depth, channels, keep) for _ in range(spec["modules"][index])),
        *(keep() for _ in range(spec["units_after"][index])),
    )


def _units(count: int, unit: UnitMaker) -> nn.Sequential:
    return nn.Sequential(*(unit() for _ in range(count)))
