"""A worker that trains the small network; the tests start several by train/launch.py.

python distributed_worker.py KVSTORE FOLDER [disturb|fail|compare]
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from small import RECIPE, SPEC, data_record, dataset, net

from gluon_ran import fit
from gluon_ran.data import Augmentation, Batches, Normalization
from gluon_ran.training import ALONE, RunDirectory, join

# 20 steps of 8 pictures a worker, for two workers.
PICTURES, TWENTY = 160, replace(RECIPE, epochs=2, lr=0.02)
FROZEN = {"norm_kwargs": {"use_global_stats": True}}


def batches(data, size=8, group=ALONE, **settings):
    """The worker's share of the batches; `size` pictures a worker."""
    return Batches(
        data,
        size,
        Normalization.channel(data),
        num_parts=group.count,
        part_index=group.rank,
        **settings,
    )


def train_batches(data, size=8, group=ALONE):
    varied = Augmentation(crop_padding=2, flip="random")
    return lambda epoch: batches(
        data, size, group, seed=5, epoch=epoch, shuffle=True, augmentation=varied
    )


def trained(model, data, group=ALONE, size=8, wrap=None, recipe=TWENTY, **settings):
    """Trains 20 steps; the history."""
    training = train_batches(data, size, group)
    return fit(
        model, recipe, wrap(training) if wrap else training, batches(dataset(21), 10, group),
        classes=3, progress=False, **settings,
    )  # fmt: skip


def run_directory(folder, group):
    """The first worker's run directory; what another one gives must never be made."""
    if group.rank:
        return RunDirectory(folder / f"never{group.rank}", SPEC, TWENTY, data_record())
    return RunDirectory.start(folder / "run", SPEC, TWENTY, data_record())


def disturbed(training, at, disturb, slowly=0.0):
    """The same batches, with something that happens while batch `at`, (epoch, step), is made."""

    class Disturbed:
        def __init__(self, epoch):
            self.epoch, self.inner = epoch, training(epoch)

        def __len__(self):
            return len(self.inner)

        def __iter__(self):
            for step, batch in enumerate(self.inner):
                if (self.epoch, step) == at:
                    disturb()
                if (self.epoch, step) >= at:
                    time.sleep(slowly)
                yield batch

    return Disturbed


def once(marker):
    """Whether this is the first life of several."""
    first = not marker.exists()
    marker.touch()
    return first


def fail():
    raise ValueError("this worker alone has an error")


def save_weights(model, path):
    named = model._collect_params_with_prefix()
    np.savez(path, **{name: p.data().asnumpy() for name, p in named.items()})


def compare(group, kvstore, folder):
    """What differs from one process only by rounding: losses and weights, for the test to see."""
    model = net(zero_init=True, **FROZEN)
    history = trained(model, dataset(PICTURES), group, kvstore=kvstore)
    save_weights(model, folder / f"frozen{group.rank}.npz")
    uneven = [len(train_batches(dataset(count), 4, group)(0)) for count in (17, 18)]

    def poisoned(training):
        def epochs(epoch):
            for step, (images, labels) in enumerate(training(epoch)):
                if (group.rank, epoch, step) == (1, 1, 1):
                    images = np.full_like(images, np.nan)
                yield images, labels

        return lambda epoch: list(epochs(epoch))

    short = trained(net(), dataset(17), group, 4, kvstore=kvstore, wrap=poisoned)
    found = {
        "frozen": [result.losses for result in history.epochs],
        "val_loss": [result.val_loss for result in history.epochs],
        "uneven": uneven,
        "short": [[len(result.losses), result.skipped] for result in short.epochs],
    }
    (folder / f"compare{group.rank}.json").write_text(json.dumps(found))


def drift(group, kvstore, folder):
    """Weights by Muon, whose products may round otherwise on one worker: far astray here."""
    model = net(zero_init=True)

    def astray():
        model.output.weight.set_data(1.01 * model.output.weight.data())

    wrap = partial(disturbed, at=(1, 1), disturb=astray) if group.rank else None
    recipe = replace(TWENTY, optimizer="muon")
    trained(model, dataset(PICTURES), group, wrap=wrap, recipe=recipe, workers=0, kvstore=kvstore)
    save_weights(model, folder / f"drift{group.rank}.npz")


def main(kvstore, folder, what=""):
    folder, group = Path(folder), join(kvstore)
    wrap = None
    if what == "disturb" and group.rank == 1:
        # First it is killed; the next time the launcher is asked to stop.
        if once(folder / "killed"):
            pid, number, at, slowly = os.getpid(), signal.SIGKILL, (0, 7), 0.0
        else:
            pid, number, at, slowly = int(os.environ["LAUNCHER"]), signal.SIGTERM, (1, 2), 0.6
        wrap = partial(disturbed, at=at, disturb=lambda: os.kill(pid, number), slowly=slowly)
    run = run_directory(folder, group)
    if what == "fail" and group.rank == 1:
        wrap = partial(disturbed, at=(0, 3), disturb=fail)
    model, settings = net(zero_init=True), {"run": run, "kvstore": kvstore, "save_every": 1}
    history = trained(model, dataset(PICTURES), group, wrap=wrap, workers=0, **settings)
    if what == "compare":
        compare(group, kvstore, folder)
        drift(group, kvstore, folder)
    return 0 if history.completed else {signal.SIGTERM: 75, signal.SIGINT: 130}[history.stopped_by]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
