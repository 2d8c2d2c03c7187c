"""Measures the CIFAR data path on one core: crop, flip, normalise, batches of 128.

The pictures are random, since the work does not depend on what they show.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from provenance import RESULTS, provenance, spread, write_json

from gluon_ran.data import Augmentation, Batches, Dataset, Normalization

PICTURES = 50_000
SETTINGS = {
    "reflect crop, random flip": Augmentation(4, "reflect", "random"),
    "zero crop, alternating flip": Augmentation(4, "zero", "alternating"),
    "reflect crop, random flip, cutout 16": Augmentation(4, "reflect", "random", cutout=16),
    "normalisation alone": None,
}


def random_dataset(count: int) -> Dataset:
    """As many random 32x32 pictures of 10 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Dataset(images, (np.arange(count) % 10).astype(np.int32), tuple("0123456789"))


def images_per_second(
    dataset: Dataset, augmentation: Augmentation | None, batch_size: int, epoch: int
) -> float:
    """Pictures a second of one epoch, made in this thread."""
    normalization = Normalization(np.full(3, 120.0), np.full(3, 60.0))
    start = time.perf_counter()
    batches = Batches(
        dataset, batch_size, normalization, epoch=epoch, shuffle=True, augmentation=augmentation
    )
    count = sum(len(labels) for _, labels in batches)
    return count / (time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "cifar_pipeline.json")
    args = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    dataset = random_dataset(args.pictures)
    speeds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for epoch in range(args.rounds):
        for name, augmentation in SETTINGS.items():
            speed = images_per_second(dataset, augmentation, args.batch_size, epoch)
            speeds[name].append(speed)
    result = {name: spread(values) for name, values in speeds.items()}
    for name, values in result.items():
        print(f"{name:<40} {values['median']:>10,.0f} img/s")
    settings = {"pictures": args.pictures, "batch_size": args.batch_size, "cores": 1}
    write_json(args.out, {**settings, "images_per_second": result, **provenance(argv)})
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
