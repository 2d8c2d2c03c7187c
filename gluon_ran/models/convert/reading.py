"""Named arrays from a file of weights, without ever running code from it."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable

import numpy as np

from gluon_ran.models.weights import WeightsError, read_params

# Before it, weights_only could be made to run code (CVE-2025-32434).
SAFE_TORCH = (2, 6)


class ConversionError(ValueError):
    """Weights that can't be read or don't fit: says which array, and what to do."""


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by the names that the program which wrote it gave them.

    Args:
        path: an MXNet `.params`, a NumPy `.npz`, or a PyTorch `.pth`, `.pth.tar`, `.pt` or `.pkl`
            with a state dict, alone or under "state_dict". The last needs PyTorch.

    Raises:
        ConversionError: no such file, another kind of file, a damaged one, or a pickle that holds
            more than tensors.
    """
    path = Path(path)
    # PyTorch's own example calls its checkpoints .pth.tar, which no tar has written.
    suffix = Path(path.name.lower().replace(".pth.tar", ".pth")).suffix
    if suffix not in _READERS:
        raise ConversionError(
            f"{path} is none of {', '.join(_READERS)}: say by its suffix what it is"
        )
    if not path.is_file():
        raise ConversionError(f"there is no file {path}: check the path")
    arrays = _READERS[suffix](path)
    if not arrays:
        raise ConversionError(f"{path} holds no named arrays")
    return {name: _as_numbers(path, name, array) for name, array in arrays.items()}


def _as_numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ConversionError(f"{path}: {name} holds {array.dtype}, not numbers")
    return array


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read_params(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_params(path)
    except WeightsError as error:
        raise ConversionError(str(error)) from None
    return {_without(name, "arg:", "aux:"): array.asnumpy() for name, array in arrays.items()}


def _without(name: str, *prefixes: str) -> str:
    for prefix in prefixes:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _state_dict({name: arrays[name] for name in arrays.files})
    except (
        OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ConversionError(f"{path} is not an .npz of plain arrays ({_reason(error)})") from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _import_torch(path)
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises its own, RuntimeError, EOFError ...
        raise _torch_refusal(path, error) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in state.items()
    ):
        raise ConversionError(f"{path} is not a state dict, names with a tensor each")
    arrays = {name: _from_torch(torch, f"{path}: {name}", t) for name, t in state.items()}
    return _state_dict(arrays)


def _torch_refusal(path: Path, error: Exception) -> ConversionError:
    if type(error).__name__ != "UnpicklingError":
        return ConversionError(f"{path} is not a whole checkpoint ({_reason(error)})")
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    return ConversionError(
        f"{path} holds more than tensors{f', {asked[1]}' if asked else ''}, and to unpickle "
        "that could run any code: save net.state_dict() where it was trained"
    )


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or _version(torch.__version__) < SAFE_TORCH:
        needed = ".".join(map(str, SAFE_TORCH))
        raise ConversionError(
            f"{path} needs PyTorch {needed} or later to be read safely: install it, or where it is "
            "installed write an .npz: numpy.savez('net.npz', **{k: v.numpy() for k, v in "
            f"torch.load('{path.name}', map_location='cpu', weights_only=True).items()}})"
        )
    return torch


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _from_torch(torch: Any, name: str, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    try:
        # NumPy has no bfloat16.
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, without data
        raise ConversionError(f"{name} is not a plain array ({_reason(error)})") from None


def _state_dict(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict without what DataParallel puts ahead of each name."""
    if all(name.startswith("module.") for name in state):
        return {name[len("module.") :]: array for name, array in state.items()}
    return state


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".params": _read_params,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".pkl": _read_torch,
}
