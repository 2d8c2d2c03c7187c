"""Writes one network, and what it computes, for the contenders of throughput.py to be equal to.

    python throughput_reference.py MODEL FOLDER [onnx]

BatchNorms get scales, shifts and statistics of their own: as they are at first, a contender that
mixed them up would compute the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from throughput_batches import ARRAYS, LEARNING, ONNX, PARAMETERS, batch

from gluon_ran.models import get_model

from mxnet import autograd, gluon, nd, random
from mxnet.gluon import HybridBlock

PICTURES, STEPS = 4, 3


def vary_norms(net: HybridBlock, images: nd.NDArray) -> None:
    """Gives BatchNorms scales, shifts and statistics of their own.

    The last one of a unit gets small scales, so that units change what they get by little, as they
    do in trained networks: else rounding errors grow through the network beyond measure.

    Args:
        net: its BatchNorms have momentum 0.
        images: gives the statistics.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        size = 0.1 if name.endswith("norm3.gamma") else 1.0
        if name.endswith("gamma"):
            parameter.set_data(nd.random.uniform(0.5 * size, 1.5 * size, parameter.shape))
        elif name.endswith("beta"):
            parameter.set_data(nd.random.normal(0, 0.1, parameter.shape))
    with autograd.record():
        scores = net(images)
    scores.backward()  # which is what updates the statistics
    nd.waitall()


def train(net: HybridBlock, images: nd.NDArray, targets: nd.NDArray) -> list[float]:
    """Mean losses of some steps, each ahead of its update."""
    trainer = gluon.Trainer(net.collect_params(), "nag", LEARNING)
    criterion = gluon.loss.SoftmaxCrossEntropyLoss()
    means = []
    for _ in range(STEPS):
        with autograd.record():
            losses = criterion(net(images), targets)
        losses.backward()
        trainer.step(len(images))
        means.append(losses.mean().asscalar().item())
    return means


def write(model: str, folder: Path, onnx: bool = False) -> None:
    """Writes the files of `throughput_batches.Reference`.

    Args:
        model: a name of `gluon_ran.models.SPECS`.
        folder: where to; it is there.
        onnx: also export the network.
    """
    random.seed(0)
    np.random.seed(0)  # MXNet's initialisers draw from NumPy too
    net = get_model(model, norm_kwargs={"momentum": 0.0})
    net.initialize()
    spec = net.spec
    images, targets = batch(PICTURES, (spec.in_channels, *spec.input_size), spec.classes)
    x, y = nd.array(images), nd.array(targets)
    vary_norms(net, x)
    net.save_parameters(str(folder / PARAMETERS))
    weights = {k: p.data().asnumpy() for k, p in net._collect_params_with_prefix().items()}
    scores = net(x).asnumpy()
    if onnx:
        from gluon_ran.deploy import export_onnx

        export_onnx(net, folder / ONNX)
    arrays = {f"weight:{name}": array for name, array in weights.items()}
    arrays.update(images=images, targets=targets, scores=scores, losses=train(net, x, y))
    np.savez(folder / ARRAYS, spec=spec.to_json(), **arrays)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), "onnx" in sys.argv[3:])
