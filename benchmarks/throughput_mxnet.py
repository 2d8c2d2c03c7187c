"""The MXNet contenders of throughput.py: GluonCV's networks, and ours in every form."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import throughput_protocol as protocol
from throughput_batches import (
    LEARNING,
    PARAMETERS,
    Reference,
    batch,
    refuse_differences,
    relative_difference,
)

from gluon_ran import _runtime
from gluon_ran.deploy import OptimizeError, optimize
from gluon_ran.models import SPECS, ResidualAttentionNet, get_model
from gluon_ran.models.summary import count_macs
from gluon_ran.training.precision import inference_copy, symbol_of, training_graph

import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import HybridBlock

CALIBRATION_PICTURES = 32
# What `gluon_ran.deploy.optimize` calls the precision.
DEPLOYED = {"fused-float32": "float32", "fused-bfloat16": "bfloat16", "int8": "int8"}


def our_network(model: str, form: str, reference: Reference | None = None) -> ResidualAttentionNet:
    """A network of the zoo as a form starts from it.

    Args:
        model: a name of `gluon_ran.models.SPECS`.
        form: see `throughput_contenders.FORMS`.
        reference: gives the weights; without it they are random, the same for all forms.
    """
    mx.random.seed(0)
    net = get_model(model, **({"upsampling": "bilinear"} if form == "plain" else {}))
    if reference is None:
        net.initialize()
    else:
        net.load_parameters(str(reference.folder / PARAMETERS))
    net.blocked = form not in ("plain", *DEPLOYED)
    return net


def trainable(net: ResidualAttentionNet, form: str, shape: tuple[int, ...]) -> HybridBlock:
    """The graph that trains a network of ours.

    Args:
        net: what to train.
        form: "plain", "float32" or "bfloat16".
        shape: of a batch.
    """
    if form == "plain":
        net.hybridize()
        return net
    return training_graph(net, form, shape)


def servable(net: ResidualAttentionNet, form: str, shape: tuple[int, ...]) -> HybridBlock:
    """The graph that gives the scores of a network of ours.

    Args:
        net: the network.
        form: "plain", "float32" or "bfloat16", or one of `DEPLOYED`.
        shape: of a batch.

    Raises:
        Obstacle: the network can't be had in this form.
    """
    if form == "plain":
        net.hybridize()
        return net
    if form in DEPLOYED:
        return deployed(net, DEPLOYED[form], shape)
    return inference_copy(symbol_of(net, form, shape), net.collect_params(), [mx.cpu()])


def deployed(net: ResidualAttentionNet, precision: str, shape: tuple[int, ...]) -> HybridBlock:
    """What `gluon_ran.deploy` makes of a network.

    Raises:
        Obstacle: it refuses to.
    """
    images, _ = batch(CALIBRATION_PICTURES, shape[1:], 1)
    try:
        return optimize(net, precision=precision, calibration=[nd.array(images)])
    except OptimizeError as error:
        raise protocol.Obstacle(str(error)) from None


def training_step(
    net: HybridBlock, graph: HybridBlock, images: nd.NDArray, targets: nd.NDArray
) -> Callable[[], nd.NDArray]:
    """A function that trains a step and gives each picture's loss.

    Args:
        net: has the parameters.
        graph: computes the scores.
        images: (N, C, H, W).
        targets: (N, classes), rows that sum to 1.
    """
    trainer = gluon.Trainer(net.collect_params(), "nag", LEARNING)
    criterion = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)

    def step() -> nd.NDArray:
        with autograd.record():
            losses = criterion(graph(images), targets)
        losses.backward()
        trainer.step(len(images))
        return losses

    return step


class MXNetEngine(protocol.Engine):
    """A network in MXNet."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments)
        self._gluoncv = _runtime.load_gluoncv() if arguments.form == "gluoncv" else None

    def build(self) -> None:
        """The network, its graph, and a batch."""
        a = self.arguments
        self._reference = Reference(a.reference) if a.reference else None
        self._net, picture, classes = self._gluoncv_network() if self._gluoncv else self._ours()
        self._shape = (a.batch_size, *picture)
        images, targets = batch(a.batch_size, picture, classes)
        x, y = nd.array(images), nd.one_hot(nd.array(targets), classes)
        if a.job == "training":
            graph = self._net if self._gluoncv else trainable(self._net, a.form, self._shape)
            self.start = training_step(self._net, graph, x, y)
        else:
            graph = self._net if self._gluoncv else servable(self._net, a.form, self._shape)
            self.start = lambda: graph(x)
        self._graph = graph

    def _ours(self) -> tuple[HybridBlock, tuple[int, int, int], int]:
        a = self.arguments
        reference = self._reference if a.job == "inference" else None
        net = our_network(a.model, a.form, reference)
        size = a.size or net.spec.input_size
        return net, (net.spec.in_channels, *size), net.spec.classes

    def _gluoncv_network(self) -> tuple[HybridBlock, tuple[int, int, int], int]:
        a = self.arguments
        spec = SPECS[a.model]
        name = a.model.replace("attention", "residualattentionnet")
        net = self._gluoncv.model_zoo.get_model(name, classes=spec.classes)
        net.initialize()
        net.hybridize(static_alloc=True, static_shape=True)
        return net, (spec.in_channels, *(a.size or spec.input_size)), spec.classes

    def wait(self) -> None:
        """Waits for MXNet's engine."""
        nd.waitall()

    def number(self, started: nd.NDArray) -> float:
        """The mean loss, or the greatest score."""
        values = started.astype("float32").asnumpy()
        return float(values.mean() if self.arguments.job == "training" else abs(values).max())

    def describe(self) -> dict[str, Any]:
        """Versions, parameters, multiply-accumulates, shape."""
        trained = (p for p in self._net.collect_params().values() if p.grad_req != "null")
        packages = ("mxnet", "numpy", *(("gluoncv",) if self._gluoncv else ()))
        return {
            "parameters": sum(math.prod(p.shape) for p in trained),
            "macs": self._macs(),
            "shape": self._shape,
            "versions": protocol.versions(*packages),
        }

    def _macs(self) -> int:
        picture = (1, *self._shape[1:])
        if self._gluoncv:
            return count_macs(self._net, picture)[1]
        with self._net.traced_for(picture):
            return count_macs(self._net, picture)[1]

    def check(self) -> dict[str, float]:
        """Compares the losses of training on the reference's pictures, or their scores."""
        if self._gluoncv or self._reference is None:
            return {}
        if self.arguments.job == "training":
            what, given, expected = "losses", self._losses(), self._reference.losses
        else:
            what, given, expected = "scores", self._scores(), self._reference.scores
        exact = self.arguments.form in ("plain", "float32", "fused-float32")
        name = what if exact else f"{what} as timed"
        differences = {name: relative_difference(given, expected)}
        refuse_differences(differences)
        return differences

    def _scores(self) -> np.ndarray:
        return self._graph(nd.array(self._reference.images)).asnumpy()

    def _losses(self) -> np.ndarray:
        """Of a second network, made as the one that is timed but with the reference's weights."""
        a, reference = self.arguments, self._reference
        net = our_network(a.model, a.form, reference)
        graph = trainable(net, a.form, reference.images.shape)
        x, y = nd.array(reference.images), nd.array(reference.targets)
        step = training_step(net, graph, x, nd.one_hot(y, reference.classes))
        return np.array([self.number(step()) for _ in reference.losses])


ENGINE = MXNetEngine
