"""GluonCV's CIFAR path in a process without gluon_ran: what pipeline.py measures ours against.

gluon_ran sets OMP_NUM_THREADS, and with it each of DataLoader's workers has a team of threads for
every operator. Standard input brings a line an epoch; standard output answers each, and the start,
with a line of JSON. It ends when its input does.
"""

from __future__ import annotations

import argparse
import builtins
import json
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def import_gluoncv() -> Any:
    """Imports GluonCV as it needs it: with NumPy's old names, without PyTorch."""
    for name in ("bool", "float", "int"):
        vars(np).setdefault(name, getattr(builtins, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import mxnet  # noqa: F401  (its SciPy must not meet the missing PyTorch)

        sys.modules["torch"] = None
        try:
            import gluoncv
        finally:
            del sys.modules["torch"]
    return gluoncv


def loader(images: np.ndarray, batch_size: int, workers: int) -> Any:
    """The batches of GluonCV's train_cifar10.py, of pictures in memory as MXNet's CIFAR10 has them.

    Args:
        images: uint8, (N, 32, 32, 3).
        batch_size: pictures a batch.
        workers: processes; 0: none but this one.
    """
    gluoncv = import_gluoncv()
    from mxnet import gluon, nd

    vision = gluon.data.vision.transforms
    transform = vision.Compose(
        [
            gluoncv.data.transforms.RandomCrop(32, pad=4),
            vision.RandomFlipLeftRight(),
            vision.ToTensor(),
            vision.Normalize(MEAN, STD),
        ]
    )
    labels = (np.arange(len(images)) % 10).astype(np.int32)
    pictures = gluon.data.ArrayDataset(nd.array(images, dtype=np.uint8), labels)
    return gluon.data.DataLoader(
        pictures.transform_first(transform), batch_size, shuffle=True, num_workers=workers
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Answers each line with the pictures and seconds of an epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.pictures, 32, 32, 3), dtype=np.uint8)
    batches = loader(images, args.batch_size, args.workers)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start, count = time.perf_counter(), 0
        for pictures, _ in batches:
            pictures.wait_to_read()
            count += len(pictures)
        print(json.dumps({"pictures": count, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
