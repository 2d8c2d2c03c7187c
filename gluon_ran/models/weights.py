"""Weights of a network from a file of Gluon parameters, whole or under a new classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models.params_file import ParamsFileError, read_params_file

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter

_HEAD = "output."


class WeightsError(ValueError):
    """Weights that can't be used: says which file, what is wrong and what to do."""


def load_weights(
    net: HybridBlock,
    path: str | Path,
    contexts: Sequence[mx.Context] = (),
    new_head: bool = False,
) -> list[str]:
    """Loads a file that `save_parameters` wrote.

    Args:
        net: the network; what the file does not hold is initialised if it is not yet.
        path: the file.
        contexts: devices; where the network is already, or the CPU, if none is given.
        new_head: leave the classifier (`output`) as initialised where the file has none that
            fits, for another number of classes; the rest must fit all the same.

    Returns:
        Names of the parameters that were left as initialised.

    Raises:
        WeightsError: the file is missing, unreadable or of another network.
    """
    parameters = net._collect_params_with_prefix()
    arrays, left = _fitting(parameters, Path(path), new_head)
    _initialize(net, contexts)
    for name, parameter in parameters.items():
        if name not in left:
            parameter.set_data(arrays[name].astype(parameter.dtype))
    return left


def check_weights(net: HybridBlock, path: str | Path, new_head: bool = False) -> None:
    """Refuses what `load_weights` would, without loading anything."""
    _fitting(net._collect_params_with_prefix(), Path(path), new_head)


def _fitting(
    parameters: dict[str, Parameter], path: Path, new_head: bool
) -> tuple[dict[str, mx.nd.NDArray], list[str]]:
    """The arrays of a file, and the names of the parameters that they leave out."""
    arrays = read_params(path)
    left = [name for name, p in parameters.items() if not _fits(arrays.get(name), p)]
    unknown = [name for name in arrays if name not in parameters]
    if new_head:
        unknown = [name for name in unknown if not name.startswith(_HEAD)]
    wrong = [name for name in left if not (new_head and name.startswith(_HEAD))]
    if wrong or unknown:
        difference = _difference(arrays, parameters, wrong, unknown)
        raise WeightsError(
            f"{path} does not hold the weights of this network: {difference}; "
            "name the model and number of classes that it was saved from"
        )
    return arrays, left


def read_params(path: Path) -> dict[str, mx.nd.NDArray]:
    """The named arrays of an MXNet `.params` file.

    Raises:
        WeightsError: the file is missing or unreadable, or its arrays have no names.
    """
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}: check the path")
    try:
        arrays = read_params_file(path)
    except (OSError, ParamsFileError) as error:
        raise WeightsError(
            f"{path} can't be read as MXNet parameters ({error}): copy or make it again"
        ) from None
    except MemoryError:
        raise WeightsError(f"{path} tells of arrays that don't fit into memory") from None
    if not isinstance(arrays, dict) or not arrays:
        raise WeightsError(f"{path} holds no named arrays: give what `save_parameters` wrote")
    return {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}


def _fits(array: mx.nd.NDArray | None, parameter: Parameter) -> bool:
    return array is not None and array.shape == parameter.shape


def _difference(
    arrays: dict[str, mx.nd.NDArray],
    parameters: dict[str, Parameter],
    wrong: list[str],
    unknown: list[str],
) -> str:
    for name in wrong:
        if name in arrays:
            return f"{name} is {arrays[name].shape} there and {parameters[name].shape} here"
    parts = []
    if wrong:
        parts.append(f"it lacks {len(wrong)} of {len(parameters)} arrays, {wrong[0]} first")
    if unknown:
        parts.append(f"it has {len(unknown)} others, {unknown[0]} first")
    return " and ".join(parts)


def _initialize(net: HybridBlock, contexts: Sequence[mx.Context]) -> None:
    parameters = net.collect_params()
    if any(p._data is None for p in parameters.values()):
        net.initialize(ctx=list(contexts) or [mx.cpu()])
    elif contexts:
        parameters.reset_ctx(list(contexts))
