"""Scores trained weights and every form that they are served in on a whole test set.

The original is the network as `train/evaluate.py` runs it; the others come from `deploy.optimize`,
calibrated on pictures of the training set, and from ONNX Runtime on the exported file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from provenance import RESULTS, provenance, write_json
from turns import positive

from gluon_ran._files import sha256_of
from gluon_ran.data import Batches, Dataset, load_dataset
from gluon_ran.data.cifar import CIFAR
from gluon_ran.deploy import BOUNDS, export_onnx, optimize
from gluon_ran.deploy.precisions import CALIBRATION_PICTURES
from gluon_ran.models import Card, WeightsError
from gluon_ran.training import Trained, evaluate, find_trained

import mxnet as mx
from mxnet.gluon import Block, HybridBlock

BATCH_SIZE = 100


class OnnxNetwork(Block):
    """An ONNX file as a block, so that it is scored by the same code."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        super().__init__()
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """Float32 (N, channels, H, W) to (N, classes) scores."""
        return mx.nd.array(self._session.run(None, {"images": x.asnumpy()})[0])


FORMS = (*BOUNDS, "onnx")


def served_form(form: str, original: HybridBlock, card: Card, calibration: np.ndarray) -> Block:
    """A network as it is served.

    Args:
        form: one of `FORMS`.
        original: the network.
        card: what it is of.
        calibration: normalised pictures, float32 (N, C, H, W).

    Raises:
        OptimizeError, ExportError: it can't be served so; says why.
    """
    if form != "onnx":
        return optimize(original, form, [calibration])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        return OnnxNetwork(export_onnx(original, path, calibration.shape[2:], card=card))


def served_forms(trained: Trained, calibration: np.ndarray) -> dict[str, Block]:
    """The network itself and each form that it is served in, by name.

    Args:
        trained: the weights.
        calibration: normalised pictures, float32 (N, C, H, W).
    """
    original = trained.network()
    forms = {form: served_form(form, original, trained.card, calibration) for form in FORMS}
    original.hybridize(static_alloc=True)
    return {"original": original, **forms}


def scores(trained: Trained, train: Dataset, test: Dataset, pictures: int) -> list[dict[str, Any]]:
    """Accuracy and loss of each form on the test set, and what it loses on the original's.

    Args:
        trained: the weights.
        train: the calibration pictures are its first.
        test: what is scored.
        pictures: how many to calibrate on.
    """
    calibration = trained.normalization(train.images[:pictures])
    rows = []
    for name, network in served_forms(trained, calibration).items():
        result = evaluate(network, Batches(test, BATCH_SIZE, trained.normalization))
        rows.append({"form": name, "top1": result.top1, "loss": result.loss, "count": result.count})
        rows[-1]["points_lost"] = round(100 * (rows[0]["top1"] - result.top1), 4)
        if hasattr(network, "disagreement"):
            rows[-1]["disagreement_on_calibration"] = network.disagreement
        print(f"{name:<10} {100 * result.top1:6.2f} %  loss {result.loss:.4f}", flush=True)
    return rows


def find_data(trained: Trained, dataset: str | None) -> str:
    """The name of the data to score on: the one given, else what the weights were trained on.

    Raises:
        WeightsError: the weights have no card, or it has no normalisation, or nothing tells what
            they were trained on.
    """
    if trained.card is None or trained.normalization is None:
        raise WeightsError(f"{trained.weights} has no card that says how pictures are normalised")
    known = trained.run.data if trained.run is not None else trained.card.training or {}
    dataset = dataset or known.get("dataset")
    if dataset is None:
        raise WeightsError(f"nothing tells what {trained.weights} was trained on: give --dataset")
    return dataset


def check_classes(trained: Trained, dataset: str, names: Sequence[str]) -> None:
    """Refuses data whose classes are others than those that the weights tell apart.

    Raises:
        WeightsError: they are.
    """
    own = trained.card.class_names
    if len(names) != trained.spec.classes or (own and tuple(names) != tuple(own)):
        raise WeightsError(
            f"{trained.weights} tells other classes apart than the {len(names)} of {dataset}: give "
            "the --dataset that it was trained on"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="a run directory, a .params file with its card, or a name")
    parser.add_argument("--dataset", choices=(*CIFAR, "digits"),
                        help="default: what the weights were trained on")  # fmt: skip
    parser.add_argument("--data-dir", help="folder of the data (default: the run's, or MXNet's)")
    parser.add_argument("--data", default="", metavar="TEXT",
                        help="what the data are called beside a number")  # fmt: skip
    parser.add_argument("--checkpoint", choices=("best", "last"), default="last",
                        help="of a run (default: last)")  # fmt: skip
    parser.add_argument("--calibration-pictures", type=positive, default=CALIBRATION_PICTURES,
                        help="at most, and by default: %(default)s")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS / "deployed_accuracy.json")
    args = parser.parse_args(argv)
    try:
        trained = find_trained(args.weights, args.checkpoint)
        dataset = find_data(trained, args.dataset)
        about = {} if trained.run is None else trained.run.data
        folder = about.get("data_dir") if dataset == about.get("dataset") else None
        train, test = load_dataset(dataset, args.data_dir or folder)
        check_classes(trained, dataset, test.class_names)
        checksum = sha256_of(trained.weights)
        pictures = min(args.calibration_pictures, CALIBRATION_PICTURES, len(train))
        rows = scores(trained, train, test, pictures)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    what = {
        "model": trained.spec.name,
        "sha256": checksum,
        "dataset": dataset,
        "data": args.data,
    }
    settings = {"calibration_pictures": pictures}
    if Path(args.weights).is_dir():
        settings["checkpoint"] = args.checkpoint
    write_json(args.out, {**what, **settings, "forms": rows, **provenance(argv)})
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
