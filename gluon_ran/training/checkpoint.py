"""Checkpoints: weights, optimizer state and a manifest, none of them pickled, each written whole.

A checkpoint behind 7 epochs is `epoch-0007.params`, plain Gluon weights, `epoch-0007.states`, the
optimizer's arrays, and `epoch-0007.json`, its manifest, which names both with their SHA-256; behind
20 further steps, `epoch-0007-step-000020.params` and so on. The manifest is written last, so that a
crash while writing leaves the checkpoint before. `best.json` is a copy of the manifest of the
weights with the best validation accuracy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_path, sha256_of
from gluon_ran.models import weights
from gluon_ran.models.params_file import ParamsFileError, read_params_file, write_params_file
from gluon_ran.training.manifest import (
    CheckpointError,
    intact,
    is_ours,
    place_of,
    read_manifest,
    stems_of,
    write_manifest,
)
from gluon_ran.training.monitor import LOG

import mxnet as mx
from mxnet.gluon import HybridBlock, Trainer


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
    keep_last: int = 2,
    run_id: str | None = None,
) -> None:
    """Writes a checkpoint and removes those that nothing needs any more.

    Args:
        folder: where; made if missing.
        net: its weights are saved, as the first device has them.
        trainer: its optimizer's arrays are saved.
        progress: whatever else a run needs to go on, as JSON.
        epochs: epochs that are done.
        steps: steps that are done of the next epoch.
        best: whether this is the best epoch so far.
        save_period: keep the weights of every so many epochs for good; 0 for none.
        keep_last: how many checkpoints to keep, this one included, at least 1.
        run_id: of the run directory; another run's checkpoint is then told from its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Without it, stale BatchNorm statistics are written under static_alloc.
    mx.nd.waitall()
    stem = f"epoch-{epochs:04d}" + (f"-step-{steps:06d}" if steps else "")
    params, states = folder / f"{stem}.params", folder / f"{stem}.states"
    named = net._collect_params_with_prefix()
    with atomic_path(params) as temporary:
        write_params_file(temporary, {name: each.list_data()[0] for name, each in named.items()})
    with atomic_path(states) as temporary:
        write_params_file(temporary, optimizer_arrays(net, trainer))
    manifest = {
        "run_id": run_id,
        "epochs": epochs,
        "steps": steps,
        "keep": bool(save_period and not steps and epochs % save_period == 0),
        "weights": params.name,
        "states": states.name,
        "sha256": {path.name: sha256_of(path) for path in (params, states)},
        "progress": progress,
    }
    # The best first: a crash behind it leaves an epoch to do again, one ahead of it an epoch done
    # that is not known as the best.
    write_manifest(folder, (*(["best"] if best else []), stem), manifest)
    _prune(folder, stem, keep_last, save_period)


def _prune(folder: Path, newest: str, keep_last: int, save_period: int) -> None:
    """Removes all checkpoints but the last ones, and what a kill left half-made.

    Newer ones than the one just written are left from before a step back, and go. The best weights
    stay, and those that were saved to be kept, with their manifests but without states.
    """
    stems = stems_of(folder)
    older = stems[stems.index(newest) :]
    whole, kept = older[:keep_last], {s for s in older if _is_kept(folder, s, save_period)}
    best, best_is_known = _best_weights(folder)
    weights = {f"{stem}.params" for stem in (*whole, *kept)} | {best}
    # Manifests first: without one the rest is no checkpoint.
    for stem in set(stems) - {*whole, *kept}:
        (folder / f"{stem}.json").unlink()
    for path in folder.glob("epoch-*"):
        stale = path.suffix == ".params" and path.name not in weights and best_is_known
        if is_ours(path) and (stale or (path.suffix == ".states" and path.stem not in whole)):
            path.unlink()
    for path in folder.glob(".*.tmp"):
        path.unlink()


def _is_kept(folder: Path, stem: str, save_period: int) -> bool:
    """Whether a checkpoint's weights were saved to be kept; of a damaged one, may have been."""
    manifest = intact(folder, stem)
    if manifest is not None:
        return manifest["keep"]
    epochs, *steps = place_of(stem)
    return bool(save_period) and not steps and epochs % save_period == 0


def _best_weights(folder: Path) -> tuple[str, bool]:
    """The file of the best weights, "" if there is none; and whether that is known."""
    try:
        best = read_manifest(folder, "best")
    except CheckpointError as error:
        LOG.warning("%s; until a better epoch comes, no weights are removed", error)
        return "", False
    return (best["weights"] if best else ""), True


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
    """Puts the optimizer's saved arrays, `path`, back on each device.

    Raises:
        CheckpointError: the arrays are those of another network or optimizer, or of other layers
            than are trained now.
    """
    saved = _read_states(path)
    parameters = _trained_parameters(net)
    if saved and set(saved) != set(parameters):
        if saved.keys() <= net._collect_params_with_prefix().keys():
            raise CheckpointError(
                f"{path} holds the optimizer state of {len(saved)} parameters, and "
                f"{len(parameters)} are trained now: freeze what was frozen when it was saved, and "
                "nothing else, or start anew in another folder"
            )
        raise CheckpointError(
            f"{path} holds the optimizer state of another network: start anew in another folder"
        )
    _check_shapes(parameters, saved, path)
    put_optimizer_arrays(net, trainer, saved)


def _check_shapes(
    parameters: dict[str, mx.gluon.Parameter], arrays: dict[str, mx.nd.NDArray], path: Path
) -> None:
    for name, array in arrays.items():
        if array.shape != parameters[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {array.shape} and must be {parameters[name].shape}: start anew "
                "in another folder"
            )


def put_optimizer_arrays(
    net: HybridBlock, trainer: Trainer, arrays: dict[str, mx.nd.NDArray]
) -> None:
    """Gives the optimizer, on each device, arrays that `optimizer_arrays` gave."""
    parameters = _trained_parameters(net)
    for updater in trainer._updaters:
        updater.states.clear()
    for name, array in arrays.items():
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
    if isinstance(saved, list) and saved:
        raise CheckpointError(f"{path} holds no optimizer state: start anew in another folder")
    return {name: mx.nd.array(each, dtype=each.dtype) for name, each in dict(saved).items()}


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
