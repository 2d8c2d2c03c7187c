"""Trains the planned runs of paper.py, some at a time, and keeps what each reached."""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from paper_plan import Planned
from provenance import ROOT, commit, provenance, write_json
from record_run import record

from gluon_ran.data import load_dataset
from gluon_ran.training import Recipe, RunDirectory, RunError
from gluon_ran.training.interrupt import ECHO_SECONDS

RESULT_FOLDER = "paper"
_TRAIN, _EVALUATE = "train/cifar10_train.py", "train/evaluate.py"
# Ends its command where this process is killed.
_WATCH = "train/launch_watch.py"
# Pictures of CIFAR's training and test: what was reached with fewer is nothing to compare.
_WHOLE = (50_000, 10_000)


class Stopped(KeyboardInterrupt):
    """A signal ended the trainings; `code` is the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 130 if number == signal.SIGINT else 75


class _Taken(Exception):
    """Another process trains the run."""


class Trainer:
    """Trains runs whose results are not there yet.

    Args:
        args: `runs`, `results`, `jobs`, `threads`, `data_dir`, `data`, `num_gpus` and `argv` of
            paper.py.
        planned: what to train, in this order.
    """

    def __init__(self, args: argparse.Namespace, planned: Sequence[Planned]) -> None:
        self._args, self._planned = args, planned
        self._threads = args.threads or max(len(os.sched_getaffinity(0)) // args.jobs, 1)
        self._lock, self._alive = threading.Lock(), set()
        self._stopped_by: int | None = None
        self._begun, self._came = False, -math.inf
        self._failed = self._left = self._done = 0

    def run(self) -> int:
        """Trains; 1 where a run failed or was left out, the others are trained all the same.

        Raises:
            Stopped: a signal came.
            ValueError: a result is there that is of other settings or data, or the data are not
                the whole of theirs.
        """
        todo = [each for each in self._planned if not self._is_done(each)]
        say(f"{len(self._planned)} runs, {len(self._planned) - len(todo)} of them done before")
        for dataset in sorted({each.dataset for each in todo}):
            self._refuse_a_part(dataset)
        self._begun = True
        with ThreadPoolExecutor(self._args.jobs) as pool:
            for planned in todo:
                pool.submit(self._one, planned, len(todo))
        if self._stopped_by is not None:
            raise Stopped(self._stopped_by)
        if self._left:
            say(f"{self._left} left to another paper.py: start again when it has ended", sys.stderr)
        return 1 if self._failed or self._left else 0

    def stop(self, number: int) -> None:
        """Has the trainings save and end, and begins no other; for a signal handler.

        Another signal ends them at once; never the hang-up of a lost terminal, of which its shell
        and the system may both tell, nor one that comes with the first.

        Raises:
            Stopped: none has begun.
        """
        now, again = time.monotonic(), self._stopped_by is not None
        if again and (number == signal.SIGHUP or now - self._came < ECHO_SECONDS):
            return
        self._stopped_by, self._came = number, now
        if not self._begun:
            raise Stopped(number)
        for process in list(self._alive):
            _terminate(process)

    def _is_done(self, planned: Planned) -> bool:
        """`is_done`, of the data that the flags tell.

        Raises:
            ValueError: as `is_done`, or the result is of other data.
        """
        path = planned.result(self._args.results)
        there = is_done(planned, self._args.results)
        told, asked = read_result(path).get("data") if there else None, self._data_of(planned)
        if there and told != asked:
            raise ValueError(
                f"{path} is of --data {told!r}, this call of {asked!r}: give the same, or another "
                "--results"
            )
        return there

    def _data_of(self, planned: Planned) -> str:
        return self._args.data if planned.dataset.startswith("cifar") else ""

    def _refuse_a_part(self, dataset: str) -> None:
        """Looks at CIFAR ahead of all trainings, which also downloads it once.

        Raises:
            ValueError: pictures are missing.
        """
        if not dataset.startswith("cifar"):
            return
        counts = tuple(len(split) for split in load_dataset(dataset, self._args.data_dir))
        if counts != _WHOLE:
            raise ValueError(
                f"{dataset} has {counts[0]:,} training and {counts[1]:,} test pictures in "
                f"--data-dir, not {_WHOLE[0]:,} and {_WHOLE[1]:,}: give the whole of it"
            )

    def _one(self, planned: Planned, count: int) -> None:
        if self._stopped_by is not None:
            return
        try:
            with _alone(planned.run(self._args.runs)):
                # Another process may have done it meanwhile.
                there = self._is_done(planned)
                top1 = None if there else self._trained(planned)
        except _Taken:
            with self._lock:
                self._left += 1
                say(f"left to another paper.py, which trains it now: {planned.name}")
            return
        except Exception as error:  # one run's failure must not end the others
            with self._lock:
                self._failed += 1
                say(f"failed: {planned.name}: {error}", sys.stderr)
            return
        if top1 is not None:
            with self._lock:
                self._done += 1
                say(f"{self._done}/{count} {planned.name}: {100 * top1:.2f} %")

    def _trained(self, planned: Planned) -> float | None:
        """Trains, scores and keeps a run; its final accuracy, None where it was stopped."""
        run = planned.run(self._args.runs)
        here = []
        for name in ("data_dir", "num_gpus"):
            if getattr(self._args, name) is not None and (name, planned.dataset) != (
                "data_dir", "digits",
            ):  # fmt: skip
                here += [f"--{name.replace('_', '-')}", str(getattr(self._args, name))]
        given = [*planned.flags, *here, "--save-dir", str(run)]
        made = self._note_how(run, planned, given)
        with self._lock:
            say(f"begun: {planned.name} (its log: {run}.out)")
        scored = run / "last"
        score = [str(run), "--checkpoint", "last", "--out", str(scored), *here]
        for script, arguments in ((_TRAIN, given), (_EVALUATE, score)):
            if not self._ran(script, arguments, run):
                return None
        scores = json.loads((scored / "evaluation.json").read_text(encoding="utf-8"))
        result = {
            "name": planned.name,
            "flags": list(planned.flags),
            "budget": planned.budget.name,
            "budget_text": planned.budget.text,
            **record(RunDirectory.open(run)),
            "float32_top1": scores["top1"],
            "confusion": scores["confusion"],
            **provenance(self._args.argv),
            **made,
        }
        write_json(planned.result(self._args.results), result)
        return result["final_top1"]

    def _note_how(self, run: Path, planned: Planned, flags: Sequence[str]) -> dict[str, Any]:
        """How a run is trained, which is kept beside it, as the result may come by a later call.

        A run that goes on keeps what its first call noted, and the commits that it went on by.

        Raises:
            ValueError: it goes on with other data than it began with.
        """
        path = run.parent / f".{run.name}.how.json"
        now = commit()
        how = {
            "trained_by": shlex.join(["python", _TRAIN, *flags]),
            "threads": self._threads,
            "data": self._data_of(planned),
            "commit": now,
        }
        noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if noted and _trained_to_the_end(run, planned):
            return noted
        if noted and _has_begun(run):
            if noted["data"] != how["data"]:
                raise ValueError(
                    f"{run} was begun with --data {noted['data']!r}, and this call has "
                    f"{how['data']!r}: give the same, or take the run away"
                )
            how = noted
            later = how.get("later_commits", [])
            if now not in (how["commit"], *later):
                how["later_commits"] = [*later, now]
        write_json(path, how)
        return how

    def _ran(self, script: str, flags: Sequence[str], run: Path) -> bool:
        """Runs a script to its end; False where a signal stopped it.

        Raises:
            RuntimeError: it failed, with its last line.
        """
        log = run.parent / f"{run.name}.out"
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads),
                       "GLUON_RAN_PASSED_ON": "1"}  # fmt: skip
        with open(log, "ab") as output:
            if self._stopped_by is not None:
                return False
            command = [sys.executable, str(ROOT / script), *flags]
            process = subprocess.Popen(
                [sys.executable, str(ROOT / _WATCH), "0", *command], stdin=subprocess.PIPE,
                stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip
            self._alive.add(process)
            if self._stopped_by is not None:  # meanwhile
                _terminate(process)
            code = process.wait()
            self._alive.discard(process)
            process.stdin.close()
        if self._stopped_by is not None and code:
            return False
        if code:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise RuntimeError(f"{script} ended with {code}: {lines[-1]} (all of it in {log})")
        return True


def say(line: str, stream: TextIO | None = None) -> None:
    """Prints a line, to standard output by default; where nobody reads it, to nobody."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):  # Python would try again at its end
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _terminate(process: subprocess.Popen) -> None:
    """Has what runs under `_WATCH` save and end."""
    try:
        process.stdin.write(b"%d\n" % signal.SIGTERM)
        process.stdin.flush()
    except BrokenPipeError:  # it has ended
        pass


def _has_begun(run: Path) -> bool:
    try:
        return RunDirectory.open(run).has_checkpoint()
    except RunError:
        return False


def _trained_to_the_end(run: Path, planned: Planned) -> bool:
    try:
        return len(RunDirectory.open(run).metrics()) >= planned.recipe.epochs
    except RunError:
        return False


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Keeps other processes from training the run; within its folder, beside its log.

    Raises:
        _Taken: another one does.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(run.parent / f".{run.name}.lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Taken from None
        yield


def is_done(planned: Planned, results: Path) -> bool:
    """Whether a run's result is there.

    Raises:
        ValueError: a result of that name is there, but damaged or of other settings.
    """
    path = planned.result(results)
    if not path.exists():
        return False
    found = read_result(path)
    ours = {
        "name": planned.name,
        "flags": list(planned.flags),
        "budget": planned.budget.name,
        "dataset": planned.dataset,
        "model": planned.model,
    }
    other = [key for key, value in ours.items() if found.get(key) != value]
    other += [] if _same_recipe(planned.recipe, found.get("recipe")) else ["recipe"]
    if other:
        raise ValueError(
            f"{path} is of other settings ({', '.join(other)} differ): take it away to train anew, "
            "or give another --results"
        )
    return True


def _same_recipe(recipe: Recipe, told: Any) -> bool:
    """Whether a result's recipe, which may lack fields that came later, trains as `recipe` does."""
    try:
        other = Recipe.from_json(json.dumps(told))
    except (TypeError, ValueError):
        return False
    return replace(other, source=recipe.source) == recipe


def read_result(path: Path) -> dict[str, Any]:
    """A result of `Trainer`.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or "final_top1" not in found:
            raise ValueError("it has no final_top1")
    except ValueError as error:
        raise ValueError(f"{path} is no result of paper.py ({error}): take it away") from None
    return found
