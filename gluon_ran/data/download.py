"""Downloads files, going on where an earlier attempt stopped, and checks what arrives."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gluon_ran._files import sha256_of
from gluon_ran.data.dataset import DataError

_log = logging.getLogger(__name__)
_BLOCK = 1 << 20
_TIMEOUT_S = 30.0
_NOT_THERE = (404, 410)
# Of the answers that blame the request, those that another attempt may change.
_PASSING = (408, 425, 429)
_TEXT_BYTES = 1 << 20


def cache_folder(name: str) -> Path:
    """The folder in which MXNet itself keeps the data set `name`."""
    return mxnet_home() / "datasets" / name


def mxnet_home() -> Path:
    """The folder in which MXNet keeps what it downloads: $MXNET_HOME or ~/.mxnet."""
    if os.name == "nt":
        default = Path(os.environ.get("APPDATA", Path.home())) / "mxnet"
    else:
        default = Path.home() / ".mxnet"
    return Path(os.environ.get("MXNET_HOME", default))


def md5_of(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def download(
    url: str, path: Path, checksum: str, *, attempts: int = 4, wait_s: float = 1.0
) -> Path:
    """Downloads `url` to `path` unless a file with that checksum is there already.

    What arrived is kept as `path`.part and the next attempt or call goes on from there. Processes
    that ask for the same file wait for each other.

    Args:
        url: where the file comes from, http or https.
        path: where it goes; the folder is made.
        checksum: what the file's MD5 or SHA-256 must be, in hexadecimal.
        attempts: how often to try.
        wait_s: seconds before the second attempt; each later wait is twice as long.

    Returns:
        `path`.

    Raises:
        DataError: the folder can't be written, or no attempt brought a file with that checksum.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            return _download(url, path, checksum, attempts, wait_s)
    except OSError as error:
        raise DataError(
            f"{path.parent} can't be written ({error}): make room or set MXNET_HOME to a folder "
            "that can"
        ) from error


def _download(url: str, path: Path, checksum: str, attempts: int, wait_s: float) -> Path:
    called, digest_of = ("MD5", md5_of) if len(checksum) == 32 else ("SHA-256", sha256_of)
    if path.exists() and digest_of(path) == checksum:
        return path
    part = path.with_name(path.name + ".part")
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait_s * 2 ** (attempt - 1))
        problem, final = _fetch(url, part)
        if not problem:
            if digest_of(part) == checksum:
                os.replace(part, path)
                return path
            part.unlink()
            problem = f"what arrived does not have the {called} {checksum}"
        _log.warning("attempt %d of %d to download %s: %s", attempt + 1, attempts, url, problem)
        if final:
            break
    raise DataError(
        f"{url} could not be downloaded to {path}: {problem}; check the network, or put the file "
        "there yourself, or give a folder that has it"
    )


def download_text(url: str, *, attempts: int = 4, wait_s: float = 1.0) -> str | None:
    """A small text, in UTF-8; None where the server says that it has none.

    Raises:
        DataError: no attempt brought it.
    """
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait_s * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                text, length = answer.read(_TEXT_BYTES + 1), answer.headers.get("Content-Length")
            if len(text) > _TEXT_BYTES:
                problem = f"it is larger than {_TEXT_BYTES} bytes"
            elif length is not None and len(text) < int(length):
                problem = "the connection broke"
            else:
                return text.decode("utf-8")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _NOT_THERE:
                return None
            problem = f"the server answered {error.code} {error.reason}"
            if _is_final(error.code):
                break
        except ValueError:
            problem = "what arrived is no text"
        except (OSError, http.client.HTTPException) as error:
            problem = f"no connection ({getattr(error, 'reason', error)})"
        _log.warning("attempt %d of %d to download %s: %s", attempt + 1, attempts, url, problem)
    raise DataError(f"{url} could not be downloaded: {problem}; check the network and the address")


def _is_final(code: int) -> bool:
    """Whether a server that answered so will answer so again."""
    return 400 <= code < 500 and code not in _PASSING


def _fetch(url: str, part: Path) -> tuple[str, bool]:
    """Appends to `part` what it still lacks of `url`.

    Returns:
        What went wrong, or '', and whether another attempt is of no use.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    _log.info("downloading %s to %s from byte %d", url, part, have)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies beyond what is here: complete, or of another file
            return "", False
        return f"the server answered {error.code} {error.reason}", _is_final(error.code)
    except (OSError, http.client.HTTPException) as error:
        return f"no connection ({getattr(error, 'reason', error)})", False
    with answer:
        resumed = answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            return "the server answered with another range than the one asked for", False
        with part.open("ab" if resumed else "wb") as file:
            return _copy(answer, file), False


def _copy(answer: http.client.HTTPResponse, file: BinaryIO) -> str:
    """Copies an answer's body to `file`; the answer is what went wrong, or ''."""
    expected = answer.headers.get("Content-Length")
    copied = 0
    while True:
        try:
            block = answer.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            return f"the connection broke after {copied} bytes ({error})"
        if not block:
            break
        file.write(block)
        copied += len(block)
    if expected is not None and copied != int(expected):
        return f"the connection ended after {copied} of {expected} bytes"
    return ""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a lock on an existing `folder`, so that one process at a time fills it."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks, and no launcher that starts several at once
        yield
        return
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
