"""The networks that we build are those of the authors' Caffe definitions, layer by layer."""

import json
from ast import literal_eval
from collections import Counter

import pytest
from caffe_definitions import INPUT, Layer, definition, shapes, signatures

from gluon_ran.models import get_model

from mxnet import sym

NETWORKS = ("attention56", "attention92", "attentionnext56", "attentionnext92")


def _pair(text):
    first, second = literal_eval(text)
    assert first == second
    return first


def _convolution(attrs):
    assert attrs["no_bias"] == "True"
    numbers = [int(attrs["num_filter"]), *(_pair(attrs[k]) for k in ("kernel", "stride", "pad"))]
    return "conv", (*numbers, int(attrs.get("num_group", 1)))


def _pooling(attrs):
    if attrs.get("global_pool") == "True":
        # The whole plane, as in the definitions' 7x7 of a 7x7 plane.
        return "avgpool", (7, 1)
    assert (attrs["pool_type"], _pair(attrs["pad"])) == ("max", 1)
    assert attrs.get("pooling_convention", "valid") == "valid"
    return "maxpool", (_pair(attrs["kernel"]), _pair(attrs["stride"]))


KINDS = {
    "Convolution": _convolution,
    "Pooling": _pooling,
    "BatchNorm": lambda attrs: ("bn", ()),
    "Activation": lambda attrs: (attrs["act_type"], ()),
    "FullyConnected": lambda attrs: ("dense", (int(attrs["num_hidden"]),)),
    "_contrib_BilinearResize2D": lambda attrs: ("interp", ()),
    "elemwise_add": lambda attrs: ("add", ()),
    "elemwise_mul": lambda attrs: ("mul", ()),
    "_plus_scalar": lambda attrs: ("plus", (float(attrs["scalar"]),)),
    "Flatten": lambda attrs: ("same", ()),
}


def built(name, **changes):
    """Layers and output shapes of the network that `get_model` builds."""
    net = get_model(name, upsampling="bilinear", **changes)
    with net.traced_for((1, *INPUT)):
        graph = net(sym.var("data"))
        internals = graph.get_internals()
        _, found, _ = internals.infer_shape(data=(1, *INPUT))
    outputs = {n: s[1:] for n, s in zip(internals.list_outputs(), found)}
    nodes = json.loads(graph.tojson())["nodes"]
    layers = {}
    for node in nodes:
        if node["op"] == "null":
            continue
        op, numbers = KINDS[node["op"]](node.get("attrs", {}))
        # Weights and statistics are inputs too, behind the data.
        count = 2 if op in ("add", "mul") else 1
        inputs = [nodes[index]["name"] for index, *_ in node["inputs"][:count]]
        layers[node["name"]] = Layer(op, numbers, inputs)
    return _as_in_caffe(layers), {n: outputs.get(f"{n}_output", outputs.get(n)) for n in layers}


def _as_in_caffe(layers):
    """Without layers that change nothing, and (1 + M) * T as M * T + T."""
    layers = dict(layers)
    unchanged = [
        name for name, (op, n, _) in layers.items() if op == "same" or (op, n) == ("plus", (0,))
    ]
    same = {name: layers[name].inputs[0] for name in unchanged}
    more = {name: layer.inputs[0] for name, layer in layers.items() if layer[:2] == ("plus", (1,))}
    rewritten = {}
    for name, (op, numbers, inputs) in layers.items():
        inputs = [same.get(i, i) for i in inputs]
        if op == "mul" and more.keys() & set(inputs):
            (mask,), (trunk,) = (
                [i for i in inputs if i in more],
                [i for i in inputs if i not in more],
            )
            rewritten[f"{name} by the mask"] = Layer("mul", (), [more[mask], trunk])
            op, inputs = "add", [f"{name} by the mask", trunk]
        if name not in same and name not in more:
            rewritten[name] = Layer(op, numbers, inputs)
    return rewritten


def differences(name, **changes):
    """Layers of the definition that ours lacks, in order, and ours that it lacks."""
    theirs = definition(name)
    ours, outputs = built(name, **changes)
    for layer, shape in list(outputs.items()):
        outputs[f"{layer} by the mask"] = shape
    wanted, found = signatures(theirs, shapes(theirs)), signatures(ours, outputs)
    spare = Counter(found.values())
    lacking = []
    for layer, signature in wanted.items():
        spare[signature] -= 1
        if spare[signature] < 0:
            lacking.append(f"{layer} {theirs[layer]} of {shapes(theirs)[layer]}")
    return lacking, [layer for layer, signature in found.items() if spare[signature] > 0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_that_of_the_definition(name):
    lacking, spare = differences(name)
    assert lacking[:1] == [], "the first layer that is not in ours; what follows it differs too"
    assert spare == []


@pytest.mark.parametrize(
    "changes, first",
    [
        ({"mask_features": True}, "A1/mask/up_sample2"),
        ({"learning": "naive"}, "A1_residual"),
        ({"strides": (1, 2, 2, 1)}, "post_res_4_1"),
        ({"r": 2}, "A1/mask/down_sample/pool2"),
        ({"classes": 10}, "classifier"),
        ({"stem_width": 32}, "conv1 "),
    ],
)
def test_a_network_that_differs_is_noticed(changes, first):
    lacking, spare = differences("attention56", **changes)
    assert first in lacking[0]
    assert spare


def test_the_definitions_are_whole():
    counts = {}
    for name in NETWORKS:
        ops = Counter(layer.op for layer in definition(name).values())
        counts[name] = [ops[op] for op in ("conv", "bn", "relu", "add", "mul", "maxpool", "interp")]
    # Their files' own counts of layers by type.
    assert counts == {
        "attention56": [110, 107, 107, 39, 3, 7, 6],
        "attention92": [179, 176, 176, 64, 6, 11, 10],
        "attentionnext56": [110, 107, 103, 39, 3, 7, 6],
        "attentionnext92": [179, 173, 169, 64, 6, 11, 10],
    }
