"""The table of pipeline.py's results in Markdown."""

from __future__ import annotations

from typing import Any


def markdown(result: dict[str, Any]) -> str:
    """A result of pipeline.py: where it comes from, then a table a task."""
    machine = result["machine"]
    parts = [
        f"{machine['cpu']}, {machine['usable_cores']} cores, {result['date'][:10]}, "
        f"{result['rounds']} rounds: `{result['command']}`."
    ]
    for task in result["tasks"]:
        lines = [
            f"| {task['task']} | images/s | quartiles | x {task['ratios_to']} | quartiles |",
            "|---|---:|---:|---:|---:|",
        ]
        for entry in task["results"]:
            rate, ratio = entry["images_per_second"], entry["ratio"]
            lines.append(
                f"| {entry['name']} | {rate['median']:,.0f} | {rate['q1']:,.0f} to "
                f"{rate['q3']:,.0f} | {ratio['median']:.2f} | {ratio['q1']:.2f} to "
                f"{ratio['q3']:.2f} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
