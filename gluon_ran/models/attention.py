"""The attention module: trunk branch, soft mask branch of any depth, and their product."""

from __future__ import annotations

from typing import Any, Callable

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.spec import Spec
from gluon_ran.models.units import BEFORE_SIGMOID, Norm, conv
from gluon_ran.models.upsampling import Plane

from mxnet.gluon import HybridBlock, nn

UnitMaker = Callable[[], HybridBlock]
HeadMaker = Callable[[Plane], HybridBlock]

# Added to the sum of squares of a position and to a plane's variance: neither may divide by 0.
CHANNEL_EPSILON = 1e-6
SPATIAL_EPSILON = 1e-5


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
    output is added on the way up (the authors' Caffe definitions) unless `spec.mask_features`.

    Args:
        spec: gives r and what is added.
        depth: halvings from here on, at least 1.
        unit: makes a residual unit that keeps the shape.
        plane: the module's planes.
        level: halvings above this branch.
    """

    def __init__(
        self, spec: Spec, depth: int, unit: UnitMaker, plane: Plane, level: int = 0
    ) -> None:
        super().__init__()
        self._adds_features = spec.mask_features
        with self.name_scope():
            self.pool = nn.MaxPool2D(3, 2, 1)
            self.down = _units(spec.r, unit)
            self.skip = self.inner = None
            if depth > 1:
                self.skip = unit()
                self.blocked = plane.blocked()
                self.inner = MaskBranch(spec, depth - 1, unit, plane, level + 1)
            self.up = _units(spec.r, unit)
            self.upsample = plane.upsample(level)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the same shape."""
        y = self.down(self.pool(x))
        if self.inner is not None:
            # The skip's gradient thus has a buffer of its own, which others can be added into.
            skip = self.blocked(self.skip(y))
            y = self.inner(y) + (skip + y if self._adds_features else skip)
        return self.upsample(self.up(y))


def _mask_branch(spec: Spec, depth: int, unit: UnitMaker, plane: Plane) -> HybridBlock:
    if depth and spec.mask == "encoder_decoder":
        return MaskBranch(spec, depth, unit, plane)
    # As many units as that branch of this depth has: r a level down and up, and the skips.
    return _units(2 * spec.r * max(depth, 1) + max(depth - 1, 0), unit)


class MaskHead(HybridBlock):
    """BN, ReLU, 1x1, BN, ReLU, 1x1, then the attention's normalisation (paper section 3.1).

    Args:
        plane: the stage's planes.
        norm: makes the normalisation layers.
        attention: see `Spec.attention`.
        pre_activation: whether BN and ReLU come first, as behind pre-activation units.
    """

    def __init__(
        self, plane: Plane, norm: Norm, attention: str = "mixed", pre_activation: bool = True
    ) -> None:
        super().__init__()
        self._attention, self._trace = attention, plane.trace
        self._channels = channels = plane.channels
        with self.name_scope():
            self.norm1 = norm() if pre_activation else None
            self.conv1 = conv(channels, 1)
            self.norm2 = norm()
            self.conv2 = conv(channels, 1, weight=BEFORE_SIGMOID)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the soft mask, the same shape: in (0, 1), or (-1, 1) for "channel"."""
        if self.norm1 is not None:
            x = F.Activation(self.norm1(x), act_type="relu")
        y = self.conv1(x)
        y = self.conv2(F.Activation(self.norm2(y), act_type="relu"))
        return self._attend(F, y)

    def _attend(self, F: Any, y: Any) -> Any:
        if self._attention == "channel" and self._trace.portable:
            # ONNX's L2 normalisation has no epsilon.
            squares = F.sum(F.square(y), axis=1, keepdims=True)
            return F.broadcast_div(y, F.sqrt(squares + CHANNEL_EPSILON), name="mask")
        if self._attention == "channel":
            return F.L2Normalization(y, mode="channel", eps=CHANNEL_EPSILON, name="mask")
        if self._attention == "spatial":
            one, zero = F.ones((self._channels,)), F.zeros((self._channels,))
            y = F.InstanceNorm(y, one, zero, eps=SPATIAL_EPSILON)
        return F.Activation(y, act_type="sigmoid", name="mask")


class AttentionModule(HybridBlock):
    """p units, then (1 + M) * T of mask and trunk branch, then p units (paper section 3).

    Args:
        spec: gives p, t, r, the mask's kind and how it meets the trunk.
        mask_depth: halvings in the mask branch.
        plane: the stage's planes.
        unit: makes a residual unit that keeps the shape.
        head: makes the mask branch's head for the planes of a stage.
    """

    def __init__(
        self, spec: Spec, mask_depth: int, plane: Plane, unit: UnitMaker, head: HeadMaker
    ) -> None:
        super().__init__()
        self._residual = spec.learning == "residual"
        self._adds_features = spec.mask_features and mask_depth > 0
        with self.name_scope():
            self.pre = _units(spec.p, unit)
            self.trunk = _units(spec.t, unit)
            self.mask = _mask_branch(spec, mask_depth, unit, plane)
            self.head = head(plane)
            self.blocked = plane.blocked()
            self.post = _units(spec.p if spec.p_after is None else spec.p_after, unit)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, C, H, W) to the same shape."""
        x = self.pre(x)
        trunk, mask = self.trunk(x), self.mask(x)
        mask = self.head(mask + trunk if self._adds_features else mask)
        # Where nothing is added, the sum still keeps the product float32 in bfloat16 training.
        gate = mask + float(self._residual)
        # Else the trunk's gradient is a plain array, and so are the sums along all its units.
        return self.post(self.blocked(gate * self.blocked(trunk)))
