"""Files that are written whole or not at all, and their checksums."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which then takes the place of `path` at once.

    If writing fails, what was at `path` stays and the temporary file goes.

    Raises:
        OSError: it failed; names `path`.
    """
    with atomic_paths(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_paths(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths for files that belong together, which take their places behind all writing.

    If writing fails, what was at each of `paths` stays and the temporary files go.

    Raises:
        OSError: it failed; names the path, or all where the system does not tell.
    """
    temporaries = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in paths]
    try:
        yield temporaries
        for temporary in temporaries:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        for path in paths:
            if path.is_dir():  # found out ahead of the first to be replaced
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        for temporary, path in zip(temporaries, paths):
            os.replace(temporary, path)
    except OSError as error:
        named = _named(error, dict(zip(map(str, temporaries), paths)))
        if named is error:
            raise
        raise named from error
    finally:
        for temporary in temporaries:
            if temporary.exists():
                temporary.unlink()
    for folder in {path.parent for path in paths}:
        _sync_folder(folder)


def _named(error: OSError, paths: dict[str, Path]) -> OSError:
    """The error with the file that was to be, by its temporary path, in place of that."""
    told = None if error.filename is None else str(error.filename)
    if error.errno is None or (told is not None and told not in paths):
        return error
    path = " and ".join(map(str, paths.values())) if told is None else str(paths[told])
    folder = next(iter(paths.values())).parent
    lacking = error.errno == errno.ENOENT and not folder.is_dir()
    reason = f"there is no folder {folder} to write to" if lacking else error.strerror
    return type(error)(error.errno, reason, path)


@contextmanager
def leftovers_removed(*paths: Path) -> Iterator[None]:
    """Removes what kills left of files of one folder that were written by `atomic_path`.

    Where another process is within such a context of the folder, nothing goes: it may be its own.
    """
    folder = os.open(paths[0].parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # somebody is there, or the file system has no locks
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in paths:
                for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
                    left.unlink()
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file, in UTF-8, at once."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Has the new name survive a power failure, where the file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # The file is there; its folder may not be read, or has no such sync, as over networks.
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            raise type(error)(error.errno, error.strerror, str(folder)) from error
