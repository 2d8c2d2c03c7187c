"""Measures how far ONNX Runtime's scores of exported networks are from MXNet's.

Each network of the zoo, at its own width and picture size, gets random weights and random BatchNorm
statistics, is exported, and scores two random pictures in float32 on both sides. The difference is
the greatest one over the greatest magnitude. Each one is measured in a process of its own, so that
memory is needed for one network only: 4 GB for the largest.

    python benchmarks/onnx_parity.py --models cifar_attention56 attention56
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from conversion_parity import randomise
from provenance import RESULTS, keeping_parts, provenance, write_json

import gluon_ran
from gluon_ran.deploy import export_onnx
from gluon_ran.models import find_spec

from mxnet import nd

BOUND = 1e-4
PACKAGES = ("mxnet", "numpy", "onnx", "onnxruntime", "protobuf")


def measure(name: str) -> dict[str, Any]:
    """A row for a network of the zoo: its file, and the difference of the scores."""
    import onnxruntime

    spec = find_spec(name)
    shape = (2, spec.in_channels, *spec.input_size)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    net = gluon_ran.get_model(name)
    net.collect_params().setattr("grad_req", "null")  # no memory for gradients
    net.initialize()
    randomise(net, nd.array(images))
    ours = net(nd.array(images)).asnumpy()
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(net, Path(folder) / f"{name}.onnx", spec.input_size)
        size = path.stat().st_size
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["scores"], {"images": images})
    greatest = np.abs(ours).max()
    return {
        "name": name,
        "side": spec.input_size[0],
        "file_mb": round(size / 1e6, 1),
        "difference": float(np.abs(theirs - ours).max() / greatest),
        # Scores that don't depend on the picture would prove little.
        "between_pictures": float(np.abs(ours[0] - ours[1]).max() / greatest),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def measure_alone(name: str) -> dict[str, Any]:
    """`measure` in a new process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, name).result()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code: 1 where a difference is above 1e-4."""
    names = [*gluon_ran.list_models(), *gluon_ran.list_baselines()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="NAME",
                        help="which networks to measure (default: all of the zoo)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS / "onnx_parity.json")
    args = parser.parse_args(argv)
    print(f"{'network':<28} {'side':>4} {'MB':>7} {'difference':>10} {'GB':>5}")
    rows, versions = [], {package: version(package) for package in PACKAGES}
    result = {"rows": rows, "versions": versions, **provenance(argv)}
    with keeping_parts(args.out) as keep:
        for name in args.models:
            row = measure_alone(name)
            print(f"{name:<28} {row['side']:>4} {row['file_mb']:>7} {row['difference']:>10.1e} "
                  f"{row['peak_memory_gb']:>5}", flush=True)  # fmt: skip
            rows.append(row)
            keep(result)
        write_json(args.out, result)
    print(f"written: {args.out}")
    return int(not all(row["difference"] <= BOUND for row in rows))


if __name__ == "__main__":
    sys.exit(main())
