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
        OSError: it failed; names `path`, or what else failed while this was open.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        of_another = error.filename is not None and str(error.filename) != str(temporary)
        if error.errno is None or of_another:
            raise
        lacking = error.errno == errno.ENOENT and not path.parent.is_dir()
        reason = f"there is no folder {path.parent} to write to" if lacking else error.strerror
        raise type(error)(error.errno, reason, str(path)) from error
    finally:
        if temporary.exists():
            temporary.unlink()
    _sync_folder(path.parent)


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
