"""A graph with its gradients as further outputs, so that one graph is both passes of a step."""

from __future__ import annotations

from collections.abc import Sequence

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.graph import Graph

import mxnet as mx
from mxnet import autograd

# Tells a node of the recorded graph, and the node that computes its gradient, from others.
_MARK = "__node__"

HEAD = "head_gradient"
_AUTOGRADS_HEAD = "_head_grad_0"


def with_gradients(
    graph: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]], variables: Sequence[str]
) -> mx.sym.Symbol:
    """The graph with the gradients of its first output as further outputs.

    Autograd records the graph operator by operator with one picture, and the backward pass too.

    Args:
        graph: what to derive; all its inputs are float32.
        shapes: of its inputs that are no parameters, the batch first.
        variables: the inputs to derive it by.

    Returns:
        The graph's outputs and a gradient for each variable, of the sum of the first output
        weighted by a new input "head_gradient" of its shape.
    """
    plain = Graph(graph)
    constants = _constants(plain)
    frontier = _frontier(plain, constants)
    arrays = {**_inputs(graph, shapes), **_outputs(graph, shapes, frontier)}
    # Autograd takes no array that it does not know for part of a graph.
    blank = [mx.nd.empty(array.shape, dtype=array.dtype) for array in arrays.values()]
    autograd.mark_variables(list(arrays.values()), blank)
    results = _recorded(_marked(graph, frontier), arrays, variables)
    recorded = Graph(mx.sym.Group([autograd.get_symbol(array) for array in results]))
    names = {autograd.get_symbol(array).name: name for name, array in arrays.items()}
    names[_AUTOGRADS_HEAD] = HEAD
    _restore(recorded, plain, names)
    _graft(recorded, plain, constants)
    return recorded.symbol()


def _inputs(graph: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]]) -> dict[str, mx.nd.NDArray]:
    """Arrays for the graph's inputs and the head gradient, of one picture.

    Nobody writes them: the numbers don't matter, and most of the memory is never touched.
    """
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    arguments, outputs, auxiliary = graph.infer_shape(**one)
    sizes = dict(zip(graph.list_arguments(), arguments))
    sizes.update(zip(graph.list_auxiliary_states(), auxiliary))
    sizes[HEAD] = outputs[0]
    return {name: mx.nd.empty(size) for name, size in sizes.items()}


def _outputs(
    graph: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]], numbers: Sequence[int]
) -> dict[str, mx.nd.NDArray]:
    """Arrays like the outputs of some nodes, by the names of the variables that stand for them."""
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    internals = graph.get_internals()
    outputs = internals.list_outputs()
    sizes = dict(zip(outputs, internals.infer_shape(**one)[1]))
    float32 = dict.fromkeys(graph.list_arguments(), "float32")
    dtypes = dict(zip(outputs, internals.infer_type(**float32)[1]))
    nodes = Graph(graph).nodes
    names = {number: f"{nodes[number]['name']}_output" for number in numbers}
    return {
        _constant(number): mx.nd.empty(sizes[name], dtype=dtypes[name])
        for number, name in names.items()
    }


def _marked(graph: mx.sym.Symbol, constants: Sequence[int]) -> mx.sym.Symbol:
    """The graph with the number of each node in it, and variables for nodes that depend on none.

    Autograd does not record what depends on no variable.
    """
    marked = Graph(graph)
    for number, node in enumerate(marked.nodes):
        if node["op"] != "null":
            node["attrs"] = {**node.get("attrs", {}), _MARK: str(number)}
        if node["op"] == "Dropout":
            # Else it would draw random numbers, which the run would miss.
            node["attrs"]["p"] = "0"
    marked.bypass({number: marked.add_variable(_constant(number)) for number in constants})
    return marked.symbol()


def _recorded(
    graph: mx.sym.Symbol, arrays: dict[str, mx.nd.NDArray], variables: Sequence[str]
) -> list[mx.nd.NDArray]:
    """The graph's outputs and the gradients of the first one, both with their history."""
    inputs = [arrays[name] for name in graph.list_inputs()]
    # Up to this many nodes it runs, and records, operator by operator.
    run = mx.nd.CachedOp(graph, [("inline_limit", str(10**9))])
    with autograd.record():
        computed = run(*inputs)
        computed = list(computed) if isinstance(computed, (list, tuple)) else [computed]
        gradients = autograd.grad(
            computed[:1],
            [arrays[name] for name in variables],
            [arrays[HEAD]],
            retain_graph=True,
            create_graph=True,
        )
    return computed + gradients


def _constants(graph: Graph) -> list[int]:
    """The nodes that depend on no variable, in order."""
    found: list[int] = []
    for number, node in enumerate(graph.nodes):
        if node["op"] != "null" and all(source in found for source, *_ in node["inputs"]):
            found.append(number)
    return found


def _frontier(graph: Graph, constants: Sequence[int]) -> list[int]:
    """Those of these nodes that others read."""
    read = {
        source
        for number, node in enumerate(graph.nodes)
        if number not in constants
        for source, *_ in node["inputs"]
    }
    return sorted(read.intersection(constants))


def _constant(number: int) -> str:
    return f"constant{number}"


def _restore(recorded: Graph, plain: Graph, names: dict[str, str]) -> None:
    """Gives a recorded graph what autograd leaves out: names, and whose gradient a node is."""
    backward = backward_nodes(recorded, names)
    forward = {}
    for number, node in enumerate(recorded.nodes):
        if node["op"] == "null":
            node["name"] = names.get(node["name"], node["name"])
            continue
        mark = node.get("attrs", {}).get(_MARK)
        if mark is None:  # sums of gradients, and gradients of zero
            continue
        node["attrs"] = plain.nodes[int(mark)].get("attrs", {})
        if number not in backward:
            forward[mark] = number
            node["name"] = plain.nodes[int(mark)]["name"]
        elif node["op"].startswith("_backward"):
            node["control_deps"] = [forward[mark]]
            if node["op"] == "_backward_Pooling" and len(node["inputs"]) == 4:
                # Which maximum it was: an output that autograd takes for a variable.
                node["inputs"][1] = [forward[mark], 1, 0]


def _graft(recorded: Graph, plain: Graph, constants: Sequence[int]) -> None:
    """Puts the nodes that depend on no variable back where variables stand for them."""
    offset = len(recorded.nodes)
    places = {number: offset + place for place, number in enumerate(constants)}
    for number in constants:
        node = plain.nodes[number]
        inputs = [[places[source], *rest] for source, *rest in node["inputs"]]
        recorded.nodes.append({**node, "inputs": inputs})
    variables = {node["name"]: i for i, node in enumerate(recorded.nodes) if node["op"] == "null"}
    recorded.bypass(
        {
            variables[_constant(number)]: place
            for number, place in places.items()
            if _constant(number) in variables
        }
    )


def backward_nodes(graph: Graph, names: dict[str, str] | None = None) -> set[int]:
    """The nodes that depend on the head gradient.

    Args:
        graph: what `with_gradients` gave.
        names: of variables, where the graph still has autograd's.
    """
    found: set[int] = set()
    for number, node in enumerate(graph.nodes):
        if node["op"] == "null":
            if (names or {}).get(node["name"], node["name"]) == HEAD:
                found.add(number)
        elif any(source in found for source, *_ in node["inputs"]):
            found.add(number)
    return found
