"""Soak test: two runs of one command for hours, one of them hurt again and again.

What is shown: that the memory and file handles of a run do not grow, and that the hurt run has the
weights, optimizer states and losses of the quiet one, bit for bit, behind each epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provenance import RESULTS, ROOT, provenance, write_json
from soak_faults import Training, all_faults, drawn
from soak_figure import by_process, draw

# A run directory's disk that is no larger than this may be filled.
_SMALL_DISK = 2**30
_MIB = 2**20


class Watch:
    """Samples two runs in the background: memory, file handles, and each epoch's checkpoint.

    Attributes:
        samples: by run: seconds, process id, resident MiB, open files.
        digests: by run and epoch: SHA-256 of weights and of the optimizer's state, all that were
            ever seen.

    Args:
        trainings: the runs by name.
        period: seconds between two samples.
    """

    def __init__(self, trainings: dict[str, Training], period: float) -> None:
        self.samples: dict[str, list[list[float]]] = {name: [] for name in trainings}
        self.digests: dict[str, dict[int, set]] = {name: {} for name in trainings}
        self._trainings, self._period = trainings, period
        self._begin, self._end = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._end.wait(self._period):
            self.look()

    def look(self) -> None:
        """Takes one sample of each run."""
        for name, training in self._trainings.items():
            for epoch, digest in _digests(training.checkpoints).items():
                self.digests[name].setdefault(epoch, set()).add(digest)
            pid = training.pid
            try:
                found = None if pid is None else [pid, _resident(pid), _handles(pid)]
            except OSError:  # it ended meanwhile
                found = None
            if found:
                self.samples[name].append([round(self.seconds, 1), *found])


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / _MIB, 2)


def _handles(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _digests(folder: Path) -> dict[int, tuple[str, ...]]:
    """Of the checkpoints at the ends of epochs that are there: the SHA-256 of their files."""
    found = {}
    for path in folder.glob("epoch-[0-9][0-9][0-9][0-9].json"):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if path.stem == f"epoch-{manifest['epochs']:04d}":  # no foreign one
                found[manifest["epochs"]] = tuple(manifest["sha256"].values())
        except (OSError, ValueError, KeyError):  # pruned meanwhile, or damaged by a fault
            continue
    return found


def slope(samples: Sequence[Sequence[float]], warm_up: float, column: int) -> float | None:
    """The rise of a column of `Watch.samples` by least squares, a minute.

    Args:
        samples: of one process.
        warm_up: seconds to leave out.
        column: 2 for MiB, 3 for open files.

    Returns:
        None where there are fewer than ten samples behind the warm-up.
    """
    kept = [each for each in samples if each[0] - samples[0][0] >= warm_up]
    if len(kept) < 10:
        return None
    minutes, values = [each[0] / 60 for each in kept], [each[column] for each in kept]
    x, y = statistics.fmean(minutes), statistics.fmean(values)
    spread = sum((minute - x) ** 2 for minute in minutes)
    return sum((m - x) * (v - y) for m, v in zip(minutes, values)) / spread


def compared(quiet: dict[int, set], hurt: dict[int, set]) -> dict[str, Any]:
    """How many epochs both runs were seen behind, and which of them ever differed."""
    both = sorted(set(quiet) & set(hurt))
    return {
        "epochs_compared": len(both),
        "last_epoch_compared": both[-1] if both else None,
        "epochs_that_differ": [epoch for epoch in both if len(quiet[epoch] | hurt[epoch]) > 1],
    }


def losses(run: Path) -> list[list[float]]:
    """The loss of each step, a list an epoch; none where no epoch was finished."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line)["losses"] for line in lines]


def _inject(
    hurt: Training, faults: dict[str, Any], watch: Watch, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Hurts a run until the time is over: what was done, when, and how it went."""
    rng, done = random.Random(args.seed), []
    names = drawn(list(faults), rng)
    end = args.hours * 3600
    while True:
        pause = min(rng.expovariate(1 / args.mean_pause), 4 * args.mean_pause)
        if watch.seconds + pause > end:
            time.sleep(max(end - watch.seconds, 0))
            return done
        time.sleep(pause)
        name, at = next(names), watch.seconds
        if hurt.pid is None:
            done.append({"fault": name, "at": round(at), "survived": False,
                         "shown": "the run had ended by itself"})  # fmt: skip
            return done
        seen = faults[name](hurt, rng)
        if hurt.pid is None:
            hurt.start()
        done.append({"fault": name, "at": round(at), **seen._asdict()})
        print(f"{at:6.0f} s  {name}: {'survived' if seen.survived else 'NOT SURVIVED'}; "
              f"{seen.shown}", flush=True)  # fmt: skip


def soak(command: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """Runs both and compares them."""
    quiet, hurt = (
        Training([*command, "--save-dir", str(run)], run, args.logs / f"{name}.log")
        for name, run in (("quiet", args.quiet), ("hurt", args.hurt))
    )
    args.hurt.parent.mkdir(parents=True, exist_ok=True)
    small = shutil.disk_usage(args.hurt.parent).total <= _SMALL_DISK
    try:
        with Watch({"quiet": quiet, "hurt": hurt}, args.period) as watch:
            quiet.start()
            hurt.start()
            done = _inject(hurt, all_faults(quiet, small), watch, args)
            ends = []
            for training in (quiet, hurt):
                training.wait_for("run directory")
                training.signal(signal.SIGTERM)
                ends.append(training.wait())
    finally:
        for training in (quiet, hurt):
            training.kill()
    return {**_result(watch, done, args), "exit_codes_at_the_end": ends}


def _result(watch: Watch, done: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    one, other = losses(args.quiet), losses(args.hurt)
    epochs = min(len(one), len(other))
    processes = by_process(watch.samples["hurt"])
    quiet = watch.samples["quiet"]
    return {
        "seconds": round(watch.seconds),
        "quiet": {
            "processes": len(by_process(quiet)),
            "epochs": len(one),
            "steps": sum(map(len, one)),
            "mib_a_minute": slope(quiet, args.warm_up, 2),
            "open_files_a_minute": slope(quiet, args.warm_up, 3),
        },
        "hurt": {
            "processes": len(processes),
            "epochs": len(other),
            "steps": sum(map(len, other)),
            "highest_mib_of_each_process": [max(s[2] for s in each) for each in processes],
            "most_open_files_of_each_process": [max(s[3] for s in each) for each in processes],
        },
        "checkpoints": compared(watch.digests["quiet"], watch.digests["hurt"]),
        "losses": {
            "epochs_compared": epochs,
            "epochs_that_differ": [n + 1 for n in range(epochs) if one[n] != other[n]],
        },
        "faults": done,
        "warm_up_seconds": args.warm_up,
        "samples": {name: _thinned(each) for name, each in watch.samples.items()},
    }


def _thinned(samples: list[list[float]]) -> list[list[float]]:
    """One sample every half minute, and of each process its first and last."""
    kept: list[list[float]] = []
    for each in by_process(samples):
        last = -30.0
        for sample in each:
            if sample[0] - last >= 30 or sample is each[-1]:
                kept.append(sample)
                last = sample[0]
    return kept


def table(done: Sequence[dict[str, Any]]) -> str:
    """The faults in Markdown: a row each, how often tried and survived, and what is seen."""
    lines = ["| fault | tried | survived | what is seen |", "|---|---:|---:|---|"]
    for name in sorted({each["fault"] for each in done}):
        rows = [each for each in done if each["fault"] == name]
        shown = max((row["shown"] for row in rows), key=len)
        survived = sum(row["survived"] for row in rows)
        lines.append(f"| {name} | {len(rows)} | {survived} | {shown} |")
    return "\n".join(lines)


def passed(result: dict[str, Any]) -> bool:
    """Whether a soak showed something, and nothing else than it should."""
    runs = [result["checkpoints"], result["losses"]]
    same = all(each["epochs_compared"] and not each["epochs_that_differ"] for each in runs)
    survived = all(each["survived"] for each in result["faults"])
    stopped = all(code == 75 for code in result["exit_codes_at_the_end"])
    return bool(same and result["faults"] and survived and stopped)


def main(argv: Sequence[str] | None = None) -> int:
    """Soaks, prints the table, writes JSON and figure; 1 where anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--mean-pause", type=float, default=180.0, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--period", type=float, default=2.0, help="seconds between samples")
    parser.add_argument(
        "--warm-up", type=float, default=600.0, help="seconds that slopes leave out"
    )
    parser.add_argument("--quiet", type=Path, default=Path("runs/soak/quiet"), metavar="DIR")
    parser.add_argument(
        "--hurt", type=Path, default=Path("runs/soak/hurt"), metavar="DIR",
        help="on a disk of its own of up to 1 GiB (as tmpfs mounts one) it is filled as well",
    )  # fmt: skip
    parser.add_argument("--logs", type=Path, default=Path("runs/soak"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json")
    parser.add_argument(
        "training",
        nargs="+",
        help="script of train/ and its flags, behind --",
    )
    args = parser.parse_args(argv)
    args.logs.mkdir(parents=True, exist_ok=True)
    script, *flags = args.training
    origin = provenance(argv)
    result = soak([sys.executable, str(ROOT / "train" / script), *flags], args)
    print(table(result["faults"]))
    write_json(args.out, {**result, "training": shlex.join(args.training), **origin})
    draw(result, args.out.with_suffix(".png"))
    for what in ("checkpoints", "losses"):
        print(f"{what}: {result[what]['epochs_compared']} epochs compared, different in "
              f"{result[what]['epochs_that_differ'] or 'none'}")  # fmt: skip
    print(f"exit codes at the end: {result['exit_codes_at_the_end']}")
    print(f"written: {args.out} and {args.out.with_suffix('.png')}")
    return int(not passed(result))


if __name__ == "__main__":
    # The trainings end with it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
