"""Residual units and the convolutions they are made of."""

from __future__ import annotations

from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401

from mxnet import init
from mxnet.gluon import HybridBlock, nn

# He et al. 2015: variance 2 / fan-in keeps the signal through a ReLU; 1 / fan-in before a sigmoid.
BEFORE_RELU = init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
BEFORE_SIGMOID = init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=1)


def conv(channels: int, kernel: int, stride: int = 1, weight: Any = BEFORE_RELU) -> nn.Conv2D:
    """A bias-free convolution that keeps the plane's size but for its stride."""
    return nn.Conv2D(
        channels, kernel, stride, kernel // 2, use_bias=False, weight_initializer=weight
    )


class Norm:
    """Makes every normalisation of a network from one `norm_layer` and its `norm_kwargs`."""

    def __init__(
        self,
        norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
        norm_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._layer, self._kwargs = norm_layer, dict(norm_kwargs or {})

    def __call__(self) -> HybridBlock:
        """A new normalisation layer."""
        return self._layer(**self._kwargs)


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
