"""Measures what brings pictures to a network, against what MXNet and GluonCV have for it.

`cifar` measures batches of 32x32 pictures from memory: crop, flip, normalise. The pictures are
random, since the work does not depend on what they show. `imagenet` measures JPEG pictures out of
a RecordIO file: decode, crop, resize, change colours, normalise. The contenders take turns, an
epoch each; two never run at once. A batch counts once it is an MXNet array.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pipeline_contenders as contenders
from pipeline_contenders import Contender, DataLoader
from provenance import RESULTS, keeping_parts, provenance, spread, write_json
from turns import positive, say, take_turns

from gluon_ran.data import RecordFile, pack_folder

import mxnet as mx


def measure(taking_part: Sequence[Contender], rounds: int) -> list[dict[str, Any]]:
    """Lets the contenders take turns, and does not count the first, which warms up.

    Returns:
        An entry a contender: name, what it is, whether it is a peer, and its pictures a second.
    """
    rates = take_turns([contender.rate for contender in taking_part], rounds + 1)
    return [
        {
            "name": contender.name,
            "what": contender.what,
            "peer": contender.peer,
            "images_per_second": spread(rate[1:]),
        }
        for contender, rate in zip(taking_part, rates)
    ]


def add_ratios(results: list[dict[str, Any]]) -> str:
    """Adds to each entry the spread of its ratios, round by round, to the fastest peer.

    Returns:
        That peer's name: of those with the best median.
    """
    peers = [result for result in results if result["peer"]]
    best = max(peers, key=lambda result: result["images_per_second"]["median"])
    others = best["images_per_second"]["values"]
    for result in results:
        pairs = zip(result["images_per_second"]["values"], others)
        result["ratio"] = spread([ours / theirs for ours, theirs in pairs])
    return best["name"]


def table(task: str, best: str, results: Sequence[dict[str, Any]]) -> str:
    """The results of one task as lines of text."""
    row = "{:<44} {:>9} {:>17} {:>7} {:>15}"
    lines = [
        f"{task}; ratios to {best}",
        row.format("", "images/s", "quartiles", "ratio", "quartiles"),
    ]
    for result in results:
        rate, ratio = result["images_per_second"], result["ratio"]
        lines.append(
            row.format(
                result["name"],
                f"{rate['median']:.0f}",
                f"{rate['q1']:.0f} to {rate['q3']:.0f}",
                f"{ratio['median']:.2f}",
                f"{ratio['q1']:.2f} to {ratio['q3']:.2f}",
            )
        )
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of what decodes and computes here."""
    from PIL import features

    packages = {name: version(name) for name in ("gluoncv", "numpy", "scipy", "Pillow")}
    turbo = features.version("libjpeg_turbo") or "none"
    return {"mxnet": mx.__version__, **packages, "libjpeg-turbo of Pillow": turbo}


def _cifar(args: argparse.Namespace, stack: ExitStack) -> dict[str, list[Contender]]:
    if args.records is None:
        say("without --records, ImageRecordIter takes no part")
    taking_part = contenders.cifar(args.pictures, args.records, args.batch_size)
    for workers in (0, 2):
        loader = DataLoader(args.dataloader_pictures, args.batch_size, workers)
        taking_part.append(stack.enter_context(loader).contender)
    return {"CIFAR, training": taking_part}


def _imagenet(args: argparse.Namespace, stack: ExitStack) -> dict[str, list[Contender]]:
    rec = Path(stack.enter_context(tempfile.TemporaryDirectory()), "pictures.rec")
    say(f"packed {pack_folder(args.pictures_dir, rec)} pictures")
    records = RecordFile(rec)
    return {
        f"{task}, {args.size}x{args.size}": make(records, args.batch_size, args.size)
        for task, make in (
            ("ImageNet, training", contenders.imagenet_training),
            ("ImageNet, validation", contenders.imagenet_validation),
        )
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    cifar = parts.add_parser("cifar", help="32x32 pictures from memory")
    add = cifar.add_argument
    add("--records", type=Path, help="a .rec file of 32x32 JPEGs, for ImageRecordIter")
    add("--pictures", type=positive, default=50_000, help="pictures of an epoch")
    add("--dataloader-pictures", type=positive, default=5_000, help="of an epoch of DataLoader")
    add("--batch-size", type=positive, default=128)
    imagenet = parts.add_parser("imagenet", help="JPEG pictures from RecordIO")
    add = imagenet.add_argument
    add("--pictures-dir", type=Path, required=True, help="a folder of pictures, one a class in it")
    add("--size", type=positive, default=224, help="side of what the network sees, in pixels")
    add("--batch-size", type=positive, default=64)
    for part in (cifar, imagenet):
        part.add_argument("--rounds", type=positive, default=5, help="turns of each")
        part.add_argument("--out", type=Path, help="the JSON to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the JSON."""
    args = _parser().parse_args(argv)
    settings = {"part": args.part, "rounds": args.rounds, "batch_size": args.batch_size}
    tasks, out = [], args.out or RESULTS / f"{args.part}_pipeline.json"
    result = {**settings, "tasks": tasks, "versions": versions(), **provenance(argv)}
    with keeping_parts(out) as keep, ExitStack() as stack:
        made = (_cifar if args.part == "cifar" else _imagenet)(args, stack)
        for task, taking_part in made.items():
            say(task)
            results = measure(taking_part, args.rounds)
            best = add_ratios(results)
            print(table(task, best, results), flush=True)
            tasks.append({"task": task, "ratios_to": best, "results": results})
            keep(result)
        write_json(out, result)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
