"""What soak.py does to a training run, and what a run that survives it shows."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gluon_ran.training import RunDirectory

# Seconds that a run may take over what is asked of it, on a machine that has other things to do.
_PATIENCE = 600


class Seen(NamedTuple):
    """What a fault led to.

    Attributes:
        survived: whether the run did what it should.
        shown: the exit code, or the line of the log, that says so.
    """

    survived: bool
    shown: str


class Training:
    """A training run by its command line, started again and again.

    Attributes:
        run: the run directory.
        log: what all starts printed.
        spoilt: the checkpoints that faults have damaged.

    Args:
        command: the command, with its --save-dir.
        run: the run directory.
        log: file to add to.
    """

    def __init__(self, command: Sequence[str], run: Path, log: Path) -> None:
        self.run, self.log, self._command = run, log, list(command)
        self._process: subprocess.Popen | None = None
        self._from = 0
        self.spoilt: set[tuple[str, int]] = set()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running else None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.run / RunDirectory.CHECKPOINTS

    def start(self) -> None:
        """Starts the command, with signals as a terminal's shell would leave them."""
        self._from = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, preexec_fn=_take_interrupts
            )

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code; of what does not end for too long, that of SIGKILL."""
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> None:
        """Ends the process at once."""
        if self.pid is not None:
            self._process.kill()
        self._process.wait()

    def line_with(self, text: str) -> str:
        """The last line with `text` of what the present start printed; "" if there is none."""
        with open(self.log, "rb") as log:
            log.seek(self._from)
            lines = log.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if text in line), "")

    def wait_for(self, text: str) -> str:
        """The line with `text`, once it is printed; "" where the process ends without it."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            running = self.pid is not None
            line = self.line_with(text)
            if line or not running:
                return line
            time.sleep(0.5)
        return ""

    def second(self) -> tuple[int, str]:
        """Exit code and last line of the same command, started beside the run.

        Raises:
            subprocess.TimeoutExpired: it went on, and was killed.
        """
        done = subprocess.run(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_PATIENCE
        )
        return done.returncode, (done.stdout.decode().splitlines() or [""])[-1]


def _take_interrupts() -> None:
    """Background jobs of a shell ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stopped(number: int, code: int) -> Callable[[Training, random.Random], Seen]:
    def fault(training: Training, rng: random.Random) -> Seen:
        training.signal(number)
        got = training.wait()
        # Ahead of the training itself the signal ends the process at once, with nothing to save.
        early = not training.line_with("run directory")
        return Seen(got == code or early and got in (-number, 130), f"exit code {got}")

    return fault


def _killed(training: Training, rng: random.Random) -> Seen:
    training.kill()
    return Seen(True, "nothing")


def _killed_while_saving(training: Training, rng: random.Random) -> Seen:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and training.pid is not None:
        half_made = [path.name for path in training.checkpoints.glob(".*.tmp")]
        if half_made:
            training.kill()
            return Seen(True, "nothing")
        time.sleep(0.0005)
    return Seen(False, "no save was met")


def _terminated_twice(training: Training, rng: random.Random) -> Seen:
    training.signal(signal.SIGTERM)
    time.sleep(0.02)
    if training.pid is not None:
        training.signal(signal.SIGTERM)
    got = training.wait()
    return Seen(got in (-signal.SIGTERM, 75), f"exit code {got}")


def _frozen(training: Training, rng: random.Random) -> Seen:
    training.signal(signal.SIGSTOP)
    time.sleep(rng.uniform(1, 10))
    training.signal(signal.SIGCONT)
    time.sleep(5)
    return Seen(training.pid is not None, "nothing")


def _second_writer(training: Training, rng: random.Random) -> Seen:
    training.wait_for("run directory")
    try:
        code, line = training.second()
    except subprocess.TimeoutExpired:
        return Seen(False, "a second process wrote beside it")
    return Seen(code == 1 and "is written to by process" in line, line)


def _newest(folder: Path) -> list[Path]:
    """The manifests, the newest first."""
    found = folder.glob("epoch-*.json")
    return sorted(found, key=lambda path: _place(path.stem), reverse=True)


def _place(stem: str) -> tuple[int, ...]:
    return tuple(int(part) for part in stem.split("-") if part.isdigit())


def _saved(training: Training, count: int) -> bool:
    """Waits until a run has so many checkpoints; whether it has."""
    until = time.monotonic() + _PATIENCE
    while len(_newest(training.checkpoints)) < count:
        if training.pid is None or time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _whole_one_came(training: Training) -> bool:
    """Waits until the newest checkpoint is none that a fault has damaged; whether it is."""
    until = time.monotonic() + _PATIENCE
    while _identity(_newest(training.checkpoints)[0]) in training.spoilt:
        if training.pid is None or time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _identity(manifest: Path) -> tuple[str, int]:
    """What tells a checkpoint from a later one of the same step."""
    return manifest.stem, manifest.stat().st_ino


def _damaged(spoil: Callable[[Path, random.Random], None], part: str) -> Callable:
    def fault(training: Training, rng: random.Random) -> Seen:
        if not (_saved(training, 2) and _whole_one_came(training)):
            return Seen(False, "no two checkpoints came")
        training.kill()
        manifest = _newest(training.checkpoints)[0]
        training.spoilt.add(_identity(manifest))
        spoilt = manifest.with_suffix(part)
        spoil(spoilt, rng)
        training.start()
        line = training.wait_for("not used: ")
        going_on = training.wait_for("going on behind")
        return Seen(spoilt.name in line and bool(going_on), line)

    return fault


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def _foreign(other: Training) -> Callable[[Training, random.Random], Seen]:
    def fault(training: Training, rng: random.Random) -> Seen:
        if not (_saved(training, 1) and _saved(other, 1)):
            return Seen(False, "no checkpoint came")
        training.kill()
        until = time.monotonic() + _PATIENCE
        while not _copied(_newest(other.checkpoints)[:1], training.checkpoints / "epoch-9000.json"):
            if time.monotonic() > until:
                return Seen(False, "no whole checkpoint to copy")
            time.sleep(0.05)  # it was pruned meanwhile
        training.start()
        line = training.wait_for("not used: ")
        return Seen("belongs to another run" in line and bool(training.wait_for("going on")), line)

    return fault


def _copied(manifests: Sequence[Path], to: Path) -> bool:
    """Copies a checkpoint; whether there was one, and all of it."""
    if not manifests:
        return False
    (manifest,) = manifests
    try:
        for part in (".params", ".states", ".json"):
            shutil.copy(manifest.with_suffix(part), to.with_suffix(part))
    except FileNotFoundError:
        return False
    return True


def _disk_full(training: Training, rng: random.Random) -> Seen:
    """For run directories on a small disk of their own."""
    if not training.wait_for("run directory"):
        return Seen(False, "it ended before its disk was full")
    ballast = training.run.parent / "ballast"
    try:
        until = time.monotonic() + _PATIENCE
        while training.pid is not None and time.monotonic() < until:
            _fill(ballast)  # again and again, as the run's own old files make room
            time.sleep(0.05)
        got = training.wait()
        line = training.line_with("No space left")
        return Seen(got == 1 and bool(line), line)
    finally:
        ballast.unlink()


def _fill(path: Path) -> None:
    """Writes until no byte more fits on the disk."""
    with open(path, "ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def all_faults(other: Training, small_disk: bool) -> dict[str, Callable]:
    """Each fault by its name.

    Args:
        other: another run, whose checkpoints are foreign.
        small_disk: whether the run directory lies on a disk that may be filled.
    """
    faults = {
        "SIGKILL": _killed,
        "SIGKILL during a save": _killed_while_saving,
        "SIGTERM": _stopped(signal.SIGTERM, 75),
        "SIGINT": _stopped(signal.SIGINT, 130),
        "SIGTERM twice": _terminated_twice,
        "process stopped for seconds": _frozen,
        "a second process on the directory": _second_writer,
        "newest weights cut": _damaged(_cut, ".params"),
        "a bit of the newest weights flipped": _damaged(_flip, ".params"),
        "newest optimizer state missing": _damaged(_remove, ".states"),
        "newest manifest cut": _damaged(_cut, ".json"),
        "newer checkpoint of another run": _foreign(other),
    }
    if small_disk:
        faults["disk full"] = _disk_full
    return faults


def drawn(names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Names without end: each once in random order, again and again."""
    while True:
        yield from rng.sample(list(names), len(names))
