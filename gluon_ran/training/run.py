"""The run directory: what a training run is on disk."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from gluon_ran._files import write_text
from gluon_ran.data import Normalization
from gluon_ran.models import Baseline, Spec, spec_from_json
from gluon_ran.training.manifest import has_any
from gluon_ran.training.recipe import Recipe

_FILES = {
    "spec.json", "recipe.json", "data.json", "metrics.jsonl", "train.log", "curves.png",
    "checkpoints", "events", "run.lock",
}  # fmt: skip


class RunError(RuntimeError):
    """A run directory that can't be used: says which, why, and what to do."""


class RunLocked(RunError):
    """Another process writes to the run directory."""


class RunDirectory:
    """spec.json, recipe.json, data.json, metrics.jsonl, checkpoints/, events/, curves.png.

    Attributes:
        path: the directory.
        spec: what the network is, ours or one of GluonCV's.
        recipe: how it is trained.
        data: "dataset", "data_dir", "class_names" and "normalization" of what it is trained on,
            and whatever else must be the same for the run to go on; "run_id", which its checkpoints
            bear.
        CHECKPOINTS: name of the folder of the checkpoints.
    """

    CHECKPOINTS = "checkpoints"

    def __init__(
        self, path: Path, spec: Spec | Baseline, recipe: Recipe, data: dict[str, Any]
    ) -> None:
        self.path, self.spec, self.recipe, self.data = path, spec, recipe, data
        self._writes = False

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """The run that a directory holds.

        Raises:
            RunError: it holds none, or its files are damaged.
        """
        path = Path(path)
        if not (path / "recipe.json").is_file():
            raise RunError(
                f"{path} is not a run directory, it has no recipe.json: give the folder that a "
                "training run named at its start"
            )
        return cls(
            path,
            _read(path / "spec.json", spec_from_json),
            _read(path / "recipe.json", Recipe.from_json),
            _read(path / "data.json", _data_from_json),
        )

    @classmethod
    def start(
        cls, path: str | Path, spec: Spec | Baseline, recipe: Recipe, data: dict[str, Any]
    ) -> RunDirectory:
        """Makes the directory, or takes up the same run that is there already.

        A run that never saved anything gives way to the new one.

        Raises:
            RunError: the directory holds a run of another network, recipe or data set, or other
                files.
        """
        run = cls(Path(path), spec, recipe, data)
        if run.has_checkpoint():
            there = cls.open(path)
            run.refuse_difference(there)
            return cls(run.path, spec, recipe, {**data, "run_id": there.data.get("run_id")})
        if run.path.exists() and not (run.path.is_dir() and run._only_ours()):
            raise RunError(f"{path} holds other files than a run's: choose another --save-dir")
        run.path.mkdir(parents=True, exist_ok=True)
        run.data = {**data, "run_id": uuid.uuid4().hex}
        with run.writing():
            if run.has_checkpoint():
                raise RunLocked(f"{run.path} was just taken by another process: start again")
            write_text(run.path / "data.json", json.dumps(run.data) + "\n")
            write_text(run.path / "spec.json", spec.to_json())
            # Last, since its presence says that the directory is whole.
            write_text(run.path / "recipe.json", recipe.to_json())
        return run

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other processes from writing to the directory; within it, it may be entered again.

        The system lets go of the lock where the process ends, however it does.

        Raises:
            RunError: another one writes to it already.
        """
        if self._writes:
            yield
            return
        with open(self.path / "run.lock", "ab+", buffering=0) as lock:
            self._lock(lock)
            with suppress(OSError):  # on a full disk; the lock holds all the same
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {platform.node()}".encode())
            self._remove_half_made()
            self._writes = True
            try:
                yield
            finally:
                self._writes = False
            lock.truncate(0)

    def _lock(self, lock: IO[bytes]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "another process"
            raise RunLocked(
                f"{self.path} is written to by {holder}: wait for its end, or choose another "
                "--save-dir"
            ) from None
        except OSError as error:
            raise RunError(
                f"{self.path} can't be locked against a second writer ({error.strerror}): choose a "
                "--save-dir on another file system, or mount this one with flock"
            ) from None

    def _remove_half_made(self) -> None:
        """Removes what a kill left in the middle of writing."""
        for name in _FILES:
            for path in self.path.glob(f".{name}.*.tmp"):
                path.unlink()

    def _only_ours(self) -> bool:
        names = {path.name for path in self.path.iterdir()}
        return all(name in _FILES or name.endswith(".tmp") for name in names)

    def refuse_difference(self, other: RunDirectory) -> None:
        """Refuses to go on as `other` says with what is not the same run.

        Raises:
            RunError: says what differs.
        """
        ours, theirs = (
            {
                **run.data,
                "statistics of the pictures": run.data["normalization"],
                **asdict(run.spec),
                **asdict(run.recipe),
                "baseline": _baseline(run.spec),
                "workers": run.data.get("workers", 1),
            }
            for run in (self, other)
        )
        # What is left out as broken shows in the labels, or in a stream has stopped the run.
        ignored = {"source", "name", "data_dir", "run_id", "broken"}
        differences = [
            "{} {} there, {} now".format(key, *_shortened(theirs.get(key), ours.get(key)))
            for key in {**ours, **theirs}
            if key not in ignored and _plain(ours.get(key)) != _plain(theirs.get(key))
        ]
        if differences:
            raise RunError(
                f"{self.path} holds another run ({'; '.join(differences)}): choose another "
                "--save-dir, or give the same settings to go on with it"
            )

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / self.CHECKPOINTS

    @property
    def normalization(self) -> Normalization:
        """What the network's pictures are normalised by."""
        return Normalization.from_json(self.data["normalization"])

    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return has_any(self.checkpoints)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one a finished epoch; a torn last line is left out.

        Raises:
            RunError: another line is damaged.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
                _ = rows[-1]["epoch"] + 0
            except (ValueError, TypeError, KeyError):
                del rows[number - 1 :]
                if number < len(lines):
                    raise RunError(
                        f"line {number} of {path} is damaged: mend or remove it"
                    ) from None
        return rows

    def write_metrics(self, row: dict[str, Any]) -> None:
        """Appends the row of an epoch in place of that epoch's and later ones, if there are any."""
        rows = [old for old in self.metrics() if old["epoch"] < row["epoch"]] + [row]
        text = "".join(json.dumps(each) + "\n" for each in rows)
        write_text(self.path / "metrics.jsonl", text)


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged ({error}): restore it, or train into another folder"
        ) from None


def _data_from_json(text: str) -> dict[str, Any]:
    data = json.loads(text)
    Normalization.from_json(data["normalization"])
    _ = data["dataset"], data["data_dir"], list(data["class_names"])
    return data


def _baseline(spec: Spec | Baseline) -> str | None:
    """The name of GluonCV's network, which is all that tells one from another."""
    return spec.name if isinstance(spec, Baseline) else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shortened(*values: Any) -> list[str]:
    """The values as text; of long ones, the part where they begin to differ."""
    texts = [str(value) for value in values]
    start = len(os.path.commonprefix(texts))
    start = max(start - 10, 0) if max(map(len, texts)) > 60 and start > 40 else 0
    parts = ["..." * (start > 0) + text[start:] for text in texts]
    return [part if len(part) <= 60 else part[:57] + "..." for part in parts]
