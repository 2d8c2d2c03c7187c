"""Checkpoints: weights, optimizer state and a manifest, none of them pickled, each written whole.

A checkpoint behind 7 epochs is `epoch-0007.params`, plain Gluon weights, `epoch-0007.states`, the
optimizer's arrays, and `epoch-0007.json`, its manifest, which names both with their SHA-256; behind
20 further steps, `epoch-0007-step-000020.params` and so on. The manifest is written last, so that a
crash while writing leaves the checkpoint before. `best.json` is a copy of the manifest of the
weights with the best validation accuracy.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran._files import atomic_path, sha256_of
from gluon_ran.models import weights
from gluon_ran.models.params_file import ParamsFileError, read_params_file, write_params_file
from gluon_ran.training.monitor import LOG

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
    text = json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=2) + "\n"
    # The best first: a crash behind it leaves an epoch to do again, one ahead of it an epoch done
    # that is not known as the best.
    for name in (*(["best"] if best else []), stem):
        write_text(folder / f"{name}.json", text)
    _prune(folder, stem, keep_last, save_period)


def _checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its checksum."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _stems(folder: Path) -> list[str]:
    """Names of the checkpoints that have a manifest, the newest first."""
    found = (path.stem for path in folder.glob("epoch-*.json") if path.is_file())
    return sorted(found, key=_place, reverse=True)


def _place(stem: str) -> tuple[int, ...]:
    """Epochs and steps of a checkpoint's name."""
    return tuple(map(int, re.findall(r"\d+", stem)))


def has_any(folder: Path) -> bool:
    """Whether a folder has a checkpoint, whole or not."""
    return bool(_stems(folder))


def _prune(folder: Path, newest: str, keep_last: int, save_period: int) -> None:
    """Removes all checkpoints but the last ones, and what a kill left half-made.

    Newer ones than the one just written are left from before a step back, and go. The best weights
    stay, and those that were saved to be kept, with their manifests but without states.
    """
    stems = _stems(folder)
    older = stems[stems.index(newest) :]
    whole, kept = older[:keep_last], {s for s in older if _is_kept(folder, s, save_period)}
    best, best_is_known = _best_weights(folder)
    weights = {f"{stem}.params" for stem in (*whole, *kept)} | {best}
    # Manifests first: without one the rest is no checkpoint.
    for stem in set(stems) - {*whole, *kept}:
        (folder / f"{stem}.json").unlink()
    for path in folder.glob("epoch-*"):
        stale = path.suffix == ".params" and path.name not in weights and best_is_known
        if stale or (path.suffix == ".states" and path.stem not in whole):
            path.unlink()
    for path in folder.glob(".*.tmp"):
        path.unlink()


def _is_kept(folder: Path, stem: str, save_period: int) -> bool:
    """Whether a checkpoint's weights were saved to be kept; of a damaged one, may have been."""
    manifest = _intact(folder, stem)
    if manifest is not None:
        return manifest["keep"]
    epochs, *steps = _place(stem)
    return bool(save_period) and not steps and epochs % save_period == 0


def _best_weights(folder: Path) -> tuple[str, bool]:
    """The file of the best weights, "" if there is none; and whether that is known."""
    try:
        best = read_manifest(folder, "best")
    except CheckpointError as error:
        LOG.warning("%s; until a better epoch comes, no weights are removed", error)
        return "", False
    return (best["weights"] if best else ""), True


def _intact(folder: Path, which: str) -> dict[str, Any] | None:
    try:
        return read_manifest(folder, which)
    except CheckpointError:
        return None


def newest_whole(
    folder: Path, run_id: str | None = None, before: tuple[int, int] | None = None
) -> dict[str, Any] | None:
    """The manifest of the newest checkpoint of a run that is whole; None if there is none at all.

    Args:
        folder: of the checkpoints.
        run_id: what `save_checkpoint` was given; None takes any run's.
        before: epochs and steps; only checkpoints from before them count.

    Raises:
        CheckpointError: there are checkpoints, and each is damaged or another run's.
    """
    problems = []
    for stem in _stems(folder):
        try:
            manifest = read_manifest(folder, stem)
            if manifest is None:  # pruned meanwhile
                continue
            if before is not None and (manifest["epochs"], manifest["steps"]) >= before:
                continue
            if run_id is not None and manifest["run_id"] != run_id:
                raise CheckpointError(f"{folder / stem}.json belongs to another run")
            if manifest["keep"] and not (folder / manifest["states"]).exists():
                # As pruning leaves it, so nothing to warn of; but nothing to go on from either.
                problems.append(f"{folder / stem}.json has weights alone")
                continue
            for part in ("weights", "states"):
                checked_file(folder, manifest, part)
        except CheckpointError as error:
            problems.append(str(error))
            LOG.warning("not used: %s", error)
        else:
            return manifest
    if problems:
        raise CheckpointError(
            f"{folder} has no checkpoint that is whole: restore one, or start anew in another "
            f"folder ({'; '.join(problems)})"
        )
    return None


def read_manifest(folder: Path, which: str) -> dict[str, Any] | None:
    """What a manifest says, or None if there is no such file.

    Args:
        folder: of the checkpoints.
        which: "best", or a checkpoint's name, as epoch-0007.

    Raises:
        CheckpointError: the file is not what `save_checkpoint` writes.
    """
    path = folder / f"{which}.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["checksum"] != _checksum(manifest):
            raise ValueError("its checksum is another")
        _check_fields(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): restore it, or start anew in another folder"
        ) from None
    return manifest


def _check_fields(manifest: dict[str, Any]) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError where they are no manifest's."""
    _ = manifest["keep"], manifest["run_id"], manifest["progress"].items()
    _ = manifest["sha256"].items()
    if any(type(manifest[key]) is not int or manifest[key] < 0 for key in ("epochs", "steps")):
        raise ValueError("its epochs and steps are no numbers from 0")
    if any(Path(manifest[key]).name != manifest[key] for key in ("weights", "states")):
        raise ValueError("a file name with a folder in it")


def checked_file(folder: Path, manifest: dict[str, Any], part: str) -> Path:
    """The path of a checkpoint's "weights" or "states", proved to be whole.

    Raises:
        CheckpointError: the file is missing, or not the one that the manifest was written for.
    """
    path = folder / manifest[part]
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: restore it, or start anew in another folder")
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read ({error.strerror}): check the disk and the rights"
        ) from None
    if digest != manifest["sha256"].get(path.name):
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
    """Puts the optimizer's saved arrays, `path`, back on each device.

    Raises:
        CheckpointError: the arrays are those of another network or optimizer.
    """
    saved = _read_states(path)
    parameters = _trained_parameters(net)
    if saved and set(saved) != set(parameters):
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
