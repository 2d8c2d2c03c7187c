"""When a run is saved: behind epochs, every so many steps, and where it is stopped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.training import checkpoint
from gluon_ran.training.epoch import Meter
from gluon_ran.training.history import EpochResult, History
from gluon_ran.training.run import RunDirectory
from gluon_ran.training.step import Stepper
from gluon_ran.visualize import plot_curves


class Saver:
    """Saves a run.

    Args:
        run: where; None saves nothing.
        stepper: the network and its optimizer.
        history: tells the best epoch so far.
        save_period: see `fit`.
        save_every: see `fit`.
        keep_last: see `fit`.

    Raises:
        ValueError: `save_every` is below 0 or `keep_last` below 1.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        stepper: Stepper,
        history: History,
        save_period: int,
        save_every: int,
        keep_last: int,
    ) -> None:
        if save_every < 0 or keep_last < 1:
            raise ValueError(
                f"save_every is {save_every} and keep_last {keep_last}: give numbers from 0 and 1"
            )
        self._run, self._stepper, self._history = run, stepper, history
        self._save_period, self._save_every, self._keep_last = save_period, save_every, keep_last
        self._saved: tuple[int, int] | None = None

    def behind_step(self, epoch: int, meter: Meter, last: int) -> None:
        """Saves if the step is one to save; its epoch's `last` one never is.

        Nor are steps that were left out: what training goes back to lies before them.
        """
        due = self._save_every and meter.steps % self._save_every == 0 and meter.steps < last
        if due and not meter.in_a_row:
            self.within(epoch, meter)

    def within(self, epoch: int, meter: Meter) -> bool:
        """Saves the middle of an epoch; whether there is a place to."""
        if self._run is None:
            return False
        if self._saved == (epoch, meter.steps):
            return True
        progress = self._progress(self._history.best_top1, self._history.best_epoch)
        self._save({**progress, "meter": meter.state()}, epochs=epoch, steps=meter.steps)
        return True

    def gone_back_to(self, manifest: dict[str, Any]) -> None:
        """Saves a checkpoint that has just been loaded anew, with the lower learning rate.

        Later ones go, so that a run that is killed now does not take them for its own.
        """
        if self._run is None:
            return
        progress = self._progress(self._history.best_top1, self._history.best_epoch)
        progress = {**manifest["progress"], **progress, "gone_back_to": True}
        place = {"epochs": manifest["epochs"], "steps": manifest["steps"]}
        self._save(progress, save_period=self._save_period, **place)

    def behind_epoch(self, result: EpochResult, meter: dict[str, Any]) -> None:
        """Saves an epoch's results and weights.

        Metrics first: a row too many is written over on resuming, one too few could not be.

        Args:
            result: of the epoch.
            meter: state that the next epoch's begins with.
        """
        if self._run is None:
            return
        self._run.write_metrics(asdict(result))
        best = self._history.improved_by(result)
        progress = self._progress(self._history.best_top1, self._history.best_epoch)
        if best:
            progress = self._progress(result.val_top1, result.epoch)
        place = {"epochs": result.epoch + 1, "best": best, "save_period": self._save_period}
        self._save({**progress, "meter": meter}, **place)
        self.draw_curves()

    def draw_curves(self) -> None:
        """Draws the curves of all epochs that were saved."""
        if self._run is None:
            return
        title = f"{self._run.spec.name} on {self._run.data['dataset']}"
        plot_curves(self._run.metrics(), self._run.path / "curves.png", title)

    def _save(self, progress: dict[str, Any], **place: Any) -> None:
        checkpoint.save_checkpoint(
            self._run.checkpoints,
            self._stepper.net,
            self._stepper.trainer,
            progress,
            keep_last=self._keep_last,
            run_id=self._run.data.get("run_id"),
            **place,
        )
        self._saved = place["epochs"], place.get("steps", 0)

    def _progress(self, best: float | None, best_epoch: int | None) -> dict[str, Any]:
        scale = self._stepper.scale
        return {
            "best_top1": best,
            "best_epoch": best_epoch,
            "loss_scale": [scale.value, scale.good_steps],
            "lr_factor": self._stepper.lr_factor,
            "workers": self._stepper.group.count,
            "devices": len(self._stepper.contexts),
        }
