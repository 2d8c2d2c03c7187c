"""One contender of throughput.py in a process of its own: builds a network, trains on command.

Standard input brings a number of steps a line; standard output answers each line, and the start,
with a line of JSON. It ends when its input does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

CLASSES = 10
ENGINE_VARIABLE = "MXNET_EXEC_INPLACE_GRAD_SUM_CAP"

# Variables that may change the speed, and so belong to the result.
_PREFIXES = ("MXNET_EXEC_", "MXNET_CPU_", "MXNET_ENGINE_", "MXNET_MKLDNN_", "OMP_", "DNNL_")


def build(model: str, form: str, batch_size: int) -> tuple[Any, Any, tuple[int, ...]]:
    """The network, the graph that trains it, and the shape of a batch.

    Args:
        model: a name of `gluon_ran.models.SPECS`; with the form "gluoncv" one of GluonCV's.
        form: "float32", "bfloat16", "plain" or "gluoncv".
        batch_size: pictures a batch.
    """
    from gluon_ran.models import get_model

    if form == "gluoncv":
        from gluon_ran._runtime import load_gluoncv

        net = load_gluoncv().model_zoo.get_model(model, classes=CLASSES)
        net.initialize()
        net.hybridize(static_alloc=True, static_shape=True)
        side = 32 if model.startswith("cifar") else 224
        return net, net, (batch_size, 3, side, side)
    changes = {"upsampling": "bilinear"} if form == "plain" else {}
    net = get_model(model, classes=CLASSES, **changes)
    net.initialize()
    shape = (batch_size, net.spec.in_channels, *net.spec.input_size)
    if form == "plain":
        net.hybridize()
        return net, net, shape
    from gluon_ran.training.precision import training_graph

    net.blocked = True
    return net, training_graph(net, form, shape), shape


def stepper(net: Any, graph: Any, shape: tuple[int, ...]) -> Callable[[], Any]:
    """A function that trains a step on a fixed random batch and gives each picture's loss."""
    from mxnet import autograd, gluon, nd

    settings = {"learning_rate": 0.01, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(net.collect_params(), "nag", settings)
    criterion = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
    images = nd.random.normal(shape=shape)
    targets = nd.one_hot(nd.arange(shape[0]) % CLASSES, CLASSES)

    def step() -> Any:
        with autograd.record():
            losses = criterion(graph(images), targets)
        losses.backward()
        trainer.step(shape[0])
        return losses

    return step


def timed(step: Callable[[], Any], steps: int) -> dict[str, float]:
    """Seconds that so many steps take, from an idle engine to an idle engine, and the last loss.

    Raises:
        RuntimeError: the loss is not finite, so that what was timed is not training.
    """
    from mxnet import nd

    nd.waitall()
    start = time.perf_counter()
    for _ in range(steps):
        losses = step()
    nd.waitall()
    seconds = time.perf_counter() - start
    loss = losses.astype("float32").mean().asscalar().item()
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}: this contender does not train")
    return {"seconds": seconds, "loss": loss}


def _description(net: Any) -> dict[str, Any]:
    import numpy

    import mxnet

    trained = (p for p in net.collect_params().values() if p.grad_req != "null")
    versions = {"mxnet": mxnet.__version__, "numpy": numpy.__version__}
    if "gluoncv" in sys.modules:
        # Not __version__: that of the release 0.10.5.post0 says 0.11.0.
        versions["gluoncv"] = metadata.version("gluoncv")
    return {
        "parameters": sum(math.prod(p.shape) for p in trained),
        "versions": versions,
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIXES)},
    }


def answers(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What to tell the parent: first the contender itself, warmed up, then each timing."""
    import gluon_ran  # noqa: F401  (makes MXNet importable)

    import mxnet as mx

    mx.random.seed(0)
    net, graph, shape = build(arguments.model, arguments.form, arguments.batch_size)
    step = stepper(net, graph, shape)
    warm_up = timed(step, arguments.warmup)
    yield {**_description(net), "shape": shape, "warm_up": warm_up}
    for line in sys.stdin:
        yield timed(step, int(line))


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the contender from the command line, then answers the parent until it hangs up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("form")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    arguments = parser.parse_args(argv)
    # What a library prints must not get among the answers.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        for answer in answers(arguments):
            print(json.dumps(answer), file=channel, flush=True)


if __name__ == "__main__":
    main()
