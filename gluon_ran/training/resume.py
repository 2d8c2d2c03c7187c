"""Going on from a checkpoint, or back to one; the first worker reads it for all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training import checkpoint
from gluon_ran.training.epoch import TrainingDiverged
from gluon_ran.training.history import History
from gluon_ran.training.manifest import (
    CheckpointError,
    checked_file,
    intact,
    newest_whole,
    write_manifest,
)
from gluon_ran.training.monitor import LOG
from gluon_ran.training.run import RunDirectory
from gluon_ran.training.saver import Saver
from gluon_ran.training.step import Stepper

# Halvings of the learning rate, after which a lower one is not what is lacking.
_STEPS_BACK = 5


def resume(
    stepper: Stepper, run: RunDirectory | None, history: History
) -> tuple[int, dict[str, Any]]:
    """Loads the last checkpoint, if any: the epoch to go on with, and its meter's state.

    Raises:
        CheckpointError: there are checkpoints, and each is damaged.
    """
    manifest = stepper.group.told(lambda: _load(stepper, run, _newest))
    return (0, {}) if manifest is None else _take_up(manifest, stepper, run, history)


def step_back(
    error: TrainingDiverged,
    stepper: Stepper,
    run: RunDirectory | None,
    history: History,
    saver: Saver,
) -> tuple[int, dict[str, Any]]:
    """Goes back to a checkpoint, with half the learning rate from there; see `resume`.

    Raises:
        TrainingDiverged: `error`, where there is none to go back to, or it was done too often.
    """
    factor, group = stepper.lr_factor / 2, stepper.group
    manifest = None
    if factor >= 0.5**_STEPS_BACK:
        manifest = group.told(lambda: _load(stepper, run, _newest_not_gone_back_to))
    if manifest is None:
        raise error
    LOG.warning("%s", error)
    start, state = _take_up(manifest, stepper, run, history)
    stepper.lr_factor = factor
    stepper.forget_graphs()
    history.epochs = [result for result in history.epochs if result.epoch < start]
    saver.gone_back_to(manifest)
    LOG.warning("the learning rates are %g of the recipe's from here on", factor)
    return start, {**state, "in_a_row": 0}


def _newest(run: RunDirectory) -> dict[str, Any] | None:
    return newest_whole(run.checkpoints, run.data["run_id"])


def _newest_not_gone_back_to(run: RunDirectory) -> dict[str, Any] | None:
    """The newest checkpoint, or the one before where the newest led to divergence already."""
    newest = _newest(run)
    if newest is None or not newest["progress"].get("gone_back_to"):
        return newest
    place = newest["epochs"], newest["steps"]
    try:
        before = newest_whole(run.checkpoints, run.data["run_id"], before=place)
    except CheckpointError:
        before = None
    return before or newest


def _load(
    stepper: Stepper,
    run: RunDirectory | None,
    choose: Callable[[RunDirectory], dict[str, Any] | None],
) -> dict[str, Any] | None:
    """Loads weights and optimizer arrays; the manifest."""
    manifest = None if run is None else choose(run)
    if manifest is None:
        return None
    weights = checked_file(run.checkpoints, manifest, "weights")
    states = checked_file(run.checkpoints, manifest, "states")
    checkpoint.load_weights(stepper.net, weights, stepper.contexts)
    checkpoint.load_optimizer_arrays(stepper.net, stepper.trainer, states)
    return manifest


def _take_up(
    manifest: dict[str, Any], stepper: Stepper, run: RunDirectory | None, history: History
) -> tuple[int, dict[str, Any]]:
    """Takes over what a manifest says, behind `_load`: the epoch, and its meter's state."""
    stepper.give_out_weights()
    _give_out_states(stepper)
    progress = manifest["progress"]
    _check_count(manifest, stepper)
    try:
        history.best_top1, history.best_epoch = progress["best_top1"], progress["best_epoch"]
        stepper.scale.value, stepper.scale.good_steps = progress["loss_scale"]
        stepper.lr_factor, state = progress["lr_factor"] + 0.0, {**progress["meter"]}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the manifest of {manifest['weights']} is not what this version writes ({error!r}): "
            "start anew in another folder"
        ) from None
    if stepper.group.told(lambda: _drop_later_best(manifest, run)):
        history.best_top1 = history.best_epoch = None
    where = f"epoch {manifest['epochs']}"
    if manifest["steps"]:
        where = f"step {manifest['steps']} of epoch {manifest['epochs'] + 1}"
    LOG.info("going on behind %s of %s", where, run.path if run else "the first worker's run")
    return manifest["epochs"], state


def _drop_later_best(manifest: dict[str, Any], run: RunDirectory) -> bool:
    """Drops the best weights where they are from behind a checkpoint, `manifest`.

    Training writes others under their name, which are the same only where it is bit-exact. The
    best up to there take their place, if they are left; whether none are.
    """
    folder, best = run.checkpoints, intact(run.checkpoints, "best")
    if best is None or best["epochs"] <= manifest["epochs"]:
        return False
    epoch = manifest["progress"]["best_epoch"]
    earlier = None if epoch is None else intact(folder, f"epoch-{epoch + 1:04d}")
    if earlier is not None:
        with suppress(CheckpointError):
            checked_file(folder, earlier, "weights")
            write_manifest(folder, ("best",), earlier)
            return False
    (folder / "best.json").unlink()
    return True


def _check_count(manifest: dict[str, Any], stepper: Stepper) -> None:
    """Refuses another number of pictures a step: the same step would mean other ones."""
    now = {"workers": stepper.group.count, "devices": len(stepper.contexts)}
    for what, count in now.items():
        there = manifest["progress"].get(what, count)
        if there != count:
            raise CheckpointError(
                f"the run was trained with {there} {what}, and these are {count}: go on with as "
                "many, or start anew in another folder"
            )


def _give_out_states(stepper: Stepper) -> None:
    """Gives all workers the first one's optimizer arrays, each as large as its parameter."""
    group, net, trainer = stepper.group, stepper.net, stepper.trainer
    if group.count == 1:
        return
    names = group.told(lambda: list(checkpoint.optimizer_arrays(net, trainer)))
    arrays = checkpoint.optimizer_arrays(net, trainer)
    if group.rank:
        parameters = net._collect_params_with_prefix()
        arrays = {name: parameters[name].data().zeros_like() for name in names}
    group.give_out([[arrays[name]] for name in names])
    if group.rank:
        checkpoint.put_optimizer_arrays(net, trainer, arrays)
