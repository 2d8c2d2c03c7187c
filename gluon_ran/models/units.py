"""Residual units and the convolutions they are made of."""

from __future__ import annotations

from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401

from mxnet import init
from mxnet.gluon import HybridBlock, nn

# He et al. 2015: variance 2 / fan-in keeps the signal through a ReLU; 1 / fan-in before a sigmoid.
BEFORE_RELU = init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
BEFORE_SIGMOID = init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=1)


def conv(
    channels: int, kernel: int, stride: int = 1, weight: Any = BEFORE_RELU, groups: int = 1
) -> nn.Conv2D:
    """A bias-free convolution that keeps the plane's size but for its stride."""
    return nn.Conv2D(
        channels,
        kernel,
        stride,
        kernel // 2,
        groups=groups,
        use_bias=False,
        weight_initializer=weight,
    )


class Norm:
    """Makes every normalisation of a network from one `norm_layer` and its `norm_kwargs`."""

    def __init__(
        self,
        norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
        norm_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._layer, self._kwargs = norm_layer, dict(norm_kwargs or {})

    def __call__(self, zero: bool = False) -> HybridBlock:
        """A new normalisation layer, its scale at first 0 if `zero`."""
        scale = {"gamma_initializer": "zeros"} if zero else {}
        return self._layer(**{**self._kwargs, **scale})


class PreActivationUnit(HybridBlock):
    """Pre-activation bottleneck residual unit of inner width C/4 (He et al. 2016b, figure 1b).

    The projection shortcut, there where the shape changes, starts from the first BN-ReLU.

    Args:
        channels: C, the channels of the output.
        in_channels: channels of the input.
        stride: stride of the 3x3 convolution and of the shortcut.
        norm: makes the normalisation layers.
        zero_init: start as the identity (see `Spec.zero_init`).
    """

    pre_activation = True

    def __init__(
        self, channels: int, in_channels: int, stride: int, norm: Norm, zero_init: bool = False
    ) -> None:
        super().__init__()
        with self.name_scope():
            self.norm1 = norm()
            self.conv1 = conv(channels // 4, 1)
            self.norm2 = norm()
            self.conv2 = conv(channels // 4, 3, stride)
            self.norm3 = norm()
            self.conv3 = conv(channels, 1, weight=init.Zero() if zero_init else BEFORE_RELU)
            self.shortcut = None
            if stride != 1 or channels != in_channels:
                self.shortcut = conv(channels, 1, stride)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        y = F.Activation(self.norm1(x), act_type="relu")
        shortcut = self.shortcut(y) if self.shortcut is not None else x
        y = self.conv1(y)
        y = self.conv2(F.Activation(self.norm2(y), act_type="relu"))
        y = self.conv3(F.Activation(self.norm3(y), act_type="relu"))
        return y + shortcut


class ResNeXtUnit(HybridBlock):
    """Post-activation bottleneck of 32 groups, inner width C/2 (the authors' AttentionNeXt).

    BatchNorm behind each convolution, the shortcut's too, and a ReLU behind the sum.

    Args:
        channels: C, a multiple of 64.
        in_channels: channels of the input.
        stride: stride of the 3x3 convolution and of the shortcut.
        norm: makes the normalisation layers.
        zero_init: start as the identity (see `Spec.zero_init`).
    """

    pre_activation = False

    def __init__(
        self, channels: int, in_channels: int, stride: int, norm: Norm, zero_init: bool = False
    ) -> None:
        super().__init__()
        with self.name_scope():
            self.conv1 = conv(channels // 2, 1)
            self.norm1 = norm()
            self.conv2 = conv(channels // 2, 3, stride, groups=32)
            self.norm2 = norm()
            self.conv3 = conv(channels, 1)
            self.norm3 = norm(zero=zero_init)
            self.shortcut = None
            if stride != 1 or channels != in_channels:
                self.shortcut = nn.HybridSequential()
                with self.shortcut.name_scope():
                    self.shortcut.add(conv(channels, 1, stride), norm())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        shortcut = self.shortcut(x) if self.shortcut is not None else x
        y = F.Activation(self.norm1(self.conv1(x)), act_type="relu")
        y = F.Activation(self.norm2(self.conv2(y)), act_type="relu")
        return F.Activation(self.norm3(self.conv3(y)) + shortcut, act_type="relu")


class InceptionUnit(HybridBlock):
    """Pre-activation Inception-ResNet unit.

    The paper replaces the residual unit by one of Inception-ResNet (Szegedy et al. 2017) and prints
    nothing of it but the network's budget: 31.9 M parameters and 6.3 GMACs at 224x224. Ours is
    Inception-ResNet-A, the kind for the largest planes: branches of 1x1; 1x1, 3x3; and 1x1, 3x3,
    3x3, joined and brought back to C channels by a 1x1. BatchNorm and ReLU come first, as in
    Attention-N, so that nothing but the unit differs. Each branch gives C/8 channels, and the third
    widens from C/16 on the way, as the original's does (32, 48, 64): 31.10 M and 6.216 G, 2.5 % and
    1.3 % below the paper. C/8 throughout would give 34.03 M and 6.930 G.

    Args:
        channels: C, a multiple of 16.
        in_channels: channels of the input.
        stride: stride of each branch's last convolution and of the shortcut.
        norm: makes the normalisation layers.
        zero_init: start as the identity (see `Spec.zero_init`).
    """

    pre_activation = True

    def __init__(
        self, channels: int, in_channels: int, stride: int, norm: Norm, zero_init: bool = False
    ) -> None:
        super().__init__()
        narrow, wide = channels // 16, channels // 8
        with self.name_scope():
            self.norm1 = norm()
            self.branch1 = _chain(norm, stride, (wide, 1))
            self.branch2 = _chain(norm, stride, (wide, 1), (wide, 3))
            self.branch3 = _chain(norm, stride, (narrow, 1), (wide, 3), (wide, 3))
            self.norm2 = norm()
            self.conv = conv(channels, 1, weight=init.Zero() if zero_init else BEFORE_RELU)
            self.shortcut = None
            if stride != 1 or channels != in_channels:
                self.shortcut = conv(channels, 1, stride)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        y = F.Activation(self.norm1(x), act_type="relu")
        shortcut = self.shortcut(y) if self.shortcut is not None else x
        y = F.concat(self.branch1(y), self.branch2(y), self.branch3(y), dim=1)
        return self.conv(F.Activation(self.norm2(y), act_type="relu")) + shortcut


def _chain(norm: Norm, stride: int, *layers: tuple[int, int]) -> nn.HybridSequential:
    """Convolutions of (channels, kernel), BatchNorm and ReLU between; the last has the stride."""
    block = nn.HybridSequential()
    with block.name_scope():
        for channels, kernel in layers[:-1]:
            block.add(conv(channels, kernel), norm(), nn.Activation("relu"))
        block.add(conv(*layers[-1], stride))
    return block


UNITS = {
    "preactivation": PreActivationUnit,
    "resnext": ResNeXtUnit,
    "inception": InceptionUnit,
}
