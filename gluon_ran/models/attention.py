"""The attention module: trunk branch, soft mask branch of any depth, and their product."""

from __future__ import annotations

from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.units import BEFORE_SIGMOID, Norm, conv
from gluon_ran.models.upsampling import Plane

from mxnet.gluon import HybridBlock, nn

UnitMaker = Callable[[], HybridBlock]


def _units(count: int, unit: UnitMaker) -> nn.HybridSequential:
    block = nn.HybridSequential()
    with block.name_scope():
        for _ in range(count):
            block.add(unit())
    return block


class MaskBranch(HybridBlock):
    """Bottom-up, top-down part of the soft mask branch: `depth` halvings down and back up.

    Max-pool, r units, then the next level beside this level's skip unit, r units, interpolation.
    At the lowest level there is no next one, which leaves 2r units. Nothing but the skip units'
    output is added on the way up (the authors' Caffe definitions).

    Args:
        depth: halvings from here on, at least 1.
        r: units between adjacent poolings.
        unit: makes a residual unit that keeps the shape.
        plane: the module's planes.
        level: halvings above this branch.
    """

    def __init__(self, depth: int, r: int, unit: UnitMaker, plane: Plane, level: int = 0) -> None:
        super().__init__()
        with self.name_scope():
            self.pool = nn.MaxPool2D(3, 2, 1)
            self.down = _units(r, unit)
            self.skip = self.inner = None
            if depth > 1:
                self.skip = unit()
                self.blocked = plane.blocked()
                self.inner = MaskBranch(depth - 1, r, unit, plane, level + 1)
            self.up = _units(r, unit)
            self.upsample = plane.upsample(level)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the same shape."""
        y = self.down(self.pool(x))
        if self.inner is not None:
            # The skip's gradient thus has a buffer of its own, which others can be added into.
            y = self.inner(y) + self.blocked(self.skip(y))
        return self.upsample(self.up(y))


class MaskHead(HybridBlock):
    """BN, ReLU, 1x1, BN, ReLU, 1x1, sigmoid: the mixed attention f1 (paper section 3.1)."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        with self.name_scope():
            self.norm1 = norm()
            self.conv1 = conv(channels, 1)
            self.norm2 = norm()
            self.conv2 = conv(channels, 1, weight=BEFORE_SIGMOID)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the soft mask, the same shape, in (0, 1)."""
        y = self.conv1(F.Activation(self.norm1(x), act_type="relu"))
        y = self.conv2(F.Activation(self.norm2(y), act_type="relu"))
        return F.Activation(y, act_type="sigmoid", name="mask")


class AttentionModule(HybridBlock):
    """p units, then (1 + M) * T of mask and trunk branch, then p units (paper section 3).

    Args:
        plane: the stage's planes.
        mask_depth: halvings in the mask branch.
        p: pre-processing units, and as many post-processing ones.
        t: units of the trunk branch.
        r: units between adjacent poolings of the mask branch.
        unit: makes a residual unit that keeps the shape.
        norm: makes the normalisation layers.
    """

    def __init__(
        self,
        plane: Plane,
        mask_depth: int,
        p: int,
        t: int,
        r: int,
        unit: UnitMaker,
        norm: Norm,
    ) -> None:
        super().__init__()
        with self.name_scope():
            self.pre = _units(p, unit)
            self.trunk = _units(t, unit)
            self.mask = MaskBranch(mask_depth, r, unit, plane)
            self.head = MaskHead(plane.channels, norm)
            self.blocked = plane.blocked()
            self.post = _units(p, unit)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the same shape."""
        x = self.pre(x)
        mask = self.head(self.mask(x))
        return self.post(self.blocked((1 + mask) * self.trunk(x)))
