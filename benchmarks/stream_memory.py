"""Measures whether the memory of a stream grows with the number of its pictures.

Iterates over the training batches of a RecordIO file and of one with its first records alone: over
an epoch of each, and over as many batches of each. Each turn is a process of its own, so that its
peak memory is its own. Prints a table and writes results/stream_memory.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from provenance import RESULTS, provenance, spread, write_json
from turns import positive, say, take_turns


def iterate(rec: str, batches: int, batch_size: int, size: int) -> dict[str, float]:
    """Goes through so many batches in this process, over several epochs if need be: its memory."""
    from throughput_protocol import peak_memory

    from gluon_ran.data import Normalization, RecordBatches, RecordFile, TrainTransform

    imported = peak_memory()
    records, epoch, pictures = RecordFile(rec), 0, 0
    while batches > 0:
        stream = RecordBatches(
            records, batch_size, TrainTransform(size), Normalization.imagenet(), epoch=epoch,
            shuffle=True, drop_last=True,
        )  # fmt: skip
        for (images, _), _ in zip(stream, range(batches)):
            pictures, batches = pictures + len(images), batches - 1
        epoch += 1
    return {"imported_mib": imported, "peak_mib": peak_memory(), "pictures": pictures}


def in_process(*values: Any) -> dict[str, float]:
    """`iterate` in a process of its own.

    Raises:
        RuntimeError: it failed; its own message is on standard error.
    """
    command = [sys.executable, __file__, "--one", *map(str, values)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"streaming {values[0]} ended with status {finished.returncode}")
    return json.loads(finished.stdout.splitlines()[-1])


def first_records(rec: Path, count: int, out: Path) -> Path:
    """Copies the first records of a file to another one, which is given back."""
    from gluon_ran.data import RecordFile

    import mxnet as mx

    records = RecordFile(rec)
    writer = mx.recordio.MXIndexedRecordIO(str(out.with_suffix(".idx")), str(out), "w")
    for number in range(count):
        label, encoded = records.read(number)
        header = mx.recordio.IRHeader(0, float(label), number, 0)
        writer.write_idx(number, mx.recordio.pack(header, encoded))
    writer.close()
    return out


def measure(files: Sequence[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Streams each file for as many batches as an epoch of each has; an entry each.

    Raises:
        RuntimeError: a process failed.
    """
    from gluon_ran.data import RecordFile

    counts = [len(RecordFile(file)) for file in files]
    cases = [
        (file, count, other // args.batch_size)
        for file, count in zip(files, counts)
        for other in counts
    ]
    say(f"{len(cases)} cases of {counts[0]:,} and {counts[1]:,} records")
    runs = [partial(in_process, file, n, args.batch_size, args.size) for file, _, n in cases]
    return [
        {
            "records": count,
            "batches": batches,
            "pictures": int(of_one[0]["pictures"]),
            "whole_epoch": batches == count // args.batch_size,
            "imported_mib": spread([each["imported_mib"] for each in of_one]),
            "peak_mib": spread([each["peak_mib"] for each in of_one]),
        }
        for (_, count, batches), of_one in zip(cases, take_turns(runs, args.rounds))
    ]


def table(result: dict[str, Any]) -> str:
    """A result in Markdown, a row a case."""
    lines = [
        "| records in the file | batches | pictures decoded | peak MiB | range |",
        "|---:|---:|---:|---:|---:|",
    ]
    for case in result["cases"]:
        peak, epoch = case["peak_mib"], ", one epoch" if case["whole_epoch"] else ""
        cells = [f"{case['records']:,}", f"{case['batches']}{epoch}", f"{case['pictures']:,}",
                 f"{peak['median']:.1f}", f"{peak['min']:.1f} to {peak['max']:.1f}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--records", required=True, type=Path, help="a .rec file of many pictures")
    add("--few", type=positive, default=1000, help="records of the smaller file (default: 1000)")
    add("--batch-size", type=positive, default=128, help="pictures a batch (default: 128)")
    add("--size", type=positive, default=64, help="side of the crops in pixels (default: 64)")
    add("--rounds", type=positive, default=3, help="turns of each (default: 3)")
    add("--out", type=Path, default=RESULTS / "stream_memory.json", help="the JSON to write")
    args = parser.parse_args(argv)
    origin = provenance(argv)
    settings = {name: vars(args)[name] for name in ("batch_size", "size", "rounds")}
    with tempfile.TemporaryDirectory() as folder:
        try:
            few = first_records(args.records, args.few, Path(folder) / "few.rec")
            cases = measure([few, args.records], args)
        except (RuntimeError, ValueError, OSError) as error:
            sys.exit(f"error: {error}")
    result = {"what": "peak memory of streams", **origin, **settings, "cases": cases}
    print(table(result))
    write_json(args.out, result)
    print(f"written: {args.out}")


def _one(rec: str, *numbers: str) -> None:
    print(json.dumps(iterate(rec, *map(int, numbers))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(*sys.argv[2:])
    else:
        main()
