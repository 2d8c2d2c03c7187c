"""How other implementations name their layers, and which network those names make.

The shape of a network is read from the names and shapes of its arrays: which units there are, where
the attention modules stand among them, and how many units each part of a module has. Strides and
poolings have no arrays; each port's table gives them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Callable, Iterator, Mapping, Tuple

import numpy as np

from gluon_ran.data import Normalization
from gluon_ran.models.convert.reading import ConversionError

Shapes = Mapping[str, Tuple[int, ...]]


class Names:
    """The arrays' names as the tree that their dots make of them.

    Args:
        shapes: shape of each array, by its name.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.children: dict[str, set[str]] = defaultdict(set)
        for name in shapes:
            while name:
                parent, _, last = name.rpartition(".")
                self.children[parent].add(last)
                name = parent

    def __contains__(self, layer: str) -> bool:
        return layer in self.children

    def numbers(self, parent: str, pattern: str = r"(\d+)") -> list[int]:
        """Numbers of a layer's children whose whole name the pattern matches, sorted."""
        found = (re.fullmatch(pattern, child) for child in self.children.get(parent, ()))
        return sorted(int(match[1]) for match in found if match)

    def units(self, layer: str) -> list[str]:
        """The residual units of a layer: itself if it is one, else its numbered children."""
        if {"bn1", "conv1"} & self.children.get(layer, set()):
            return [layer]
        return [f"{layer}.{number}" for number in self.numbers(layer)]

    def shape(self, name: str, ranks: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an array of one of these numbers of axes.

        Raises:
            ConversionError: there is none of that name, or it has others.
        """
        if name not in self.shapes:
            raise ConversionError(f"there is no array {name}: the file is not whole")
        if len(self.shapes[name]) not in ranks:
            axes = " or ".join(map(str, ranks))
            raise ConversionError(f"{name} has the shape {self.shapes[name]}, not {axes} axes")
        return self.shapes[name]


@dataclass(frozen=True)
class Level:
    """Units of one level of a mask branch: on the way down, beside it (or None), and back up."""

    down: list[str]
    skip: str | None
    up: list[str]


@dataclass(frozen=True)
class Module:
    """Layers of an attention module. `levels` run from the first pooling down."""

    pre: list[str]
    trunk: list[str]
    levels: list[Level]
    head: list[str]
    post: list[str]


@dataclass(frozen=True)
class Ends:
    """The layers around the stages."""

    stem_conv: str
    stem_norm: str
    norm: str
    output: str


@dataclass(frozen=True)
class Planes:
    """What arrays don't show of a network's stages: strides, and halvings in its mask branches."""

    strides: tuple[int, ...]
    mask_depths: tuple[int, ...]


@dataclass(frozen=True)
class Port:
    """Another implementation.

    Attributes:
        name: what `source` takes.
        about: what it is, and where it is.
        inputs: how the pictures that it was written for are normalised, by stem; "any" for stems
            not named.
        planes: by stem and number of stages.
        recognises: whether an implementation's arrays have such names.
        ends: the layers around the stages.
        blocks: units and modules in the order of the forward pass.
        module: the layers of the module of a name.
        mask_features: see `Spec.mask_features`.
        shortcut: a unit's projection.
        kinds: its names of our kinds of arrays, where they differ.
        unused: arrays that its own forward pass does not read, a pattern each with the reason.
    """

    name: str
    about: str
    inputs: dict[str, Normalization]
    planes: dict[tuple[str, int], Planes]
    recognises: Callable[[Names], bool]
    ends: Callable[[Names], Ends]
    blocks: Callable[[Names], Iterator[str]]
    module: Callable[[Names, str], Module]
    mask_features: bool
    shortcut: str
    kinds: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)


# The earlier Gluon port: everything is numbered in one sequence.


def _sequence_ends(names: Names) -> Ends:
    return Ends("features.0", "features.1", f"features.{names.numbers('features')[-1]}", "output")


def _sequence_blocks(names: Names) -> Iterator[str]:
    for number in names.numbers("features"):
        block = f"features.{number}"
        if names.units(block) == [block] or f"{block}.trunk_branch" in names:
            yield block


def _sequence_module(names: Names, name: str) -> Module:
    mask = f"{name}.mask_branch"
    levels = []
    # The first level of stage s is number s.
    for number in names.numbers(mask, r"down_res_unit_(\d+)"):
        skip = f"{mask}.skip_connection_{number}"
        levels.append(
            Level(
                names.units(f"{mask}.down_res_unit_{number}"),
                skip if skip in names else None,
                names.units(f"{mask}.up_res_unit_{number}"),
            )
        )
    return Module(
        names.units(f"{name}.pre"),
        names.units(f"{name}.trunk_branch"),
        levels,
        _head(f"{mask}.output"),
        names.units(f"{name}.post"),
    )


def _head(layer: str) -> list[str]:
    """BN, ReLU, convolution, BN, ReLU, convolution in a sequence: those that have arrays."""
    return [f"{layer}.{number}" for number in (0, 2, 3, 5)]


# GluonCV and the PyTorch port: a numbered unit a stage, its modules bear the same number.


def _numbered_ends(names: Names) -> Ends:
    return Ends("conv1.0", "conv1.1", "mpool2.0", "fc")


def _numbered_blocks(names: Names) -> Iterator[str]:
    for number in names.numbers("", r"residual_block(\d+)"):
        yield f"residual_block{number}"
        module = f"attention_module{number}"
        if f"{module}.trunk_branches" in names:
            yield module
        for index in names.numbers(module):
            yield f"{module}.{index}"
        for index in names.numbers("", rf"{module}_(\d+)"):
            yield f"{module}_{index}"


def _numbered_module(names: Names, name: str) -> Module:
    skips = len(names.numbers(name, r"skip(\d+)_connection_residual_block"))
    by_function = f"{name}.middle_2r_blocks" in names
    down, lowest, up, head = (_by_function if by_function else _by_number)(name, skips)
    both = names.units(lowest)
    levels = [
        Level(names.units(d), f"{name}.skip{index}_connection_residual_block", names.units(u))
        for index, (d, u) in enumerate(zip(down, up), 1)
    ]
    return Module(
        names.units(f"{name}.first_residual_blocks"),
        names.units(f"{name}.trunk_branches"),
        [*levels, Level(both[: len(both) // 2], None, both[len(both) // 2 :])],
        _head(head),
        names.units(f"{name}.last_blocks"),
    )


def _by_number(name: str, skips: int) -> tuple[list[str], str, list[str], str]:
    """Down, lowest, up (again from the top) and head of a mask branch that is numbered through."""
    part = [f"{name}.softmax{number}_blocks" for number in range(1, 2 * skips + 3)]
    return part[:skips], part[skips], part[skips + 1 : -1][::-1], part[-1]


def _by_function(name: str, skips: int) -> tuple[list[str], str, list[str], str]:
    """The same of one whose parts are named for what they do."""
    down = [f"{name}.down_residual_blocks{number}" for number in range(1, skips + 1)]
    up = [f"{name}.up_residual_blocks{number}" for number in range(1, skips + 1)]
    return down, f"{name}.middle_2r_blocks", up, f"{name}.conv1_1_blocks"


_HALVED_THRICE = Planes((1, 2, 2, 2), (3, 2, 1, 0))
_HALVED_TWICE = Planes((1, 2, 2, 1), (2, 1, 0, 0))


def _of_shares(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalization:
    """From the mean and deviation of RGB / 255."""
    return Normalization(255 * np.array(mean), 255 * np.array(std))


PORTS: dict[str, Port] = {
    port.name: port
    for port in (
        Port(
            name="haoxintong",
            about="the earlier Gluon port, github haoxintong/ResidualAttentionNetwork-Gluon",
            inputs={"any": _of_shares((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))},
            planes={("imagenet", 4): _HALVED_THRICE, ("cifar", 4): _HALVED_THRICE},
            recognises=lambda names: (
                "mask_branch" in _deep(names) and bool(names.numbers("features"))
            ),
            ends=_sequence_ends,
            blocks=_sequence_blocks,
            module=_sequence_module,
            mask_features=False,
            shortcut="downsample",
        ),
        Port(
            name="gluoncv",
            about="GluonCV's residualattentionnet and cifar_residualattentionnet",
            inputs={
                "cifar": _of_shares((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
                "any": Normalization((123.68, 116.779, 103.939), (58.393, 57.12, 57.375)),
            },
            planes={("imagenet", 4): _HALVED_THRICE, ("cifar", 4): _HALVED_TWICE},
            recognises=lambda names: {"trunk_branches", "gamma"} <= _deep(names),
            ends=_numbered_ends,
            blocks=_numbered_blocks,
            module=_numbered_module,
            mask_features=True,
            shortcut="conv4",
        ),
        Port(
            name="tengshaofeng",
            about="the PyTorch port, github tengshaofeng/ResidualAttentionNetwork-pytorch",
            inputs={"any": _of_shares((0, 0, 0), (1, 1, 1))},
            planes={
                ("imagenet", 4): _HALVED_THRICE,
                ("imagenet", 5): Planes((1, 2, 2, 2, 2), (4, 3, 2, 1, 0)),
                ("cifar", 4): _HALVED_TWICE,
                ("compact", 4): _HALVED_TWICE,
            },
            recognises=lambda names: (
                "trunk_branches" in _deep(names) and "gamma" not in _deep(names)
            ),
            ends=_numbered_ends,
            blocks=_numbered_blocks,
            module=_numbered_module,
            mask_features=True,
            shortcut="conv4",
            kinds={"gamma": "weight", "beta": "bias"},
            unused={
                r".*\.num_batches_tracked": "a count of batches, not a weight",
                r".*\.conv4\.weight": "the projection of a unit that keeps its shape",
            },
        ),
    )
}


def _deep(names: Names) -> set[str]:
    """Every part of every name."""
    return set().union(*names.children.values())
