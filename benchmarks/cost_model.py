"""What many workers cost: bytes a step, their time on a link, and what is left of the speed.

Writes the tables of scaling_cost_model.md, out of the parameters of the networks, the measured step
times in results/throughput.json, and the assumptions below, which are named on that page.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from marks import add_flags, between, update
from provenance import RESULTS, ROOT

from gluon_ran.models import summary

NETWORKS = ("cifar_attention56", "cifar_attention92", "attention56", "attention92")
WORKERS, LINKS = (2, 4, 8, 16, 32, 64), (1, 10, 25, 100)
# Assumptions: nothing here is measured. Multiply-accumulates count twice, and training three times.
GPU_FLOPS, GPU_BATCH = 10e12, {"cifar_attention56": 128, "cifar_attention92": 128}
GPU_BATCH_224, MESSAGE_SECONDS = 32, 50e-6
# Of a step: the gradients, and whether to stop.
SUMS = 2


class Job(NamedTuple):
    """A worker's step.

    Attributes:
        name: the network.
        where: what computes it.
        batch: pictures a worker and step.
        seconds: of a step by itself.
        gradients: bytes of the gradients.
    """

    name: str
    where: str
    batch: int
    seconds: float
    gradients: int


def ring_seconds(gradients: int, workers: int, link: float) -> float:
    """Time that a step waits for a ring of workers, as Horovod's.

    Each worker sends and gets 2 (N - 1) / N times the gradients, a sum in 2 (N - 1) messages.

    Args:
        gradients: bytes.
        workers: how many.
        link: bits a second, in each direction at a time.
    """
    return 2 * (workers - 1) * (gradients / workers * 8 / link + SUMS * MESSAGE_SECONDS)


def server_seconds(gradients: int, workers: int, servers: int, link: float) -> float:
    """Time that a step waits for a parameter server: all is pushed, then all is pulled.

    Each worker sends all gradients and gets as many; of S servers each gets and sends N / S times
    the gradients. Servers have machines of their own.

    Args:
        gradients: bytes.
        workers: how many.
        servers: how many.
        link: bits a second of each machine, in each direction at a time.
    """
    return 2 * (gradients * 8 * max(1, workers / servers) / link + SUMS * MESSAGE_SECONDS)


def efficiency(job: Job, communication: float) -> float:
    """Share of N times one worker's speed; nothing is sent before the backward pass has ended."""
    return job.seconds / (job.seconds + communication)


def jobs(throughput: dict[str, Any]) -> Iterator[Job]:
    """The measured steps of the networks, then those of an assumed GPU.

    Args:
        throughput: results/throughput.json.
    """
    counts = {name: summary(name, verbose=False) for name in NETWORKS}
    gradients = {name: 4 * count.parameters for name, count in counts.items()}
    for row in throughput["results"]:
        if row["job"] == "training" and row["form"] == "bfloat16" and row["model"] in counts:
            seconds = row["batch_size"] / row["images_per_second"]["median"]
            where = "2 CPU cores, measured"
            yield Job(row["model"], where, row["batch_size"], seconds, gradients[row["model"]])
    for name in NETWORKS:
        batch = GPU_BATCH.get(name, GPU_BATCH_224)
        seconds = 6 * counts[name].macs * batch / GPU_FLOPS
        yield Job(name, "a GPU, assumed", batch, seconds, gradients[name])


def bytes_table(rows: Sequence[Job]) -> str:
    """Megabytes a step: of a worker, and of each server."""
    lines = [
        "| network | gradients, MB | a worker sends, and gets: servers | ring, 2 | ring, 64 "
        "| each of 64 servers, 64 workers | a lone server, 64 workers |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, size in {job.name: job.gradients / 1e6 for job in rows}.items():
        ring = [2 * (n - 1) / n * size for n in (2, 64)]
        lines.append(
            f"| `{name}` | {size:.1f} | {size:.1f} | {ring[0]:.1f} | {ring[1]:.1f} | {size:.1f} "
            f"| {64 * size:,.0f} |"
        )
    return "\n".join(lines)


def efficiency_table(rows: Sequence[Job]) -> str:
    """Per cent of N times one worker's speed, a row a step and link."""
    lines = [
        "| network, batch a worker, machine | step, ms | link, Gbit/s | "
        + " | ".join(f"ring of {n}" for n in WORKERS)
        + " | N servers, any N | 2 servers, 8 workers | 2 servers, 64 "
        "| batch for 90 %, ring of 64 |",
        "|---|" + "---:|" * (len(WORKERS) + 6),
    ]
    for job in rows:
        for link in LINKS:
            ring = [ring_seconds(job.gradients, n, link * 1e9) for n in WORKERS]
            by_servers = [
                server_seconds(job.gradients, n, servers, link * 1e9)
                for n, servers in ((2, 2), (8, 2), (64, 2))
            ]
            shares = [100 * efficiency(job, seconds) for seconds in (*ring, *by_servers)]
            title = f"`{job.name}`, {job.batch}, {job.where} | {1e3 * job.seconds:,.0f} | {link}"
            cells = " | ".join(f"{share:.0f}" for share in shares)
            lines.append(f"| {title} | {cells} | {batch_for(0.9, job, ring[-1]):,} |")
    return "\n".join(lines)


def batch_for(share: float, job: Job, communication: float) -> int:
    """Pictures a worker and step at which that share of the speed is left."""
    return math.ceil(job.batch * share / (1 - share) * communication / job.seconds)


def updated(page: str, throughput: dict[str, Any]) -> str:
    """The page with its tables of today."""
    rows = list(jobs(throughput))
    for name, table in (("bytes", bytes_table), ("efficiency", efficiency_table)):
        marks = f"<!-- benchmarks/cost_model.py: {name} -->", f"<!-- end of {name} -->"
        page = between(page, *marks, table(rows))
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the results")
    add_flags(parser, ROOT / "benchmarks" / "scaling_cost_model.md")
    args = parser.parse_args(argv)
    path = args.results / "throughput.json"
    return update(args, lambda page: updated(page, json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    sys.exit(main())
