"""The networks of the authors' Caffe definitions (github fwang91/residual-attention-network).

caffe_definitions.txt was written from the layers of their four files: a line a layer, or a line for
the layers of a residual unit, "name kind numbers < inputs". The numbers are

    conv     channels, kernel, stride, padding, groups; none has a bias
    before   inner channels, channels, stride: a unit with BN and ReLU ahead of each convolution
    behind   the same and groups: a unit with BN behind each convolution, ReLU behind the sum
    maxpool  kernel, stride; avgpool the same
    dense    channels

and "project" ends the line of a unit with a convolution as shortcut. `bnrelu` is two layers. The
second input of `interp` gives the size only. The softmax at the end is left out. One line is not as
in its file: AttentionNeXt-92's classifier reads "ave_pool_gather" there, which no layer makes.
"""

import hashlib
import math
from collections import namedtuple
from pathlib import Path

Layer = namedtuple("Layer", "op numbers inputs")

INPUT = (3, 224, 224)


def definition(network):
    """The layers of a network in the order of its file, {name: Layer}; the last is its output."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    layers = {}
    for line in text.partition(f"[{network}]\n")[2].partition("[")[0].splitlines():
        head, _, inputs = line.partition(" < ")
        name, kind, *numbers = head.split()
        project = numbers[-1:] == ["project"]
        numbers = tuple(map(int, numbers[: len(numbers) - project]))
        inputs = inputs.split()
        if kind in UNITS:
            layers.update(UNITS[kind](name, *inputs, *numbers, project))
        elif kind == "bnrelu":
            layers.update(_norm_relu(name, *inputs))
        else:
            layers[name] = Layer(kind, numbers, inputs)
    return layers


def _norm_relu(name, source):
    yield f"{name}/norm", Layer("bn", (), [source])
    yield name, Layer("relu", (), [f"{name}/norm"])


def _before(name, source, inner, channels, stride, project):
    def convolve(part, source, *numbers):
        yield from _norm_relu(f"{name}/{part}/bn", source)
        yield f"{name}/{part}", Layer("conv", numbers, [f"{name}/{part}/bn"])

    yield from convolve("1", source, inner, 1, 1, 0, 1)
    yield from convolve("2", f"{name}/1", inner, 3, stride, 1, 1)
    yield from convolve("3", f"{name}/2", channels, 1, 1, 0, 1)
    if project:
        yield f"{name}/shortcut", Layer("conv", (channels, 1, stride, 0, 1), [f"{name}/1/bn"])
    yield name, Layer("add", (), [f"{name}/3", f"{name}/shortcut" if project else source])


def _behind(name, source, inner, channels, stride, groups, project):
    def convolve(part, source, *numbers):
        yield f"{name}/{part}/conv", Layer("conv", numbers, [source])
        yield f"{name}/{part}/bn", Layer("bn", (), [f"{name}/{part}/conv"])
        yield f"{name}/{part}", Layer("relu", (), [f"{name}/{part}/bn"])

    yield from convolve("1", source, inner, 1, 1, 0, 1)
    yield from convolve("2", f"{name}/1", inner, 3, stride, 1, groups)
    *last, _ = convolve("3", f"{name}/2", channels, 1, 1, 0, 1)
    yield from last
    if project:
        *shortcut, _ = convolve("shortcut", source, channels, 1, stride, 0, 1)
        yield from shortcut
    beside = f"{name}/shortcut/bn" if project else source
    yield f"{name}/sum", Layer("add", (), [f"{name}/3/bn", beside])
    yield name, Layer("relu", (), [f"{name}/sum"])


UNITS = {"before": _before, "behind": _behind}


def shapes(layers):
    """Channels, height and width of each layer's output, at the definitions' input."""
    found = {"data": INPUT}
    for name, layer in layers.items():
        channels, *plane = found[layer.inputs[0]]
        if layer.op == "conv":
            channels, kernel, stride, padding, _ = layer.numbers
            plane = [(edge + 2 * padding - kernel) // stride + 1 for edge in plane]
        elif layer.op in ("maxpool", "avgpool"):
            kernel, stride = layer.numbers
            # Caffe rounds up, without padding. Padding 1 and rounding down, which is what the
            # ports and we do, gives the same sizes of even planes, a pixel further to the top left.
            plane = [math.ceil((edge - kernel) / stride) + 1 for edge in plane]
        elif layer.op == "interp":
            plane = found[layer.inputs[1]][1:]
        elif layer.op == "dense":
            channels, plane = layer.numbers[0], []
        elif layer.op in ("add", "mul"):
            assert found[layer.inputs[1]] == found[layer.inputs[0]], name
        found[name] = (channels, *plane)
    return found


def signatures(layers, outputs):
    """What each layer computes: a digest of its kind, output shape and inputs' signatures.

    Two graphs are the same if each has as many layers of each signature as the other: one of the
    last layer alone would not tell a layer used twice from two alike.

    Args:
        layers: {name: Layer}, each behind its inputs.
        outputs: shape of each output.
    """
    found = {"data": "data"}
    for name, layer in layers.items():
        # The order of a sum does not matter, nor what else of an interpolation's size there is.
        inputs = sorted(found[i] for i in layer.inputs[: 1 if layer.op == "interp" else None])
        text = repr((layer.op, layer.numbers, outputs[name], inputs))
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    del found["data"]
    return found
