"""The network that a Spec describes."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.attention import AttentionModule, MaskHead
from gluon_ran.models.attention_maps import AttentionMaps, KeptGraphs, mask_graph
from gluon_ran.models.spec import Spec
from gluon_ran.models.units import BEFORE_SIGMOID, UNITS, Norm, conv
from gluon_ran.models.upsampling import Blocked, Plane, Trace

from mxnet import nd, sym
from mxnet.gluon import HybridBlock, nn


class _PictureBlock(HybridBlock):
    """A block that takes pictures: checks their size and is traced anew when it changes."""

    def __init__(self, spec: Spec, trace: Trace) -> None:
        super().__init__()
        self._spec, self._trace = spec, trace
        self._traced_size: tuple[int, int] | None = None

    def forward(self, x: Any, *args: Any) -> Any:
        """Checks the shape of `x`, (N, channels, H, W), then runs the network.

        Raises:
            ValueError: the shape is not one that the network takes.
        """
        if isinstance(x, nd.NDArray):
            self._set_size(x.shape)
        return super().forward(x, *args)

    def cast(self, dtype: str | type) -> None:
        """Computes in another type from then on; MXNet's CPU build has no float16 convolutions.

        Raises:
            ValueError: the attention is "spatial", whose InstanceNorm has float32 alone.
        """
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        if name != "float32" and self._spec.attention == "spatial":
            raise ValueError(
                f"attention 'spatial' computes in float32 alone, not {name}: MXNet's InstanceNorm "
                "has no other"
            )
        super().cast(dtype)
        for parameter in self.collect_params().values():
            parameter._var = None  # MXNet's own cast leaves the symbol of the type before
        self._trace.dtype = name

    @contextmanager
    def traced_for(self, shape: tuple[int, ...], portable: bool = False) -> Iterator[None]:
        """While this is open, calls on symbols build the graph for that `shape`, (N, C, H, W).

        Args:
            shape: of the pictures.
            portable: build it of operators that ONNX has too; the same scores.

        Raises:
            ValueError: the shape is not one that the network takes.
        """
        check_input_shape(self._spec, shape)
        trace, before = self._trace, dict(vars(self._trace))
        trace.size, trace.portable = shape[2:], portable
        trace.blocked = trace.blocked and not portable
        try:
            yield
        finally:
            vars(trace).update(before)

    def _set_size(self, shape: tuple[int, ...]) -> None:
        check_input_shape(self._spec, shape)
        size = shape[2:]
        self._trace.size = size
        if self._traced_size != size:
            self._traced_size = size
            self._clear_cached_op()


def check_input_shape(spec: Spec, shape: tuple[int, ...]) -> None:
    """Refuses a batch of pictures that the network cannot take.

    Raises:
        ValueError: not (N, channels, H, W), or H or W is not a multiple of `spec.size_multiple`.
    """
    if len(shape) != 4 or shape[1] != spec.in_channels:
        raise ValueError(f"{spec.name} takes (N, {spec.in_channels}, H, W) pictures, not {shape}")
    step = spec.size_multiple
    if any(edge % step or not edge for edge in shape[2:]):
        nearest = " or ".join(
            f"{height}x{width}"
            for height, width in sorted(
                {
                    tuple(max(step, (edge + up) // step * step) for edge in shape[2:])
                    for up in (0, step - 1)
                }
            )
        )
        raise ValueError(
            f"{spec.name} halves its planes, so heights and widths must be multiples of {step}; "
            f"got {shape[2]}x{shape[3]}, resize or crop to {nearest}"
        )


def _use_running_statistics(norm: nn.BatchNorm, use: bool) -> None:
    norm._kwargs["use_global_stats"] = use
    norm._clear_cached_op()


def batch_norms(block: HybridBlock, prefix: str = "") -> dict[str, nn.BatchNorm]:
    """The BatchNorms in a block, by structural name."""
    found = {prefix: block} if isinstance(block, nn.BatchNorm) else {}
    for name, child in block._children.items():
        found.update(batch_norms(child, f"{prefix}{name}."))
    return found


def _stem(spec: Spec, norm: Norm, trace: Trace) -> nn.HybridSequential:
    width = spec.stem_width
    block = nn.HybridSequential()
    with block.name_scope():
        kernel = {"imagenet": 7, "cifar": 3, "compact": 5}[spec.stem]
        block.add(conv(width, kernel, 2 if spec.stem == "imagenet" else 1))
        # Of three channels oneDNN makes a plain output in bfloat16.
        block.add(Blocked(width, trace), norm(), nn.Activation("relu"))
        if spec.stem == "imagenet":
            block.add(nn.MaxPool2D(3, 2, 1))
        elif spec.stem == "compact":
            block.add(nn.MaxPool2D(2, 2))
    return block


def _stage(
    spec: Spec, index: int, in_channels: int, norm: Norm, plane: Plane
) -> nn.HybridSequential:
    kind = UNITS[spec.unit]
    unit = partial(kind, plane.channels, norm=norm, zero_init=spec.zero_init)
    keep = partial(unit, in_channels=plane.channels, stride=1)
    head = partial(
        MaskHead, norm=norm, attention=spec.attention, pre_activation=kind.pre_activation
    )
    block = nn.HybridSequential()
    with block.name_scope():
        block.add(unit(in_channels=in_channels, stride=spec.strides[index]))
        for _ in range(spec.units_before[index] - 1):
            block.add(keep())
        for _ in range(spec.modules[index]):
            block.add(AttentionModule(spec, spec.mask_depths[index], plane, keep, head))
        for _ in range(spec.units_after[index]):
            block.add(keep())
    return block


class _Features(_PictureBlock):
    """Everything before the classifier: stem, stages, global average pool.

    A BatchNorm and a ReLU lie before the pool where the units leave their sum bare.
    """

    def __init__(self, spec: Spec, trace: Trace, norm: Norm) -> None:
        super().__init__(spec, trace)
        stride, in_channels = spec.stem_stride, spec.stem_width
        with self.name_scope():
            self.stem = _stem(spec, norm, trace)
            self.stages = nn.HybridSequential()
            with self.stages.name_scope():
                for index, width in enumerate(spec.widths):
                    stride *= spec.strides[index]
                    plane = Plane(width, stride, spec.upsampling, trace)
                    self.stages.add(_stage(spec, index, in_channels, norm, plane))
                    in_channels = width
            self.norm = norm() if UNITS[spec.unit].pre_activation else None
            self.pool = nn.GlobalAvgPool2D()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, channels, H, W) to (N, width of the last stage)."""
        x = self.stages(self.stem(x))
        if self.norm is not None:
            x = F.Activation(self.norm(x), act_type="relu")
        return F.flatten(self.pool(x))


class ResidualAttentionNet(_PictureBlock):
    """Residual Attention Network (arXiv 1704.06904) as a Spec describes it.

    `features` gives the pooled embedding, `output` the classifier's scores for it; without classes
    it is None. Initialisation is part of the layers: `net.initialize()` needs no argument.

    Args:
        spec: what to build.
        norm_layer: class of every normalisation layer, for example SyncBatchNorm.
        norm_kwargs: its keyword arguments.
    """

    def __init__(
        self,
        spec: Spec,
        norm_layer: Callable[..., HybridBlock] = nn.BatchNorm,
        norm_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(spec, Trace(spec.input_size))
        self._graphs = KeptGraphs()
        # How it was before: grad_req of parameters and use_global_stats of norms, by name.
        self._thawed = SimpleNamespace(grad_reqs={}, statistics={})
        with self.name_scope():
            self.features = _Features(spec, self._trace, Norm(norm_layer, norm_kwargs))
            self.dropout = nn.Dropout(spec.dropout) if spec.dropout else None
            self.output = None
            if spec.classes:
                self.output = nn.Dense(
                    spec.classes, in_units=spec.widths[-1], weight_initializer=BEFORE_SIGMOID
                )
        self.infer_shape(nd.empty((1, spec.in_channels) + spec.input_size))
        self._clear_cached_op()

    @property
    def spec(self) -> Spec:
        """What this network is."""
        return self._spec

    @property
    def dtype(self) -> str:
        """What it computes in: float32, unless `cast` made it another."""
        return self._trace.dtype

    @property
    def blocked(self) -> bool:
        """Whether the graph is built to keep oneDNN's blocked layout; same outputs, CPUs only."""
        return self._trace.blocked

    @blocked.setter
    def blocked(self, value: bool) -> None:
        if value != self._trace.blocked:
            self._trace.blocked = value
            self._clear_cached_op()
            self.features._clear_cached_op()

    def freeze(self, stages: int | None = 0) -> None:
        """Keeps the stem and the first stages from training: weights and running statistics.

        Their BatchNorms normalise by the running statistics from then on, in training too.

        Args:
            stages: how many stages to keep, 0 for the stem alone; None undoes what was frozen.

        Raises:
            ValueError: there are not so many stages.
        """
        kept = 0 if stages is None else stages
        if not 0 <= kept <= len(self._spec.widths):
            raise ValueError(
                f"{self._spec.name} has {len(self._spec.widths)} stages: freeze 0 to that many, "
                f"not {stages}"
            )
        self._unfreeze()
        if stages is not None:
            parts = ("features.stem.", *(f"features.stages.{i}." for i in range(kept)))
            for name, parameter in self._collect_params_with_prefix().items():
                if name.startswith(parts):
                    self._thawed.grad_reqs[name] = parameter.grad_req
                    parameter.grad_req = "null"
            for name, norm in batch_norms(self).items():
                if name.startswith(parts):
                    self._thawed.statistics[name] = norm._kwargs["use_global_stats"]
                    _use_running_statistics(norm, True)
        self._clear_cached_op()
        self.features._clear_cached_op()
        self._graphs.forget()

    def _unfreeze(self) -> None:
        parameters, norms = self._collect_params_with_prefix(), batch_norms(self)
        for name, grad_req in self._thawed.grad_reqs.items():
            parameters[name].grad_req = grad_req
        for name, use in self._thawed.statistics.items():
            _use_running_statistics(norms[name], use)
        self._thawed = SimpleNamespace(grad_reqs={}, statistics={})

    def masks(self, x: nd.NDArray) -> list[nd.NDArray]:
        """Soft masks of a batch, one a module in the order of the forward pass, in inference mode.

        Args:
            x: (N, channels, H, W).

        Returns:
            An (N, C, H / s, W / s) array for each module, s its stage's stride: in (0, 1), or
            (-1, 1) for the attention "channel".
        """
        check_input_shape(self._spec, x.shape)
        return self._graphs.masks(self, x)

    def attention(self, x: nd.NDArray) -> list[AttentionMaps]:
        """The trunk before each soft mask, the mask, and their product; see `masks`.

        One pass gives all of them, so the masks are those of the other two.

        Args:
            x: (N, channels, H, W).

        Returns:
            Three (N, C, H / s, W / s) arrays for each module.
        """
        check_input_shape(self._spec, x.shape)
        return self._graphs.attention(self, x)

    def mask_graph(self, shape: tuple[int, ...]) -> sym.Symbol | None:
        """The symbol of all masks for pictures "data" of a shape; None without modules.

        Args:
            shape: (N, channels, H, W).
        """
        return mask_graph(self, shape)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """(N, channels, H, W) to (N, classes) scores before the softmax, or to the embedding."""
        x = self.features(x)
        if self.output is None:
            return x
        return self.output(x if self.dropout is None else self.dropout(x))
