"""train/imagenet_train.py on a small stream of pictures, in a working directory of its own."""

import numpy as np
import pytest
from own_pictures import COUNTS, own_pictures  # noqa: F401
from scripts import script

from gluon_ran.data import pack_folder
from gluon_ran.models.params_file import read_params_file
from gluon_ran.training import RunDirectory
from gluon_ran.training.manifest import newest_whole

COUNT = sum(COUNTS.values())  # 28, of which an epoch of batches of 5 has 25


@pytest.fixture(autouse=True)
def packed(own_pictures):  # noqa: F811
    """The pictures of signs/ as a pair of RecordIO files."""
    for part in ("train", "val"):
        pack_folder("signs", f"packed/own_{part}.rec")


def train(*flags, data_dir="packed", name="imagenet_train", model="tiny"):
    return script(name).main(
        ["--data-dir", data_dir, "--model", model, "--size", "16", "--epochs", "1", "-b", "5",
         "--flip", "none", *flags]
    )  # fmt: skip


def log_of(run):
    return (run / "train.log").read_text()


def rows(run):
    return RunDirectory.open(run).metrics()


def saved(run):
    manifest = newest_whole(run / "checkpoints")
    return [
        read_params_file(run / "checkpoints" / manifest[part]) for part in ("weights", "states")
    ]


def damaged(rec, number, change):
    """Changes the bytes of a record, from where it begins."""
    line = rec.with_suffix(".idx").read_text().splitlines()[number]
    start, data = int(line.split()[1]), bytearray(rec.read_bytes())
    change(memoryview(data)[start:])
    rec.write_bytes(data)


def without_mark(record):
    record[0] ^= 1


def without_picture(record):
    record[32:48] = bytes(16)


def with_label(label):
    def change(record):
        record[12:16] = np.float32(label).tobytes()

    return change
