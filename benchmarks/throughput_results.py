"""What throughput.py makes of its timings: speeds, ratios, shares of the ceiling, latencies."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from provenance import spread
from throughput_contenders import FORMS, Contender
from throughput_process import Timings

# Multiply-accumulates of a training step to those of a forward pass: the gradients of a
# convolution's input and of its weights cost as much as the convolution each.
_PASSES = {"training": 3, "inference": 1}


def result_of(timings: Timings) -> dict[str, Any]:
    """What a contender reached; a rate a turn."""
    contender, pictures = timings.entrant, timings.entrant.batch_size * timings.batches
    result = {
        "job": contender.job,
        "model": contender.model,
        "batch_size": contender.batch_size,
        "form": contender.form,
        "what": FORMS[contender.form].what,
        "precision": contender.precision,
        "network": contender.network,
        **timings.description,
        "batches_a_turn": timings.batches,
        "images_per_second": spread([pictures / sum(turn) for turn in timings.seconds]),
    }
    if contender.job == "inference":
        result["latency_ms"] = latency([s for turn in timings.seconds for s in turn])
    return result


def latency(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and 95th percentile of single batches, in milliseconds, and how many there were."""
    percentile = (
        statistics.quantiles(seconds, n=20, method="inclusive")[-1] if seconds[1:] else None
    )
    tail = seconds[0] if percentile is None else percentile
    return {
        "median": _rounded(1e3 * statistics.median(seconds)),
        "p95": _rounded(1e3 * tail),
        "n": len(seconds),
    }


def ceiling_of(timings: Timings) -> dict[str, Any]:
    """What the machine reached in matrix products; a rate a turn."""
    rates = [timings.description["flop"] * timings.batches / sum(t) for t in timings.seconds]
    return {
        "precision": timings.entrant.precision,
        **timings.description,
        "flop_per_second": spread(rates),
    }


def complete(results: Sequence[dict[str, Any]], ceilings: Sequence[dict[str, Any]]) -> None:
    """Adds, to the results of contenders that took turns together, what compares them.

    Args:
        results: of one job, model and batch size.
        ceilings: taken in the same rounds.
    """
    add_ratios(results)
    products = {c["precision"]: c["flop_per_second"]["values"] for c in ceilings}
    macs = next((r["macs"] for r in results if "macs" in r and r["form"] != "gluoncv"), None)
    for result in results:
        result.setdefault("macs", macs)
        flop = 2 * result["macs"] * _PASSES[result["job"]] if result["macs"] else None
        rates, most = result["images_per_second"]["values"], products.get(result["precision"])
        shares = [flop * rate / top for rate, top in zip(rates, most)] if flop and most else None
        result["share_of_ceiling"] = spread(shares) if shares else None


def add_ratios(results: Sequence[dict[str, Any]]) -> None:
    """Adds to each entry the spread of its ratios to GluonCV in the same rounds, None without."""
    base = {r["model"]: r["images_per_second"] for r in results if r["form"] == "gluoncv"}
    for result in results:
        rates, others = result["images_per_second"], base.get(result["model"])
        pairs = zip(rates["values"], others["values"]) if others else ()
        ratios = [ours / theirs for ours, theirs in pairs]
        result["ratio_to_gluoncv"] = spread(ratios) if ratios else None


def skipped_entry(contender: Contender, reason: str) -> dict[str, Any]:
    """What is kept of a contender that did not take part."""
    return {
        "job": contender.job,
        "model": contender.model,
        "batch_size": contender.batch_size,
        "form": contender.form,
        "reason": reason,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
