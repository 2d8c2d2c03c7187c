"""A symbol's nodes, to be looked at and rewritten."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from gluon_ran import _runtime  # noqa: F401

import mxnet as mx


class Graph:
    """The nodes of a symbol; nodes are named by their number.

    Attributes:
        nodes: as MXNet writes them to JSON.

    Args:
        symbol: what to rewrite; it stays as it is.
    """

    def __init__(self, symbol: mx.sym.Symbol) -> None:
        self._content = json.loads(symbol.tojson(remove_amp_cast=False))
        self.nodes: list[dict[str, Any]] = self._content["nodes"]

    def source(self, number: int, position: int = 0) -> int:
        """The node that a node's input comes from."""
        return self.nodes[number]["inputs"][position][0]

    def readers(self) -> dict[int, list[int | None]]:
        """The nodes that read each node, None for the caller who gets an output."""
        found = defaultdict(list)
        for number, node in enumerate(self.nodes):
            for source, *_ in node["inputs"]:
                found[source].append(number)
        for source, *_ in self._content["heads"]:
            found[source].append(None)
        return found

    def bypass(self, replaced: dict[int, int]) -> None:
        """Has the readers of each key read its value, a node, instead."""

        def final(number: int) -> int:
            while number in replaced:
                number = replaced[number]
            return number

        for inputs in (*(node["inputs"] for node in self.nodes), self._content["heads"]):
            for reference in inputs:
                reference[0] = final(reference[0])

    def add_variable(self, name: str) -> int:
        """A new input of the graph; its number."""
        self.nodes.append({"op": "null", "name": name, "inputs": []})
        return len(self.nodes) - 1

    def symbol(self) -> mx.sym.Symbol:
        """The graph as it is now."""
        variables = [i for i, node in enumerate(self.nodes) if node["op"] == "null"]
        content = {**self._content, "nodes": self.nodes, "arg_nodes": variables}
        content.pop("node_row_ptr", None)
        return mx.sym.load_json(json.dumps(content))


def is_relu(node: dict[str, Any]) -> bool:
    """Whether a node is a ReLU."""
    return node["op"] == "Activation" and node["attrs"]["act_type"] == "relu"


def is_true(node: dict[str, Any], attribute: str, default: str) -> bool:
    """Whether a node's attribute is set."""
    return node.get("attrs", {}).get(attribute, default) in ("True", "1")
