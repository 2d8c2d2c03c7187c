"""Measures the memory and the speed of training, with and without recomputation.

Each turn is a process of its own, so that its peak memory is its own and large networks need not
be in memory together: it makes the network, trains a step or more to warm up, and is timed then.
Prints a table and writes results/training_memory.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from provenance import RESULTS, keeping_parts, provenance, spread, write_json
from turns import positive, say, take_turns


class Case(NamedTuple):
    """What is trained, and how.

    Attributes:
        model: name of the network.
        batch_size: pictures a batch, of the network's own size.
        dtype: "float32" or "bfloat16".
        recompute: whether activations are computed again.
    """

    model: str
    batch_size: int
    dtype: str
    recompute: bool

    def __str__(self) -> str:
        again = ", recomputed" if self.recompute else ""
        return f"{self.model}, batches of {self.batch_size}, {self.dtype}{again}"


def train(case: Case, steps: int, warmup: int) -> dict[str, Any]:
    """Trains random pictures in this process: peak memory, and seconds a step."""
    import numpy as np
    from throughput_protocol import peak_memory

    import gluon_ran
    from gluon_ran.training import get_recipe
    from gluon_ran.training.step import Stepper

    import mxnet as mx

    net = gluon_ran.get_model(case.model)
    recipe = get_recipe("gluon", dtype=case.dtype, batch_size=case.batch_size)
    stepper = Stepper(net, recipe, [mx.cpu()], "device", case.recompute)
    rng = np.random.default_rng(0)
    shape = (case.batch_size, net.spec.in_channels, *net.spec.input_size)
    images = rng.normal(size=shape).astype(np.float32)
    targets = np.eye(net.spec.classes, dtype=np.float32)[
        rng.integers(0, net.spec.classes, case.batch_size)
    ]
    for _ in range(warmup):
        stepper(images, targets, lr=0.01)
    begin = time.perf_counter()
    for _ in range(steps):
        result = stepper(images, targets, lr=0.01)
    seconds = (time.perf_counter() - begin) / steps
    return {"peak_memory_mib": peak_memory(), "seconds": seconds, "loss": result.loss}


def in_process(case: Case, steps: int, warmup: int) -> dict[str, Any]:
    """The same in a process of its own.

    Raises:
        RuntimeError: it failed; its own message is on standard error.
    """
    say(f"training {case}")
    command = [sys.executable, __file__, "--one", *map(str, case), str(steps), str(warmup)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(
            f"training {case} ended with status {finished.returncode}; -9 is what the system does "
            "where memory is short"
        )
    return json.loads(finished.stdout.splitlines()[-1])


def measure(pair: Sequence[Case], rounds: int, steps: int, warmup: int) -> list[dict[str, Any]]:
    """Lets a case without recomputation, the first, and with it take turns; an entry each.

    Raises:
        RuntimeError: a process failed, or the two trained to different losses.
    """
    runs = [partial(in_process, case, steps, warmup) for case in pair]
    turns = take_turns(runs, rounds)
    losses = {turn["loss"] for of_one in turns for turn in of_one}
    if len(losses) > 1:
        raise RuntimeError(f"{pair[0]} and its recomputation trained to other losses: {losses}")
    plain = turns[0]
    return [
        {
            **case._asdict(),
            "peak_memory_mib": spread([turn["peak_memory_mib"] for turn in of_one]),
            "seconds_per_step": spread([turn["seconds"] for turn in of_one]),
            "memory_ratio": spread(
                [a["peak_memory_mib"] / b["peak_memory_mib"] for a, b in zip(of_one, plain)]
            ),
            "speed_ratio": spread([b["seconds"] / a["seconds"] for a, b in zip(of_one, plain)]),
            "loss": of_one[0]["loss"],
        }
        for case, of_one in zip(pair, turns)
    ]


def table(result: dict[str, Any]) -> str:
    """A result in Markdown, a row a case."""
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['usable_cores']} cores, {result['date'][:10]}, "
        f"{result['rounds']} rounds: `{result['command']}`.",
        "",
        "| network | batch | precision | recomputed | MiB | of it | images/s | speed | quartiles |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for case in result["cases"]:
        speed = case["speed_ratio"]
        cells = [
            f"`{case['model']}`",
            str(case["batch_size"]),
            case["dtype"],
            "yes" if case["recompute"] else "no",
            f"{case['peak_memory_mib']['median']:,.0f}",
            f"{case['memory_ratio']['median']:.2f}",
            f"{case['batch_size'] / case['seconds_per_step']['median']:.2f}",
            f"{speed['median']:.2f}",
            f"{speed['q1']:.2f} to {speed['q3']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _network(text: str) -> tuple[str, int]:
    model, _, batch = text.partition(":")
    if not batch.isdigit() or not int(batch):
        raise argparse.ArgumentTypeError(f"{text!r} is no MODEL:BATCH, as attention92:16")
    return model, int(batch)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--networks",
        nargs="+",
        type=_network,
        default=[("attention92", 16), ("cifar_attention452", 64)],
        metavar="MODEL:BATCH",
        help="(default: attention92:16 cifar_attention452:64)",
    )
    add("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    add("--rounds", type=positive, default=3, help="turns of each")
    add("--steps", type=positive, default=2, help="timed steps of a turn")
    add("--warmup", type=positive, default=2, help="steps ahead of them")
    add("--out", type=Path, default=RESULTS / "training_memory.json", help="the JSON to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON."""
    args = _parser().parse_args(argv)
    origin, cases = provenance(argv), []
    settings = {name: vars(args)[name] for name in ("rounds", "steps", "warmup")}
    result = {"what": "memory and speed of training", **origin, **settings, "cases": cases}
    with keeping_parts(args.out) as keep:
        for model, batch_size in args.networks:
            for dtype in args.dtypes:
                pair = [Case(model, batch_size, dtype, again) for again in (False, True)]
                cases += measure(pair, args.rounds, args.steps, args.warmup)
                keep(result)
        print(table(result))
        write_json(args.out, result)
    print(f"written: {args.out}")


def _one(values: Sequence[str]) -> None:
    model, batch_size, dtype, recompute, steps, warmup = values
    case = Case(model, int(batch_size), dtype, recompute == "True")
    print(json.dumps(train(case, int(steps), int(warmup))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2:])
    else:
        main()
