"""One training step: forward and backward on every device, gradients summed, one update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.models import ResidualAttentionNet
from gluon_ran.models.network import batch_norms
from gluon_ran.training.distributed import ALONE, Group, flat, write_flat
from gluon_ran.training.evaluation import shards
from gluon_ran.training.precision import (
    LossScale,
    all_finite,
    inference_copy,
    symbol_of,
    training_graph,
)
from gluon_ran.training.recipe import Recipe
from gluon_ran.training.recompute import RecomputedPasses
from gluon_ran.training.statistics import Statistics

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, Parameter, Trainer
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss
from mxnet.gluon.nn import Dropout


def _has_dropout(block: Block) -> bool:
    return isinstance(block, Dropout) or any(map(_has_dropout, block._children.values()))


class StepResult(NamedTuple):
    """What a step gave.

    Attributes:
        count: pictures in the batch, of all workers.
        loss: mean loss of the batch, before its update.
        hits: pictures whose target's greatest class was predicted.
        skipped: whether it left the network as it was, since its loss or a gradient is no number.
    """

    count: int
    loss: float
    hits: int
    skipped: bool = False


class RecordedPasses:
    """Forward and backward pass of a network, on some devices, as autograd records them.

    Args:
        net: an initialised network.
        dtype: see `Recipe`.
        shape: (N, C, H, W) of the batches; N may differ from call to call.
    """

    def __init__(self, net: HybridBlock, dtype: str, shape: tuple[int, ...]) -> None:
        self._graph = training_graph(net, dtype, shape)
        self._criterion = SoftmaxCrossEntropyLoss(sparse_label=False)

    def __call__(
        self, images: Sequence[mx.nd.NDArray], targets: Sequence[mx.nd.NDArray], scale: float
    ) -> tuple[list[mx.nd.NDArray], list[mx.nd.NDArray]]:
        """Leaves the gradients of the loss's sum, times `scale`, in the parameters.

        Args:
            images: (N, C, H, W) on each device.
            targets: (N, classes) on each device, rows that sum to 1.
            scale: factor of the gradients.

        Returns:
            Scores (N, classes) and losses (N,) of each device.
        """
        scores, losses = [], []
        with autograd.record():
            for x, target in zip(images, targets):
                scores.append(self._graph(x))
                losses.append(self._criterion(scores[-1], target))
            scaled = [loss * scale for loss in losses] if scale != 1 else losses
        autograd.backward(scaled)
        return scores, losses


class Stepper:
    """A network made ready to train on some devices.

    Attributes:
        net: the network; it is initialised from `recipe.seed` if it is not yet.
        trainer: holds the optimizer's state.
        contexts: the devices.
        scale: the loss scale of float16.
        has_dropout: whether a step draws random numbers.
        lr_factor: of the recipe's learning rates; less than 1 behind a step back.
        group: the workers that train it together.

    Args:
        net: what to train.
        recipe: how.
        contexts: devices, at least one.
        kvstore: what sums the gradients of several devices: "local", "device" or "nccl".
        recompute: see `fit`.
        group: the workers; they begin with the first one's weights.

    Raises:
        ValueError: `recompute` on a GPU, or a network of which all is frozen.
    """

    def __init__(
        self,
        net: HybridBlock,
        recipe: Recipe,
        contexts: Sequence[mx.Context],
        kvstore: str,
        recompute: bool = False,
        group: Group = ALONE,
    ) -> None:
        if recompute and contexts[0].device_type != "cpu":
            raise ValueError(
                "recomputation is for CPUs, and this run is on a GPU: leave it out, or train "
                "smaller batches"
            )
        self.net, self.contexts, self.group = net, list(contexts), group
        self.scale = LossScale.of(recipe.dtype, recipe.batch_size)
        self.has_dropout, self.lr_factor = _has_dropout(net), 1.0
        self._norms = list(batch_norms(net).values())
        self._dtype, self._recompute = recipe.dtype, recompute
        self._passes: RecordedPasses | RecomputedPasses | None = None
        self._made_for: tuple[int | str, ...] = ()
        self._graphs: dict[tuple, mx.sym.Symbol | None] = {}
        self._prepare(recipe)
        settings = {"learning_rate": recipe.lr, "momentum": recipe.momentum, "wd": recipe.wd}
        # On the store's side the states can't be saved, and a later rate would not reach it.
        self.trainer = Trainer(
            net.collect_params(), recipe.optimizer, settings, kvstore, update_on_kvstore=False
        )
        # The first call sends the first device's arrays to the others, so it comes ahead of the
        # first step, which moves the statistics of each.
        self.trainer.allreduce_grads()
        self._statistics = Statistics(self.trainer._params, self.contexts)
        if not self._trained:
            raise ValueError("no parameter is left to train: freeze fewer stages")
        self.give_out_weights()

    @property
    def _trained(self) -> list[Parameter]:
        """What is not frozen, as things are now."""
        return [p for p in self.trainer._params if p.grad_req != "null"]

    def _prepare(self, recipe: Recipe) -> None:
        if isinstance(self.net, ResidualAttentionNet):
            self.net.blocked = self.contexts[0].device_type == "cpu"
        parameters = self.net.collect_params()
        if any(p._data is None for p in parameters.values()):
            mx.random.seed(recipe.seed)
            self.net.initialize(ctx=self.contexts)
        else:
            parameters.reset_ctx(self.contexts)
        # No saved state holds the multipliers, so they come from the recipe each time.
        for parameter in parameters.values():
            decayed = not recipe.no_wd or parameter.name.endswith("weight")
            parameter.wd_mult = 1.0 if decayed else 0.0

    def weights_finite(self) -> bool:
        """Whether every weight and every running statistic is a number, on the first device."""
        mx.nd.waitall()  # MXNet does not know that the backward pass writes to the statistics.
        return all_finite([p.data(self.contexts[0]) for p in self.trainer._params])

    def forget_graphs(self) -> None:
        """Has the next step make its graph anew, as loaded weights may lie elsewhere."""
        self._made_for = ()

    def give_out_weights(self) -> None:
        """Gives all workers the first one's weights and statistics."""
        if self.group.count > 1:
            self.group.give_out([p.list_data() for p in self.trainer._params])

    def close(self) -> None:
        """Leaves the network as it would be exported, without what only training needs."""
        self._statistics.settle(ALONE)
        if isinstance(self.net, ResidualAttentionNet):
            self.net.blocked = False

    def frozen(self, shape: tuple[int, ...]) -> HybridBlock:
        """The network as it is now, in the recipe's precision, to evaluate.

        All workers call it, and get the first one's.

        Args:
            shape: (N, C, H, W) of the batches; N may differ from call to call.
        """
        self._statistics.settle(self.group)
        graph = self._kept("scores", shape, lambda: symbol_of(self.net, self._dtype, shape))
        return inference_copy(graph, self.net.collect_params(), self.contexts)

    def _kept(self, what: str, shape: tuple[int, ...], make: Callable) -> mx.sym.Symbol | None:
        """A graph of the network, made once, since MXNet never frees all of one."""
        key = (what, *shape[1:])
        if key not in self._graphs:
            self._graphs[key] = make()
        return self._graphs[key]

    def masks(self, images: np.ndarray) -> list[mx.nd.NDArray]:
        """Soft masks of the network as it is now, one a module; see `ResidualAttentionNet.masks`.

        Args:
            images: float32 (N, C, H, W).
        """
        if not isinstance(self.net, ResidualAttentionNet):
            return []
        shape = images.shape
        graph = self._kept("masks", shape, lambda: self.net.mask_graph(shape))
        if graph is None:
            return []
        block = inference_copy(graph, self.net.collect_params(), self.contexts)
        masks = block(mx.nd.array(images, ctx=self.contexts[0]))
        return masks if isinstance(masks, list) else [masks]

    def __call__(self, images: np.ndarray, targets: np.ndarray, lr: float) -> StepResult:
        """Trains on a batch: the same update as one device makes of the whole batch.

        Workers make it together, each of its part of the batch, and all get the same result. A
        batch whose loss or gradients are not finite leaves weights and statistics as they were.

        Args:
            images: float32 (N, C, H, W).
            targets: float32 (N, classes), rows that sum to 1.
            lr: learning rate.
        """
        # Norms of frozen layers are others in the graph.
        frozen = (norm._kwargs["use_global_stats"] for norm in self._norms)
        made_for = (*images.shape[2:], *(p.grad_req for p in self.trainer._params), *frozen)
        if made_for != self._made_for:
            self._made_for = made_for
            passes = RecomputedPasses if self._recompute else RecordedPasses
            self._passes = passes(self.net, self._dtype, images.shape)
        y = list(shards(targets, self.contexts))
        scale = self.scale.value if self.scale.active else 1.0
        self._statistics.keep()
        scores, losses = self._passes(list(shards(images, self.contexts)), y, scale)
        self._sum_gradients(len(losses))
        hits = sum(int((s.argmax(1) == t.argmax(1)).sum().asscalar()) for s, t in zip(scores, y))
        total = sum(float(loss.sum().asscalar()) for loss in losses)
        total, hits, count = self._sum_over_workers(total, hits, len(images))
        finite = all_finite([p.grad(self.contexts[0]) for p in self._trained])
        skipped = not (finite and math.isfinite(total))
        if self.scale.active:
            self.scale.after(not skipped)
        if skipped:
            self._statistics.put_back()
        else:
            self.trainer.set_learning_rate(lr)
            self.trainer.update(count * scale)
        # With steps in flight side by side, static graphs give other bits from run to run.
        mx.nd.waitall()
        return StepResult(count, total / count, hits, skipped)

    def _sum_gradients(self, used: int) -> None:
        """Sums the gradients of the devices, of which the first `used` had pictures."""
        for idle in self.contexts[used:]:
            for parameter in self._trained:
                parameter.grad(idle)[:] = 0
                # Else the Trainer takes the gradient for a forgotten one.
                parameter.data(idle)._fresh_grad = True
        self.trainer.allreduce_grads()

    def _sum_over_workers(self, loss: float, hits: int, count: int) -> tuple[float, int, int]:
        """Sums a step's gradients and numbers over the workers, in one array."""
        if self.group.count == 1:
            return loss, hits, count
        gradients = [parameter.list_grad() for parameter in self._trained]
        ours = flat([copies[0] for copies in gradients], loss, hits, count)
        loss, hits, count = write_flat(gradients, self.group.sum(ours)).tolist()
        return loss, int(hits), int(count)
