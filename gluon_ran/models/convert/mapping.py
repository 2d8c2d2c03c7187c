"""From another implementation's named arrays to a Spec and the arrays of its network."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Iterator, Mapping, Tuple, Union

import numpy as np

from gluon_ran.data import Normalization
from gluon_ran.models.convert.ports import PORTS, Ends, Module, Names, Planes, Port
from gluon_ran.models.convert.reading import ConversionError
from gluon_ran.models.network import ResidualAttentionNet
from gluon_ran.models.spec import Spec, change
from gluon_ran.models.specs import SPECS

from mxnet import nd

Block = Union[str, Module]
Pairs = Iterator[Tuple[str, str]]

_STEMS = {7: "imagenet", 3: "cifar", 5: "compact"}
# Fields that arrays and the graph don't depend on.
_FREE = ("name", "source", "upsampling", "zero_init", "dropout")


@dataclass(frozen=True)
class Conversion:
    """Another implementation's weights as ours.

    Attributes:
        port: where they come from.
        spec: the network; its `source` says the port.
        normalization: how the pictures that the port was written for are normalised.
        arrays: float32, by the structural names that `save_parameters` writes.
        unused: the names of foreign arrays that were left out, with the reason.
    """

    port: Port
    spec: Spec
    normalization: Normalization
    arrays: dict[str, np.ndarray]
    unused: dict[str, str]

    def network(self) -> ResidualAttentionNet:
        """The network with these weights, initialised."""
        net = ResidualAttentionNet(self.spec)
        net.initialize()
        for name, parameter in net._collect_params_with_prefix().items():
            parameter.set_data(nd.array(self.arrays[name]))
        return net


def convert_arrays(
    arrays: Mapping[str, np.ndarray], source: str | None = None, **changes: Any
) -> Conversion:
    """Finds out what network another implementation's arrays make, and gives each its place.

    Args:
        arrays: by the names that the implementation gave them.
        source: a name in `PORTS`; found from the arrays' names if None.
        **changes: fields of the Spec that the arrays don't show and the port has otherwise, for
            example `strides`.

    Raises:
        ConversionError: arrays of an unknown implementation, an array that is missing, of another
            shape, or without a place.
        ValueError: an unknown Spec field, or a value that it does not take.
    """
    names = Names({name: tuple(array.shape) for name, array in arrays.items()})
    port = find_port(names, source)
    ends = port.ends(names)
    stages = _stages(port, names)
    spec = change(_spec(port, names, ends, stages), **changes)
    spec = replace(spec, name=spec.name or _name(spec, port))
    layers = dict(_layers(spec, port, ends, stages))
    placed = _place(arrays, layers, _shapes(spec), port)
    unused = _unused(names, {theirs for theirs, _ in placed.values()}, port)
    normalization = port.inputs.get(spec.stem, port.inputs["any"])
    ours = {name: array for name, (_, array) in placed.items()}
    return Conversion(port, spec, normalization, ours, unused)


def find_port(names: Names, source: str | None = None) -> Port:
    """The implementation that arrays come from.

    Raises:
        ConversionError: `source` is not known, or the names are none's, or those of a graph.
    """
    known = "; ".join(f"{port.name} ({port.about})" for port in PORTS.values())
    if source is not None and source not in PORTS:
        raise ConversionError(f"no source is called {source!r}; there are: {known}")
    for port in PORTS.values():
        if port.recognises(names) and source in (None, port.name):
            return port
    first = next(iter(names.shapes), None)
    if names.shapes and not any("." in name for name in names.shapes):
        raise ConversionError(
            f"names such as {first!r} are a graph's, which depend on what else was built before: "
            "load the weights with the library that wrote them, and use net.save_parameters"
        )
    raise ConversionError(f"names such as {first!r} are not those of {source or known}")


def _stages(port: Port, names: Names) -> list[list[Block]]:
    """Units and modules of each stage; the unit that widens begins one."""
    stages: list[list[Block]] = []
    for block in port.blocks(names):
        if names.units(block) != [block]:
            if not stages:
                raise ConversionError(f"there is no array of a unit ahead of the module {block}")
            stages[-1].append(port.module(names, block))
            continue
        first, last = (names.shape(f"{block}.conv{n}.weight", (4,)) for n in "13")
        if first[1] != last[0] or not stages:
            stages.append([])
        stages[-1].append(block)
    return stages


def _spec(port: Port, names: Names, ends: Ends, stages: list[list[Block]]) -> Spec:
    """The Spec that names and shapes, and the port's table of planes, make."""
    stem_width, in_channels, _, kernel = names.shape(f"{ends.stem_conv}.weight", (4,))
    stem = _STEMS.get(kernel, f"{kernel}x{kernel}")
    planes = _planes(port, stem, len(stages))
    modules = [[block for block in stage if isinstance(block, Module)] for stage in stages]
    before = [_units_before(stage) for stage in stages]
    module = next((module for stage in modules for module in stage if module.levels), None)
    if module is None:
        raise ConversionError("there is no attention module with a mask branch among the arrays")
    return Spec(
        name="",
        source=f"converted from {port.about}",
        stem=stem,
        stem_width=stem_width,
        widths=tuple(names.shapes[f"{stage[0]}.conv3.weight"][0] for stage in stages),
        strides=planes.strides,
        modules=tuple(map(len, modules)),
        mask_depths=planes.mask_depths,
        units_before=tuple(before),
        units_after=tuple(len(s) - b - len(m) for s, b, m in zip(stages, before, modules)),
        p=len(module.pre),
        p_after=None if len(module.post) == len(module.pre) else len(module.post),
        t=len(module.trunk),
        r=len(module.levels[-1].down),
        in_channels=in_channels,
        classes=names.shape(f"{ends.output}.weight", (2, 4))[0],
        mask_features=port.mask_features,
    )


def _planes(port: Port, stem: str, stages: int) -> Planes:
    if (stem, stages) not in port.planes:
        known = " or ".join(f"{n} behind the stem {s!r}" for s, n in port.planes)
        raise ConversionError(
            f"{port.name} has no network of {stages} stages behind the stem {stem!r}, but {known}"
        )
    return port.planes[stem, stages]


def _units_before(stage: list[Block]) -> int:
    firsts = (index for index, block in enumerate(stage) if isinstance(block, Module))
    return next(firsts, len(stage))


def _name(spec: Spec, port: Port) -> str:
    """The zoo's name of the network, or one that says where it comes from."""
    for row in SPECS.values():
        same = replace(row, classes=spec.classes, in_channels=spec.in_channels)
        if all(
            getattr(same, f.name) == getattr(spec, f.name)
            for f in fields(Spec)
            if f.name not in _FREE
        ):
            return row.name
    stem = "" if spec.stem == "imagenet" else f"_{spec.stem}"
    return f"{port.name}{stem}_attention{spec.trunk_depth}"


# Our layers beside theirs


def _layers(spec: Spec, port: Port, ends: Ends, stages: list[list[Block]]) -> Pairs:
    yield "features.stem.0", ends.stem_conv
    yield "features.stem.2", ends.stem_norm
    for index, stage in enumerate(stages):
        for place, block in enumerate(stage):
            ours = f"features.stages.{index}.{place}"
            if isinstance(block, Module):
                yield from _module(ours, block, port, spec.mask_depths[index])
            else:
                yield from _unit(ours, block, port)
    yield "features.norm", ends.norm
    yield "output", ends.output


def _unit(ours: str, theirs: str, port: Port) -> Pairs:
    for number in "123":
        yield f"{ours}.norm{number}", f"{theirs}.bn{number}"
        yield f"{ours}.conv{number}", f"{theirs}.conv{number}"
    yield f"{ours}.shortcut", f"{theirs}.{port.shortcut}"


def _module(ours: str, module: Module, port: Port, depth: int) -> Pairs:
    if len(module.levels) != max(depth, 1):
        raise ConversionError(
            f"the mask branch beside {module.trunk[0]} has {len(module.levels)} levels, but "
            f"Spec.mask_depths says {depth}"
        )
    units = [("pre", module.pre), ("trunk", module.trunk), ("post", module.post)]
    lowest = module.levels[-1]
    if not depth:
        units.append(("mask", lowest.down + lowest.up))
    mask = "mask"
    for level in module.levels if depth else ():
        units += [(f"{mask}.down", level.down), (f"{mask}.up", level.up)]
        if level.skip is not None:
            yield from _unit(f"{ours}.{mask}.skip", level.skip, port)
        mask += ".inner"
    for part, blocks in units:
        for index, theirs in enumerate(blocks):
            yield from _unit(f"{ours}.{part}.{index}", theirs, port)
    for layer, theirs in zip(("norm1", "conv1", "norm2", "conv2"), module.head):
        yield f"{ours}.head.{layer}", theirs


# Their arrays in our places


def _shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    net = ResidualAttentionNet(spec)
    return {name: p.shape for name, p in net._collect_params_with_prefix().items()}


def _place(
    arrays: Mapping[str, np.ndarray],
    layers: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    port: Port,
) -> dict[str, tuple[str, np.ndarray]]:
    """By our name of each array, theirs and the array."""
    placed = {}
    for ours, shape in shapes.items():
        layer, _, kind = ours.rpartition(".")
        if layer not in layers:
            raise ConversionError(f"nothing among the arrays is our {ours}, of shape {shape}")
        theirs = f"{layers[layer]}.{port.kinds.get(kind, kind)}"
        if theirs not in arrays:
            raise ConversionError(f"there is no array {theirs}, of shape {shape}, for our {ours}")
        placed[ours] = theirs, _fitted(arrays[theirs], shape, theirs, ours)
    return placed


def _fitted(array: np.ndarray, shape: tuple[int, ...], theirs: str, ours: str) -> np.ndarray:
    # GluonCV's classifier is a 1x1 convolution.
    if array.shape not in (shape, shape + (1, 1)):
        raise ConversionError(f"{theirs} has the shape {array.shape}, but our {ours} has {shape}")
    return array.reshape(shape).astype(np.float32)


def _unused(names: Names, used: set[str], port: Port) -> dict[str, str]:
    """The arrays without a place, each with the reason.

    Raises:
        ConversionError: the port knows none for one of them.
    """
    left = [name for name in names.shapes if name not in used]
    reasons = {
        name: reason
        for name in left
        for pattern, reason in port.unused.items()
        if re.fullmatch(pattern, name)
    }
    for name in left:
        if name not in reasons:
            raise ConversionError(
                f"{name}, of shape {names.shapes[name]}, has no place in this network: it is "
                f"another one than {port.name}'s"
            )
    return reasons
