"""Checkpoints: weights, optimizer state and a manifest, none of them pickled, each written whole.

A checkpoint behind 7 epochs is `epoch-0007.params`, plain Gluon weights, `epoch-0007.states`, the
optimizer's arrays, and `last.json`, which names both with their SHA-256; behind 20 further steps,
`epoch-0007-step-000020.params` and so on.
The manifest is replaced last, so that a crash while writing leaves the one before. `best.json`
names the weights with the best validation accuracy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_path, sha256_of
from gluon_ran.models import weights
from gluon_ran.models.params_file import ParamsFileError, read_params_file, write_params_file

import mxnet as mx
from mxnet.gluon import HybridBlock, Trainer


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another network: says which and what to do."""


def write_text(path: Path, text: str) -> None:
    """Replaces a text file at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_checkpoint(
    folder: Path,
    net: HybridBlock,
    trainer: Trainer,
    progress: dict[str, Any],
    *,
    epochs: int,
    steps: int = 0,
    best: bool = False,
    save_period: int = 0,
) -> None:
    """Writes a checkpoint and removes those that nothing needs any more.

    Args:
        folder: where; made if missing.
        net: its weights are saved.
        trainer: its optimizer's arrays are saved.
        progress: whatever else a run needs to go on, as JSON.
        epochs: epochs that are done.
        steps: steps that are done of the next epoch.
        best: whether this is the best epoch so far.
        save_period: keep the weights of every so many epochs for good; 0 for none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = [read_manifest(folder, which) for which in ("last", "best")]
    # Without it, stale BatchNorm statistics are written under static_alloc.
    mx.nd.waitall()
    stem = f"epoch-{epochs:04d}" + (f"-step-{steps:06d}" if steps else "")
    params, states = folder / f"{stem}.params", folder / f"{stem}.states"
    named = net._collect_params_with_prefix()
    with atomic_path(params) as temporary:
        write_params_file(temporary, {name: each._reduce() for name, each in named.items()})
    with atomic_path(states) as temporary:
        write_params_file(temporary, optimizer_arrays(net, trainer))
    manifest = {
        "epochs": epochs,
        "steps": steps,
        "keep": bool(save_period and not steps and epochs % save_period == 0),
        "weights": params.name,
        "states": states.name,
        "sha256": {path.name: sha256_of(path) for path in (params, states)},
        "progress": progress,
    }
    if best:
        write_text(folder / "best.json", json.dumps(manifest, indent=2) + "\n")
    write_text(folder / "last.json", json.dumps(manifest, indent=2) + "\n")
    _prune(folder, [old for old in before if old is not None])


def _prune(folder: Path, before: list[dict[str, Any]]) -> None:
    """Removes what the manifests named before and don't any more, and what a kill left half-made.

    Weights that were saved to be kept stay.
    """
    last, best = (read_manifest(folder, which) for which in ("last", "best"))
    kept = {last["weights"], last["states"]} | ({best["weights"]} if best else set())
    for old in before:
        if old["keep"]:
            kept.add(old["weights"])
        for name in {old["weights"], old["states"]} - kept:
            (folder / name).unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):
        path.unlink()


def read_manifest(folder: Path, which: str) -> dict[str, Any] | None:
    """What `last.json` or `best.json` says, or None if there is no such file.

    Raises:
        CheckpointError: the file is not what `save_checkpoint` writes.
    """
    path = folder / f"{which}.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _ = (
            manifest["epochs"] + manifest["steps"],
            manifest["keep"],
            manifest["progress"].items(),
            manifest["sha256"].items(),
        )
        if any(Path(manifest[key]).name != manifest[key] for key in ("weights", "states")):
            raise ValueError("a file name with a folder in it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): restore it, or start anew in another folder"
        ) from None
    return manifest


def checked_file(folder: Path, manifest: dict[str, Any], part: str) -> Path:
    """The path of a checkpoint's "weights" or "states", proved to be whole.

    Raises:
        CheckpointError: the file is missing, or not the one that the manifest was written for.
    """
    path = folder / manifest[part]
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: restore it, or start anew in another folder")
    if sha256_of(path) != manifest["sha256"].get(path.name):
        raise CheckpointError(
            f"{path} is damaged, its SHA-256 is not the manifest's: "
            "restore it, or start anew in another folder"
        )
    return path


def load_weights(net: HybridBlock, path: Path, contexts: list[mx.Context]) -> None:
    """Loads a file of Gluon weights.

    Raises:
        CheckpointError: the file is missing, unreadable, or of another network.
    """
    try:
        weights.load_weights(net, path, contexts)
    except weights.WeightsError as error:
        raise CheckpointError(str(error)) from None


def load_optimizer_arrays(net: HybridBlock, trainer: Trainer, path: Path) -> None:
    """Puts the optimizer's saved arrays back, on each device.

    Raises:
        CheckpointError: the arrays are those of another network or optimizer.
    """
    saved = _read_states(path)
    parameters = _trained_parameters(net)
    if saved and set(saved) != set(parameters):
        raise CheckpointError(
            f"{path} holds the optimizer state of another network: start anew in another folder"
        )
    for name, array in saved.items():
        index = trainer._param2idx[parameters[name].name]
        for updater, context in zip(trainer._updaters, parameters[name].list_ctx()):
            updater.states[index] = array.copyto(context)
            updater.states_synced[index] = True


def _read_states(path: Path) -> dict[str, mx.nd.NDArray]:
    """The optimizer's arrays; none where it has none, which is a list without names."""
    try:
        saved = read_params_file(path)
    except (OSError, ParamsFileError) as error:
        raise CheckpointError(
            f"{path} can't be read ({error}): restore it, or start anew in another folder"
        ) from None
    return {name: mx.nd.array(each) for name, each in saved.items()} if saved else {}


def optimizer_arrays(net: HybridBlock, trainer: Trainer) -> dict[str, mx.nd.NDArray]:
    """The optimizer's arrays, one a trained parameter, by the parameter's place in the network."""
    states = trainer._updaters[0].states
    arrays = {}
    for name, parameter in _trained_parameters(net).items():
        state = states.get(trainer._param2idx[parameter.name])
        if state is not None:
            arrays[name] = state
    return arrays


def _trained_parameters(net: HybridBlock) -> dict[str, mx.gluon.Parameter]:
    named = net._collect_params_with_prefix()
    return {name: p for name, p in named.items() if p.grad_req != "null"}
