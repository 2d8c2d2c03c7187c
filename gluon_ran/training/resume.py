"""Going on from a checkpoint, which the first worker reads for all of them."""

from __future__ import annotations

from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training import checkpoint
from gluon_ran.training.history import History
from gluon_ran.training.monitor import LOG
from gluon_ran.training.run import RunDirectory
from gluon_ran.training.step import Stepper


def resume(
    stepper: Stepper, run: RunDirectory | None, history: History
) -> tuple[int, dict[str, Any] | None]:
    """Loads the last checkpoint, if any: the epoch to go on with, and its meter's state.

    Raises:
        CheckpointError: there are checkpoints, and each is damaged.
    """
    manifest = stepper.group.told(lambda: _load(stepper, run))
    if manifest is None:
        return 0, None
    stepper.give_out_weights()
    _give_out_states(stepper)
    progress = manifest["progress"]
    history.best_top1, history.best_epoch = progress["best_top1"], progress["best_epoch"]
    stepper.scale.value, stepper.scale.good_steps = progress["loss_scale"]
    stepper.lr_factor = progress["lr_factor"]
    where = f"epoch {manifest['epochs']}"
    if manifest["steps"]:
        where = f"step {manifest['steps']} of epoch {manifest['epochs'] + 1}"
    LOG.info("going on behind %s of %s", where, run.path if run else "the first worker's run")
    return manifest["epochs"], progress.get("meter")


def _load(stepper: Stepper, run: RunDirectory | None) -> dict[str, Any] | None:
    """Loads weights and optimizer arrays; the manifest."""
    if run is None:
        return None
    manifest = checkpoint.newest_whole(run.checkpoints, run.data.get("run_id"))
    if manifest is None:
        return None
    weights = checkpoint.checked_file(run.checkpoints, manifest, "weights")
    states = checkpoint.checked_file(run.checkpoints, manifest, "states")
    checkpoint.load_weights(stepper.net, weights, stepper.contexts)
    checkpoint.load_optimizer_arrays(stepper.net, stepper.trainer, states)
    return manifest


def _give_out_states(stepper: Stepper) -> None:
    """Gives all workers the first one's optimizer arrays, each as large as its parameter."""
    group, net, trainer = stepper.group, stepper.net, stepper.trainer
    names = group.told(lambda: list(checkpoint.optimizer_arrays(net, trainer)))
    if group.count == 1:
        return
    arrays = checkpoint.optimizer_arrays(net, trainer)
    if group.rank:
        parameters = net._collect_params_with_prefix()
        arrays = {name: parameters[name].data().zeros_like() for name in names}
    group.give_out([[arrays[name]] for name in names])
    if group.rank:
        checkpoint.put_optimizer_arrays(net, trainer, arrays)
