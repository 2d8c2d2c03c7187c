"""Measures training and inference on the CPU: gluon_ran, GluonCV, PyTorch and ONNX Runtime.

Each contender is a process of its own: MXNet reads its engine variables once a process, PyTorch and
GluonCV can't live in one environment, and peak memory belongs to a process. All contenders for a
job, a network and a batch size stay alive and take turns, a few batches each, so that what else
the machine does hits all alike; two never run at once. Among them is the machine's own ceiling,
oneDNN's matrix product. A training step is a forward pass with its loss on a fixed random batch,
the backward pass, and an NAG update with momentum and weight decay.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provenance import RESULTS, keeping_parts, provenance, write_json
from throughput_contenders import FORMS, JOBS, Contender, Product
from throughput_process import Turns, interleave, make_reference
from throughput_report import table
from throughput_results import ceiling_of, complete, result_of, skipped_entry
from turns import positive, say

import gluon_ran  # noqa: F401  (sets the number of threads, which all processes inherit)
from gluon_ran.models import SPECS


def contenders(arguments: argparse.Namespace) -> list[list[Contender]]:
    """Who is asked for: a list for each job, network and batch size."""
    found = []
    for job in arguments.jobs:
        forms = [form for form in arguments.forms if job in FORMS[form].jobs]
        sizes = arguments.batch_sizes if job == "inference" else [arguments.batch_size]
        for model in arguments.models:
            most = arguments.imagenet_batch_size if _is_large(model) else max(sizes)
            # A dict, since two batch sizes may be the same when neither exceeds the most.
            for size in dict.fromkeys(min(size, most) for size in sizes):
                found.append([Contender(model, form, job, size) for form in forms])
    return found


def _is_large(model: str) -> bool:
    return model in SPECS and SPECS[model].stem == "imagenet"


def measure(
    group: Sequence[Contender], turns: Turns, folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Lets the contenders of one job, network and batch size take turns.

    Args:
        group: who is asked for.
        turns: how.
        folder: for the references.

    Returns:
        Results, ceilings, and who did not take part.

    Raises:
        RuntimeError: a contender's process ended.
    """
    reasons = {c: c.obstacle(turns.torch_python) for c in group}
    able = [c for c in group if not reasons[c]]
    if not able:
        return [], [], [skipped_entry(c, reasons[c]) for c in group]
    one = able[0]
    say(f"{one.job}, {one.model}, batches of {one.batch_size}")
    reference = None
    if any(c.needs_reference for c in able):
        onnx = any(FORMS[c.form].engine == "throughput_onnx" for c in able)
        reference = make_reference(one.model, folder, onnx)
    products = [Product(precision) for precision in dict.fromkeys(c.precision for c in able)]
    timings, absent = interleave([*able, *products], turns, reference)
    results = [result_of(t) for t in timings if isinstance(t.entrant, Contender)]
    where = {"job": one.job, "model": one.model, "batch_size": one.batch_size}
    ceilings = [{**where, **ceiling_of(t)} for t in timings if isinstance(t.entrant, Product)]
    complete(results, ceilings)
    reasons.update(absent)
    return results, ceilings, [skipped_entry(c, reasons[c]) for c in group if reasons[c]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", default=["cifar_attention56"], help="networks of gluon_ran's zoo")
    add("--jobs", nargs="+", default=list(JOBS), choices=JOBS, help="what to measure")
    add("--forms", nargs="+", default=list(FORMS), choices=FORMS, help="who takes part")
    add("--batch-size", type=positive, default=64, help="pictures a training step")
    add(
        "--batch-sizes", type=positive, nargs="+", default=[64, 1], metavar="N",
        help="pictures a batch in inference",
    )  # fmt: skip
    add(
        "--imagenet-batch-size", type=positive, default=8, metavar="N",
        help="the most pictures a batch of networks with ImageNet's stem, in either job; all "
        "contenders for one are in memory together",
    )  # fmt: skip
    add("--rounds", type=positive, default=10, help="turns of each contender")
    add(
        "--steps",
        type=positive,
        default=3,
        help="batches of a turn; of cheap ones up to ten times",
    )
    add("--warmup", type=positive, default=4, help="batches of each ahead of its first turn")
    add("--torch-python", type=Path, help="a Python that has PyTorch and NumPy")
    add("--out", type=Path, default=RESULTS / "throughput.json", help="the JSON to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the JSON."""
    arguments = _parser().parse_args(argv)
    origin = provenance(argv)
    if arguments.torch_python:  # where it lies is of no use elsewhere
        flag = "--torch-python "
        origin["command"] = origin["command"].replace(
            f"{flag}{shlex.quote(str(arguments.torch_python))}", f"{flag}PYTHON"
        )
    turns = Turns(arguments.rounds, arguments.steps, arguments.warmup, arguments.torch_python)
    settings = {name: vars(arguments)[name] for name in ("rounds", "steps", "warmup")}
    lists = {"results": [], "ceilings": [], "skipped": []}
    result = {"what": "throughput on the CPU", **origin, **settings, **lists}
    with keeping_parts(arguments.out) as keep, tempfile.TemporaryDirectory() as folder:
        for group in contenders(arguments):
            for entries, found in zip(lists.values(), measure(group, turns, Path(folder))):
                entries += found
            keep(result)
        machine = origin["machine"]
        print(f"{machine['cpu']}, {machine['usable_cores']} cores, {' '.join(machine['flags'])}")
        print(table(result))
        write_json(arguments.out, result)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
