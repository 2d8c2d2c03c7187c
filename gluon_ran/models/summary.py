"""What a network costs: parameters, multiply-accumulates, shapes; counted on the built graph."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any, Iterator, Tuple

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data.pictures import checked_size
from gluon_ran.models.baseline import Baseline
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import Spec
from gluon_ran.models.zoo import build, find_spec

from mxnet import sym
from mxnet.gluon import HybridBlock

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class ModelSummary:
    """What a network costs at one input size.

    Attributes:
        name: the network's name.
        input_shape: (N, C, H, W) that the rest was counted at, with N = 1.
        parameters: trained numbers; BatchNorm's running statistics are not among them.
        conv_macs: multiply-accumulates of the convolutions that have weights, a picture.
        macs: those and the classifier's. The fixed interpolation matrices count in neither.
        stages: shape behind the stem, each stage and the pooling; of GluonCV's networks the
            output's alone.
    """

    name: str
    input_shape: Shape
    parameters: int
    conv_macs: int
    macs: int
    stages: dict[str, Shape]

    def __str__(self) -> str:
        lines = [
            f"{self.name} at {'x'.join(map(str, self.input_shape[2:]))}",
            f"  parameters  {self.parameters:,} ({self.parameters / 1e6:.2f} M)",
            f"  MACs        {self.macs:,} ({self.macs / 1e9:.3f} G),"
            f" {self.conv_macs / 1e6:.2f} M of them in convolutions",
        ]
        lines += [f"  {name:<10}  {' x '.join(map(str, s[1:]))}" for name, s in self.stages.items()]
        return "\n".join(lines)


def _layers(graph: Any, shapes: dict[str, Shape]) -> Iterator[tuple[str, Any, Shape, Shape]]:
    """Operator, attributes, weight and output shapes of each layer with a weight of its own."""
    nodes = json.loads(graph.tojson())["nodes"]
    for node in nodes:
        if node["op"] not in ("Convolution", "FullyConnected"):
            continue
        weight = nodes[node["inputs"][1][0]]
        if weight["op"] == "null":
            yield (
                node["op"],
                node["attrs"],
                shapes[weight["name"]],
                shapes[node["name"] + "_output"],
            )


def _shapes(graph: Any, input_shape: Shape) -> dict[str, Shape]:
    internals = graph.get_internals()
    _, outputs, _ = internals.infer_shape(data=input_shape)
    return dict(zip(internals.list_outputs(), outputs))


def count_macs(net: HybridBlock, input_shape: Shape) -> tuple[int, int]:
    """Multiply-accumulates of a network's convolutions, and of its convolutions and dense layers.

    Args:
        net: any network of one input.
        input_shape: (N, C, H, W).
    """
    graph = net(sym.var("data"))
    return _macs(graph, _shapes(graph, input_shape))


def _macs(graph: Any, shapes: dict[str, Shape]) -> tuple[int, int]:
    conv_macs = dense_macs = 0
    for op, _, weight, output in _layers(graph, shapes):
        if op == "Convolution":
            conv_macs += prod(output) * prod(weight[1:])
        else:
            dense_macs += prod(output) * weight[-1]
    return conv_macs, conv_macs + dense_macs


def _stage_shapes(net: ResidualAttentionNet, input_shape: Shape) -> dict[str, Shape]:
    marks = _marks(net)
    _, shapes, _ = sym.Group(list(marks.values())).infer_shape(data=input_shape)
    return dict(zip(marks, shapes))


def _marks(net: ResidualAttentionNet) -> dict[str, Any]:
    x = net.features.stem(sym.var("data"))
    marks = {"stem": x}
    for index, stage in enumerate(net.features.stages):
        x = marks[f"stage {index + 1}"] = stage(x)
    marks["pool"] = net.features.pool(x)
    return marks


def summary(
    what: str | Spec | Baseline | ResidualAttentionNet,
    input_size: int | tuple[int, int] | None = None,
    verbose: bool = True,
) -> ModelSummary:
    """Prints and returns what a network costs. Nothing is computed, so it need not be initialised.

    Args:
        what: a network of ours, its Spec, or the name of one, GluonCV's too.
        input_size: height and width in pixels, or one side; the Spec's own size if None.
        verbose: print it.

    Raises:
        ValueError: an unknown name, or a size that the network does not take.
    """
    if isinstance(what, ResidualAttentionNet):
        net, spec = what, what.spec
    elif isinstance(what, HybridBlock):
        raise ValueError(
            "summary takes networks of gluon_ran: give the name of one of GluonCV's, or use "
            "count_macs for any other"
        )
    else:
        spec = find_spec(what) if isinstance(what, str) else what
        net = build(spec)
    size = spec.input_size if input_size is None else checked_size(input_size)
    shape = (1, spec.in_channels, *size)
    stages: dict[str, Shape] = {}
    with ExitStack() as stack:
        if isinstance(net, ResidualAttentionNet):
            stack.enter_context(net.traced_for(shape))
            stages = _stage_shapes(net, shape)
        graph = net(sym.var("data"))
    shapes = _shapes(graph, shape)
    conv_macs, macs = _macs(graph, shapes)
    stages["output"] = shapes[graph.list_outputs()[0]]
    # A frozen weight is a parameter all the same; a running statistic never is.
    numbers = (p for p in net.collect_params().values() if p._differentiable)
    result = ModelSummary(
        spec.name, shape, sum(prod(p.shape) for p in numbers), conv_macs, macs, stages
    )
    if verbose:
        print(result)
    return result
