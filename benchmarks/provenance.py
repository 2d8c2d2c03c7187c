"""Where a measurement comes from: machine, versions, command, commit, date; and how it is kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# What decides about the speed of float32, bfloat16 and int8 products.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def provenance(argv: Sequence[str] | None) -> dict[str, Any]:
    """Command, date, commit and machine of a measurement.

    Args:
        argv: the arguments that `main` was given; those of the process if None.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """CPU model, its instruction sets, the cores that this process may use, and the load."""
    info = cpu_info()
    flags = info.get("flags", "").split()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "logical_cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def cpu_info() -> dict[str, str]:
    """The first processor's entries in /proc/cpuinfo; none where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def commit() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None without git."""
    try:
        head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles, range, number and the values themselves, to four significant digits."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
    summary = {
        "median": quartiles[1],
        "q1": quartiles[0],
        "q3": quartiles[2],
        "min": min(values),
        "max": max(values),
    }
    rounded = {name: float(f"{value:.4g}") for name, value in summary.items()}
    return {**rounded, "n": len(values), "values": [float(f"{value:.4g}") for value in values]}


@contextmanager
def keeping_parts(out: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what writes the part of a result that is measured already, while the rest is.

    The file is named after `out` and this process, so that no other run replaces it. It goes once
    all is done, and stays where an error, which ends the process with a line, or a signal comes.
    """
    part = out.with_name(f"{out.stem}.{os.getpid()}.part.json")
    part.unlink(missing_ok=True)  # of an earlier process of that number
    try:
        yield partial(write_json, part)
    except (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        kept = f" (what was measured before: {part})" if part.exists() else ""
        sys.exit(f"error: {error}{kept}")
    part.unlink(missing_ok=True)


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Writes `result` as JSON, at once or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()
