"""The tables of throughput.py: as lines of text, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Dict

Entry = Dict[str, Any]

HEADS = (
    "form", "images/s", "quartiles", "x GluonCV", "quartiles", "of ceiling", "batch ms", "95 %",
    "first s", "MiB",
)  # fmt: skip


def cells(result: Entry) -> list[str]:
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


def table_rows(results: Sequence[Entry]) -> list[tuple[str, ...]]:
    """`HEADS` and the results' rows, without the columns that say nothing of any of them."""
    columns = zip(HEADS, *map(cells, results))
    return list(zip(*(column for column in columns if set(column[1:]) != {"-"})))


def _median_and_quartiles(spread: dict[str, float] | None, digits: int) -> tuple[str, str]:
    if spread is None:
        return "-", "-"
    median, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "q1", "q3"))
    return median, f"{low} to {high}"


def sections(result: Entry) -> Iterator[tuple[str, list[Entry], list[Entry]]]:
    """Title, results and skipped entries of each job, network and batch size."""
    found, missing = _groups(result["results"]), _groups(result["skipped"])
    for key in dict.fromkeys((*found, *missing)):
        yield _title(*key), found.get(key, []), missing.get(key, [])


def _groups(entries: Sequence[Entry]) -> dict[tuple[str, str, int], list[Entry]]:
    found: dict[tuple[str, str, int], list[Entry]] = {}
    for entry in entries:
        key = (entry["job"], entry["model"], entry["batch_size"])
        found.setdefault(key, []).append(entry)
    return found


def _title(job: str, model: str, batch_size: int) -> str:
    return f"{job}, {model}, batches of {batch_size}"


def table(result: Entry) -> str:
    """A result of throughput.py as lines of text."""
    lines = []
    for title, rows, absent in sections(result):
        lines += ["", title]
        lines += _aligned(table_rows(rows)) if rows else []
        lines += [f"  skipped: {s['form']}: {s['reason']}" for s in absent]
    return "\n".join([*lines, "", *_ceilings(result)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]


def _ceilings(result: Entry) -> list[str]:
    lines = []
    for c in result["ceilings"]:
        rate = c["flop_per_second"]
        median, low, high = (rate[name] / 1e9 for name in ("median", "q1", "q3"))
        rows, edge = c["shape"]
        lines.append(
            f"ceiling in {c['precision']} beside {_title(c['job'], c['model'], c['batch_size'])}:"
            f" {median:.0f} GFLOP/s ({low:.0f} to {high:.0f}), {rows}x{edge} by {edge}x{edge}"
        )
    return lines


def markdown(result: Entry) -> str:
    """A result of throughput.py as tables in Markdown, one for each that took turns together."""
    machine = result["machine"]
    about = (
        f"{machine['cpu']}, {machine['usable_cores']} cores ({', '.join(machine['flags'])}), "
        f"{result['date'][:10]}, {result['rounds']} rounds: `{result['command']}`."
    )
    parts = [about, f"Versions: {_versions(result)}."]
    for title, rows, absent in sections(result):
        parts.append(f"**{title.capitalize()}**")
        if rows:
            head, *others = table_rows(rows)
            lines = [_row(head), "|---|" + "---:|" * (len(head) - 1)]
            lines += [_row([f"`{row[0]}`", *row[1:]]) for row in others]
            parts.append("\n".join(lines))
        if absent:
            reasons = "; ".join(f"`{s['form']}` ({s['reason']})" for s in absent)
            parts.append(f"Not in it: {reasons}.")
    return "\n\n".join([*parts, "  \n".join(_ceilings(result))])


def _versions(result: Entry) -> str:
    """Of the packages of all processes, each once."""
    found = (
        f"{package} {version}"
        for entry in result["results"]
        for package, version in entry["versions"].items()
    )
    return ", ".join(dict.fromkeys(found))


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"
