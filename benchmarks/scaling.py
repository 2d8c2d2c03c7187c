"""Measures how the cost of gluon_ran's networks grows with depth, batch and input size.

Prints a table, writes results/scaling.json and draws results/scaling.png. The networks of a sweep
are processes that take turns, as throughput.py's contenders are and do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from provenance import RESULTS, keeping_parts, provenance, spread, write_json
from scaling_figure import draw
from scaling_lines import lines, table
from throughput_contenders import JOBS, Contender
from throughput_process import Timings, Turns, interleave
from turns import positive, say

import gluon_ran  # noqa: F401  (sets the number of threads, which all processes inherit)

DEPTHS = (56, 92, 128, 164, 236, 452)
PRECISIONS = ("float32", "bfloat16")


class Point(NamedTuple):
    """What a sweep measures at one place.

    Attributes:
        at: the number that the sweep changes.
        model: name of the network.
        batch_size: pictures a batch.
        size: height and width of the pictures, in pixels; None for the network's own.
    """

    at: int
    model: str
    batch_size: int
    size: tuple[int, int] | None = None


SWEEPS = {
    "depth": [Point(n, f"cifar_attention{n}", 8) for n in DEPTHS],
    "batch": [Point(n, "cifar_attention56_thin", n) for n in (1, 4, 16, 64, 128, 256)],
    "size": [Point(n, "cifar_attention56", 16, (n, n)) for n in (16, 24, 32, 48, 64, 96)],
    "imagenet_size": [Point(n, "attention56", 4, (n, n)) for n in (128, 160, 192, 224, 256, 320)],
}


def measure(
    sweep: str, job: str, precision: str, turns: Turns
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lets the networks of a sweep take turns.

    Args:
        sweep: one of `SWEEPS`.
        job: "training" or "inference".
        precision: "float32" or "bfloat16".
        turns: how.

    Returns:
        A point each, and what could not be measured.

    Raises:
        RuntimeError: a process ended.
    """
    where = {"sweep": sweep, "job": job, "precision": precision}
    places = [
        (p.at, Contender(p.model, precision, job, p.batch_size, p.size)) for p in SWEEPS[sweep]
    ]
    obstacle = places[0][1].obstacle()
    if obstacle:
        return [], [{**where, "reason": obstacle}]
    say(f"{sweep}, {job}, {precision}")
    timings, absent = interleave([contender for _, contender in places], turns, None)
    at = {contender: at for at, contender in places}
    skipped = [{**where, "at": at[c], "reason": reason} for c, reason in absent]
    return [{**where, "at": at[t.entrant], **point_of(t)} for t in timings], skipped


def point_of(timings: Timings) -> dict[str, Any]:
    """What is kept of a network's turns; a time a turn."""
    contender = timings.entrant
    seconds = [sum(turn) / timings.batches for turn in timings.seconds]
    return {
        "model": contender.model,
        "batch_size": contender.batch_size,
        **timings.description,
        "seconds_per_batch": spread(seconds),
        "images_per_second": spread([contender.batch_size / s for s in seconds]),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sweeps", nargs="+", default=list(SWEEPS), choices=SWEEPS, help="what to change")
    add("--jobs", nargs="+", default=list(JOBS), choices=JOBS, help="what to measure")
    add("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    add("--rounds", type=positive, default=3, help="turns of each network")
    add(
        "--steps",
        type=positive,
        default=1,
        help="batches of a turn; of cheap ones up to ten times",
    )
    add("--warmup", type=positive, default=1, help="batches of each ahead of its first turn")
    add("--out", type=Path, default=RESULTS / "scaling.json", help="the JSON; the PNG goes beside")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the JSON and draws the figure."""
    arguments = _parser().parse_args(argv)
    origin = provenance(argv)
    turns = Turns(arguments.rounds, arguments.steps, arguments.warmup)
    points, skipped = [], []
    settings = {name: vars(arguments)[name] for name in ("rounds", "steps", "warmup")}
    result = {
        "what": "how the cost of training and inference on the CPU grows",
        **origin,
        **settings,
        "lines": [],
        "points": points,
        "skipped": skipped,
    }
    with keeping_parts(arguments.out) as keep:
        for sweep in arguments.sweeps:
            for job in arguments.jobs:
                for precision in arguments.precisions:
                    found, absent = measure(sweep, job, precision, turns)
                    points += found
                    skipped += absent
                    keep(result)
        result["lines"] = lines(points)
        print(table(result))
        write_json(arguments.out, result)
        if points:
            draw(result, arguments.out.with_suffix(".png"))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
