"""Writes the table of results/throughput.json into benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marks import between
from provenance import RESULTS, ROOT

BEGIN = "<!-- benchmarks/throughput_report.py writes what follows -->"
END = "<!-- end of the table of throughput -->"

HEADS = (
    "form", "images/s", "quartiles", "x GluonCV", "quartiles", "of ceiling", "batch ms", "95 %",
    "first s", "MiB",
)  # fmt: skip


def cells(result: dict[str, Any]) -> list[str]:
    """The row of a result, an entry for each of `HEADS`."""
    share, latency = result["share_of_ceiling"], result.get("latency_ms")
    memory = result["peak_memory_mib"]
    return [
        result["form"],
        *_median_and_quartiles(result["images_per_second"], 1),
        *_median_and_quartiles(result["ratio_to_gluoncv"], 2),
        f"{100 * share['median']:.0f} %" if share else "-",
        *(f"{latency[name]:.1f}" if latency else "-" for name in ("median", "p95")),
        f"{result['first_batch_seconds']:.1f}",
        f"{memory:,.0f}" if memory else "-",
    ]


def _median_and_quartiles(spread: dict[str, float] | None, digits: int) -> tuple[str, str]:
    if spread is None:
        return "-", "-"
    median, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "q1", "q3"))
    return median, f"{low} to {high}"


def groups(entries: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Entries by job, model and batch size, in the order in which they first come."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for entry in entries:
        key = (entry["job"], entry["model"], entry["batch_size"])
        found.setdefault(key, []).append(entry)
    return found


def _title(key: tuple[str, str, int]) -> str:
    job, model, batch_size = key
    return f"{job}, {model}, batches of {batch_size}"


def table(result: dict[str, Any]) -> str:
    """A result of throughput.py as lines of text."""
    lines, missing = [], groups(result["skipped"])
    for key, rows in groups(result["results"]).items():
        lines += ["", _title(key), *_aligned([HEADS, *map(cells, rows)])]
        lines += [f"  skipped: {s['form']}: {s['reason']}" for s in missing.pop(key, [])]
    for key, entries in missing.items():
        lines += ["", _title(key), *(f"  skipped: {s['form']}: {s['reason']}" for s in entries)]
    return "\n".join([*lines, "", *_ceilings(result)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]


def _ceilings(result: dict[str, Any]) -> list[str]:
    lines = []
    for c in result["ceilings"]:
        rate = c["flop_per_second"]
        median, low, high = (rate[name] / 1e9 for name in ("median", "q1", "q3"))
        rows, edge = c["shape"]
        lines.append(
            f"ceiling in {c['precision']} beside {_title((c['job'], c['model'], c['batch_size']))}:"
            f" {median:.0f} GFLOP/s ({low:.0f} to {high:.0f}), {rows}x{edge} by {edge}x{edge}"
        )
    return lines


def markdown(result: dict[str, Any]) -> str:
    """A result of throughput.py as tables in Markdown, one for each that took turns together."""
    machine = result["machine"]
    about = (
        f"{machine['cpu']}, {machine['usable_cores']} cores ({', '.join(machine['flags'])}), "
        f"{result['date'][:10]}, {result['rounds']} rounds: `{result['command']}`."
    )
    parts, missing = [about], groups(result["skipped"])
    for key, rows in groups(result["results"]).items():
        lines = [_row(HEADS), "|---|" + "---:|" * (len(HEADS) - 1)]
        lines += [_row(["`" + row[0] + "`", *row[1:]]) for row in map(cells, rows)]
        absent = "; ".join(f"`{s['form']}` ({s['reason']})" for s in missing.get(key, []))
        parts += [f"**{_title(key).capitalize()}**", "\n".join(lines)]
        parts += [f"Not in it: {absent}."] if absent else []
    return "\n\n".join(parts)


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, default=RESULTS / "throughput.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "benchmarks" / "README.md")
    args = parser.parse_args(argv)
    try:
        result = json.loads(args.result.read_text(encoding="utf-8"))
        old = args.readme.read_text(encoding="utf-8")
        new = between(old, BEGIN, END, markdown(result))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    args.readme.write_text(new, encoding="utf-8")
    print(f"written: {args.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
