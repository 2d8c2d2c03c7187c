r"""Measures how far converted weights' scores are from those of the code that they come from.

Each network of another implementation gets random weights and random BatchNorm statistics, scores
random pictures, and saves its weights in its own way; gluon_ran converts the file and scores the
same pictures in float32. The difference is the greatest one over the greatest magnitude.

GluonCV is installed with gluon_ran. The others are read from clones of their repositories:

    python benchmarks/conversion_parity.py \
        --haoxintong ResidualAttentionNetwork-Gluon \
        --tengshaofeng ResidualAttentionNetwork-pytorch/Residual-Attention-Network
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Iterator, Tuple

import numpy as np
from provenance import RESULTS, keeping_parts, provenance, write_json

from gluon_ran import _runtime
from gluon_ran.models.convert import load_foreign

from mxnet import nd
from mxnet.gluon import HybridBlock, nn

# Name, and side in pixels of what it takes.
GLUONCV = (
    ("cifar_residualattentionnet56", 32),
    ("cifar_residualattentionnet92", 32),
    ("cifar_residualattentionnet452", 32),
    ("residualattentionnet56", 224),
    ("residualattentionnet92", 224),
    ("residualattentionnet128", 224),
    ("residualattentionnet164", 224),
    ("residualattentionnet200", 224),
    ("residualattentionnet236", 224),
    ("residualattentionnet452", 224),
)
HAOXINTONG = tuple(
    (function, depth, side)
    for function, side in (("get_attention_cifar", 32), ("get_attention_net", 224))
    for depth in (56, 92, 128, 164, 236, 452)
)
Made = Iterator[Tuple[str, str, Path, np.ndarray, np.ndarray]]


def pictures(side: int) -> np.ndarray:
    """Random pictures, float32 (N, 3, side, side): two small or one large."""
    rng = np.random.default_rng(side)
    return rng.normal(0, 1, (2 if side == 32 else 1, 3, side, side)).astype(np.float32)


def randomise(net: HybridBlock, x: nd.NDArray) -> None:
    """Random arrays everywhere; running statistics around those of what each layer gets of `x`."""
    rng = np.random.default_rng(0)
    for name, parameter in net._collect_params_with_prefix().items():
        kind = name.rpartition(".")[2]
        gain = 0.5 if name.endswith("conv3.weight") else 1
        deviation = gain * (2 / np.prod(parameter.shape[1:])) ** 0.5 if kind == "weight" else 0.3
        value = rng.normal(0, deviation, parameter.shape)
        parameter.set_data(
            nd.array(rng.uniform(0.5, 1.5, parameter.shape) if kind == "gamma" else value)
        )

    def set_statistics(norm: nn.BatchNorm, inputs: tuple[nd.NDArray, ...]) -> None:
        seen = inputs[0].asnumpy()
        mean = seen.mean(axis=(0, 2, 3))
        deviation = seen.std(axis=(0, 2, 3)) + 0.3 * abs(mean) + 0.1
        norm.running_mean.set_data(nd.array(mean + rng.normal(0, 0.3, mean.shape) * deviation))
        norm.running_var.set_data(nd.array(rng.uniform(0.5, 2, mean.shape) * deviation**2))

    hooks = []

    def hook_norms(block: HybridBlock) -> None:
        if isinstance(block, nn.BatchNorm):
            hooks.append(block.register_forward_pre_hook(set_statistics))

    net.apply(hook_norms)
    net(x)
    for hook in hooks:
        hook.detach()


def _made_by_gluon(folder: Path, source: str, make: Callable[[], HybridBlock], side: int) -> tuple:
    net, images = make(), pictures(side)
    net.initialize()
    x = nd.array(images)
    net(x)
    randomise(net, x)
    path = folder / "theirs.params"
    net.save_parameters(str(path))
    return source, path, images, net(x).asnumpy()


def made_by_gluoncv(folder: Path) -> Made:
    """Each network of GluonCV: source, name, weights, pictures and scores."""
    zoo = _runtime.load_gluoncv().model_zoo
    for name, side in GLUONCV:
        source, *rest = _made_by_gluon(folder, "gluoncv", lambda n=name: zoo.get_model(n), side)
        yield (source, name, *rest)


def made_by_haoxintong(clone: Path, folder: Path) -> Made:
    """Each network of the earlier Gluon port, likewise."""
    sys.path.insert(0, str(clone))
    module = importlib.import_module("net.attention_net")
    for function, depth, side in HAOXINTONG:
        make = lambda f=function, d=depth: getattr(module, f)(10, d)  # noqa: E731
        source, *rest = _made_by_gluon(folder, "haoxintong", make, side)
        yield (source, f"{function}({depth})", *rest)


def made_by_tengshaofeng(clone: Path, python: str, folder: Path) -> Made:
    """Each network of the PyTorch port, likewise, in a process of its own."""
    worker = Path(__file__).with_name("conversion_parity_torch.py")
    subprocess.run([python, str(worker), str(clone), str(folder)], check=True)
    for path in sorted(folder.glob("*.io.npz")):
        name = path.name[: -len(".io.npz")]
        with np.load(path) as arrays:
            yield "tengshaofeng", name, folder / f"{name}.npz", arrays["x"], arrays["y"]


def compare(made: Made) -> Iterator[dict[str, Any]]:
    """A row for each network: source, theirs, ours, and the difference of the scores."""
    for source, name, path, images, theirs in made:
        net = load_foreign(path, source)
        ours = net(nd.array(images)).asnumpy()
        masks = [float(mask.asnumpy().std()) for mask in net.masks(nd.array(images))]
        yield {
            "source": source,
            "theirs": name,
            "ours": net.spec.name,
            "side": images.shape[-1],
            "difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
            # A mask that is the same everywhere would prove nothing of its branch.
            "least_mask_deviation": min(masks),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code: 1 where a difference is above 1e-4."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--haoxintong", type=Path, metavar="CLONE", help="folder that holds net/")
    parser.add_argument("--tengshaofeng", type=Path, metavar="CLONE", help="that holds model/")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON",
                        help="a Python that has PyTorch (default: this one)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS / "conversion_parity.json")
    args = parser.parse_args(argv)
    rows = []
    result = {"rows": rows, **provenance(argv)}
    with keeping_parts(args.out) as keep, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [made_by_gluoncv(folder)]
        if args.haoxintong:
            sources.append(made_by_haoxintong(args.haoxintong, folder))
        if args.tengshaofeng:
            sources.append(made_by_tengshaofeng(args.tengshaofeng, args.torch_python, folder))
        for row in (row for made in sources for row in compare(made)):
            print(f"{row['source']:<13} {row['theirs']:<40} {row['difference']:.1e}", flush=True)
            rows.append(row)
            keep(result)
        write_json(args.out, result)
    print(f"written: {args.out}")
    return int(not all(row["difference"] <= 1e-4 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
