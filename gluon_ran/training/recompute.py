"""Training that keeps less: what is cheap to compute is computed again for the backward pass.

A step is one graph, forward and backward pass together, which autograd writes once. Where a node of
its backward half reads the output of a norm, a ReLU, a cast, a scalar sum or a 1x1 convolution, it
gets a copy of that node of its own, which runs just ahead of it; so the output of the first need
not be kept. All that such copies read is kept anyway. A unit of 1x1, 3x3 and 1x1 convolutions thus
keeps its input and what its 3x3 convolution gives. It is the idea of sublinear memory (arXiv
1604.06174) and of in-place activated BatchNorm (arXiv 1712.02616).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.graph import Graph, is_relu, is_true
from gluon_ran.training.binding import bind_both_passes
from gluon_ran.training.gradient_graph import HEAD, backward_nodes, with_gradients
from gluon_ran.training.precision import symbol_of

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

# The outputs of a norm that are as large as its input: the normalised numbers, and what the form
# with a ReLU keeps for its backward pass. Means and variances are small, and stay.
_LARGE_OUTPUTS = (0, 3)

# Operators of the gate and the interpolation, and of their gradients, that oneDNN does not have.
_NATIVE = ("elemwise_mul", "_plus_scalar", "_backward_mul", "_backward_reshape")


class RecomputedPasses:
    """Forward and backward pass of a network, on some devices, that keep less in between.

    A drop-in for `RecordedPasses`: the same scores, losses and gradients, to the bit.

    Args:
        net: an initialised network.
        dtype: "float32" or "bfloat16".
        shape: (N, C, H, W) of the batches; N may differ from call to call, and each other one takes
            a graph of its own.

    Raises:
        ValueError: where a parameter's gradients are to be added up.
    """

    def __init__(self, net: HybridBlock, dtype: str, shape: tuple[int, ...]) -> None:
        self._net, self._dtype, self._shape = net, dtype, shape
        self._graphs: dict[tuple[mx.Context, int], _Graph] = {}

    def __call__(
        self, images: Sequence[mx.nd.NDArray], targets: Sequence[mx.nd.NDArray], scale: float
    ) -> tuple[list[mx.nd.NDArray], list[mx.nd.NDArray]]:
        """See `RecordedPasses`."""
        results = [self._graph(x, y)(x, y, scale) for x, y in zip(images, targets)]
        return [scores for scores, _ in results], [losses for _, losses in results]

    def _graph(self, images: mx.nd.NDArray, targets: mx.nd.NDArray) -> _Graph:
        key = (images.context, len(images))
        if key not in self._graphs:
            beside = [graph for (where, _), graph in self._graphs.items() if where == key[0]]
            shape = (len(images), *self._shape[1:])
            self._graphs[key] = _Graph(
                self._net, self._dtype, shape, targets.shape[1], images.context,
                shares=beside[0] if beside else None,
            )  # fmt: skip
        return self._graphs[key]


class _Graph:
    """Forward and backward pass on one device, for batches of one shape.

    Args:
        net: an initialised network.
        dtype: "float32" or "bfloat16".
        shape: (N, C, H, W) of the batches.
        classes: outputs of the network.
        context: the device, a CPU.
        shares: a step of another shape, whose memory this one uses too; not at the same time.
    """

    def __init__(
        self,
        net: HybridBlock,
        dtype: str,
        shape: tuple[int, ...],
        classes: int,
        context: mx.Context,
        shares: _Graph | None = None,
    ) -> None:
        # In bfloat16 MXNet counts what the fused form keeps as float32, of the size of its input.
        scores = symbol_of(net, dtype, shape, fused=dtype == "float32")
        loss = SoftmaxCrossEntropyLoss(sparse_label=False)(scores, mx.sym.var("target"))
        parameters = net.collect_params()
        self._trained = [
            parameters[name]
            for name in scores.list_arguments()
            if name != "data" and parameters[name].grad_req != "null"
        ]
        _check_grad_req(self._trained)
        self._context = context
        shapes = {"data": shape, "target": (shape[0], classes)}
        names = [parameter.name for parameter in self._trained]
        graph = recomputed(with_gradients(mx.sym.Group([loss, scores]), shapes, names))
        inputs = [*scores.list_arguments(), *scores.list_auxiliary_states()]
        known = {name: parameters[name].data(context) for name in inputs if name != "data"}
        self._executor = bind_both_passes(
            graph, context, known, {**shapes, HEAD: shape[:1]}, shares and shares._executor
        )
        # Always the same arrays, which each run writes to.
        self._losses, self._scores, *self._gradients = self._executor.outputs

    def __call__(
        self, images: mx.nd.NDArray, targets: mx.nd.NDArray, scale: float
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Leaves the gradients of the loss's sum, times `scale`, in the parameters.

        Returns:
            Scores (N, classes) and losses (N,).
        """
        self._executor.arg_dict[HEAD][:] = scale
        self._executor.forward(is_train=True, data=images, target=targets)
        for parameter, gradient in zip(self._trained, self._gradients):
            _set_gradient(parameter, self._context, gradient)
        return self._scores, self._losses


def _check_grad_req(parameters: Sequence[Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad_req != "write":
            raise ValueError(
                f"recomputation writes gradients, and grad_req of {parameter.name} is "
                f"{parameter.grad_req!r}: set it to 'write', or leave recomputation out"
            )


def _set_gradient(parameter: Parameter, context: mx.Context, gradient: mx.nd.NDArray) -> None:
    """Makes an array the parameter's gradient, as if autograd had written it.

    A copy would take the memory of all weights once more.
    """
    data, place = parameter.data(context), parameter.list_ctx().index(context)
    if parameter._grad[place] is not gradient:
        parameter._grad[place] = gradient
        autograd.mark_variables([data], [gradient], parameter.grad_req)
    data._fresh_grad = True


def recomputed(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """What `with_gradients` gave, made to keep less; the numbers stay the same to the bit."""
    graph = Graph(symbol)
    _derive_ones(graph)
    _compute_again(graph)
    _read_plain(graph)
    return graph.symbol()


def _derive_ones(graph: Graph) -> None:
    """Derives the convolutions of `Blocked`, which multiply by one, without their input."""
    for node in graph.nodes:
        if node["op"] != "_backward_Convolution":
            continue
        weight = graph.nodes[node["inputs"][2][0]]
        if weight["op"] == "amp_cast":
            weight = graph.nodes[weight["inputs"][0][0]]
        if weight["op"] == "_ones" and _is_pointwise(node, groups=node["attrs"]["num_filter"]):
            node["op"] = "Convolution"
            del node["inputs"][1], node["control_deps"]


def _compute_again(graph: Graph) -> None:
    """Gives the backward half copies of cheap nodes instead of their kept outputs."""
    count, backward = len(graph.nodes), backward_nodes(graph)
    cheap = _recomputable(graph, backward)
    copies: dict[int, int] = {}
    for number in range(count):
        if number not in backward or graph.nodes[number]["op"] == "null":
            continue
        for reference in graph.nodes[number]["inputs"]:
            if reference[0] in cheap and reference[1] in _LARGE_OUTPUTS:
                reference[0] = _copy(graph, reference[0], cheap, copies)


def _recomputable(graph: Graph, backward: set[int]) -> set[int]:
    """The cheap nodes of the forward half that read nothing but what is kept anyway."""
    kept = {
        (source, output)
        for number in backward
        for source, output, *_ in graph.nodes[number]["inputs"]
    }
    found: set[int] = set()
    for number, node in enumerate(graph.nodes):
        if number in backward or not _is_cheap(node):
            continue
        if _widens(node) or all(
            graph.nodes[source]["op"] == "null" or source in found or (source, output) in kept
            for source, output, *_ in node["inputs"]
        ):
            found.add(number)
    return found


def _is_cheap(node: dict[str, Any]) -> bool:
    names = ("BatchNorm", "_contrib_BatchNormWithReLU", "_plus_scalar", "amp_cast")
    return node["op"] in names or is_relu(node) or _is_pointwise(node)


def _is_pointwise(node: dict[str, Any], groups: str = "1") -> bool:
    """Whether a node is a 1x1 convolution, or derives one."""
    attributes = node.get("attrs", {})
    return (
        node["op"] in ("Convolution", "_backward_Convolution")
        and attributes["kernel"].replace(" ", "") == "(1,1)"
        and attributes.get("num_group", "1") == groups
    )


def _widens(node: dict[str, Any]) -> bool:
    """Whether a node's input is smaller than its output."""
    return node["op"] == "amp_cast" and node["attrs"]["dtype"] == "float32"


def _copy(graph: Graph, number: int, cheap: set[int], copies: dict[int, int]) -> int:
    """A node's copy for the backward half; its number."""
    if number not in copies:
        node = graph.nodes[number]
        inputs = [
            [_copy(graph, source, cheap, copies) if source in cheap else source, *rest]
            for source, *rest in node["inputs"]
        ]
        name = f"{node['name']}_again"
        if "BatchNorm" in node["op"] and not is_true(node, "use_global_stats", "False"):
            # Statistics of its own, lest those of the network move twice a step.
            for position, what in ((3, "mean"), (4, "var")):
                inputs[position] = [graph.add_variable(f"{name}_{what}"), 0, 0]
        graph.nodes.append({**node, "name": name, "inputs": inputs})
        copies[number] = len(graph.nodes) - 1
    return copies[number]


def _read_plain(graph: Graph) -> None:
    """Has operators without a oneDNN form read plain arrays from memory that is shared.

    Of an input in a blocked layout each would make a plain copy itself, and keep it for good.
    """
    for number in range(len(graph.nodes)):
        node = graph.nodes[number]
        if node["op"] not in _NATIVE:
            continue
        for position, reference in enumerate(node["inputs"]):
            if graph.nodes[reference[0]]["op"] in _NATIVE:
                continue
            # The operator for shapes has a oneDNN form, whose output is plain; -2 keeps the shape.
            plain = {
                "op": "Reshape",
                "name": f"{node['name']}_plain{position}",
                "attrs": {"shape": "(-2,)"},
                "inputs": [list(reference)],
            }
            graph.nodes.append(plain)
            reference[:2] = [len(graph.nodes) - 1, 0]
