"""Runs of the small network for the tests, and what can happen to them."""

import signal
from dataclasses import replace
from functools import lru_cache

import numpy as np
from small import RECIPE, SPEC, data_record, net, train_batches, validation_batches

from gluon_ran import fit
from gluon_ran.training import RunDirectory
from gluon_ran.training.manifest import newest_whole

MIXED = replace(RECIPE, mixup=True, epsilon=0.1)


def train(model=None, recipe=RECIPE, run=None, batches=None, **kwargs):
    kwargs.setdefault("validation", validation_batches())
    model = model or net()
    history = fit(
        model,
        recipe,
        batches or train_batches(recipe),
        classes=3,
        run=run,
        progress=False,
        **kwargs,
    )
    return model, history


@lru_cache(maxsize=None)
def quiet(recipe=RECIPE):
    """The arrays that a training which nobody touches ends with, and its history."""
    model, history = train(recipe=recipe)
    return arrays(model), history


def new_run(path, recipe=RECIPE):
    return RunDirectory.start(path, SPEC, recipe, data_record())


def saved_epochs(run):
    return newest_whole(run.checkpoints)["epochs"]


def arrays(model):
    return {n: p.data().asnumpy() for n, p in model._collect_params_with_prefix().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name


def interrupt_after(batches, epochs, steps, number=signal.SIGINT):
    """The same batches, with a signal while a batch of an epoch is made."""

    class Interrupting:
        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return len(self.inner)

        def __iter__(self):
            for step, batch in enumerate(self.inner):
                if step == steps:
                    signal.raise_signal(number)
                yield batch

    return lambda epoch: Interrupting(batches(epoch)) if epoch == epochs else batches(epoch)
