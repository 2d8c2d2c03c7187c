"""The rewriting of symbols; small graphs made here."""

from gluon_ran.models.graph import Graph, is_relu, is_true

import mxnet as mx


def chain():
    data = mx.sym.var("data")
    first = mx.sym.Activation(data, act_type="relu", name="first")
    second = mx.sym.Activation(first, act_type="sigmoid", name="second")
    return mx.sym.Group([second + first, second])


def number(graph, name):
    (found,) = (i for i, node in enumerate(graph.nodes) if node["name"] == name)
    return found


def test_unchanged_graph_is_the_symbol():
    symbol = chain()
    assert Graph(symbol).symbol().tojson() == symbol.tojson()


def test_readers_name_each_reader_and_the_outputs():
    graph = Graph(chain())
    readers = graph.readers()
    total = number(graph, graph.symbol().list_outputs()[0].rsplit("_", 1)[0])
    assert readers[number(graph, "first")] == [number(graph, "second"), total]
    assert readers[number(graph, "second")] == [total, None]
    assert readers[total] == [None]


def test_bypass_follows_chains_and_reaches_outputs():
    graph = Graph(chain())
    first, second, data = (number(graph, name) for name in ("first", "second", "data"))
    graph.bypass({second: first, first: data})
    x = mx.nd.array([-1.0, 2.0])
    total, same = graph.symbol().eval(data=x)
    assert total.asnumpy().tolist() == [-2, 4]
    assert same.asnumpy().tolist() == [-1, 2]


def test_added_variable_can_be_read():
    graph = Graph(mx.sym.elemwise_add(mx.sym.var("a"), mx.sym.var("b"), name="sum"))
    graph.nodes[number(graph, "sum")]["inputs"][1][0] = graph.add_variable("c")
    symbol = graph.symbol()
    assert symbol.list_arguments() == ["a", "c"]
    assert symbol.eval(a=mx.nd.ones(1), c=mx.nd.ones(1) * 4)[0].asscalar() == 5


def test_casts_survive():
    symbol = mx.sym.amp_cast(mx.sym.var("data"), dtype="float16", name="cast")
    assert [node["op"] for node in Graph(Graph(symbol).symbol()).nodes] == ["null", "amp_cast"]


def test_attributes_are_read_with_their_defaults():
    relu, sigmoid = (Graph(chain()).nodes[i] for i in (1, 2))
    assert is_relu(relu) and not is_relu(sigmoid)
    norm = {"op": "BatchNorm", "attrs": {"fix_gamma": "False"}}
    assert not is_true(norm, "fix_gamma", "True")
    assert is_true({"op": "BatchNorm"}, "fix_gamma", "True")
