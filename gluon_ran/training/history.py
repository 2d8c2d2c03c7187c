"""What training gave: plain results, an epoch each."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochResult:
    """What an epoch gave.

    Attributes:
        epoch: from 0.
        lr: learning rate of its last step.
        train_loss: mean loss over the epoch's pictures, mixed and smoothed as trained.
        train_top1: share of training pictures whose target's greatest class was predicted.
        val_loss: mean cross-entropy on the validation set.
        val_top1: top-1 accuracy on it, 0 to 1.
        val_top5: top-5 accuracy on it.
        images_per_second: training pictures a second, without validation.
        losses: mean loss of each step.
        size: edge in pixels that its pictures were shrunk to, for training and validation; None for
            their own size.
        skipped: steps that were left out, since their loss or a gradient was no finite number.
        left_out: training pictures that were left out, since they are broken; of several workers,
            those of the first one's share.
    """

    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    val_loss: float | None
    val_top1: float | None
    val_top5: float | None
    images_per_second: float
    losses: list[float]
    size: int | None = None
    skipped: int = 0
    left_out: int = 0


@dataclass
class History:
    """What `fit` gave.

    Attributes:
        epochs: results of the epochs trained by this call.
        completed: whether the recipe's last epoch was reached.
        stopped_by: the signal that ended it before, SIGINT or SIGTERM; None for none.
        best_top1: best validation accuracy of the whole run, earlier calls included.
        best_epoch: its epoch, from 0.
    """

    epochs: list[EpochResult] = field(default_factory=list)
    completed: bool = False
    stopped_by: int | None = None
    best_top1: float | None = None
    best_epoch: int | None = None

    def improved_by(self, result: EpochResult) -> bool:
        """Whether an epoch's result is the best so far of those at the pictures' own size."""
        if result.val_top1 is None or result.size is not None:
            return False
        return self.best_top1 is None or result.val_top1 > self.best_top1

    def add(self, result: EpochResult) -> None:
        """Takes up an epoch's result."""
        if self.improved_by(result):
            self.best_top1, self.best_epoch = result.val_top1, result.epoch
        self.epochs.append(result)
