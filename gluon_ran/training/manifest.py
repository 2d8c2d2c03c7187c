"""Manifests of checkpoints: what is there, proved to be whole and of the run.

A manifest names the files of a checkpoint with their SHA-256, and has a checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gluon_ran._files import sha256_of, write_text
from gluon_ran.training.monitor import LOG


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another network: says which and what to do."""


def write_manifest(folder: Path, names: Iterable[str], manifest: dict[str, Any]) -> None:
    """Writes a manifest with its checksum, under some names."""
    text = json.dumps({**manifest, "checksum": checksum(manifest)}, indent=2) + "\n"
    for name in names:
        write_text(folder / f"{name}.json", text)


def checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its checksum."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def stems_of(folder: Path) -> list[str]:
    """Names of the checkpoints that have a manifest, the newest first."""
    found = (p.stem for p in folder.glob("epoch-*.json") if p.is_file() and is_ours(p))
    return sorted(found, key=place_of, reverse=True)


def is_ours(path: Path) -> bool:
    """Whether a file is called as a checkpoint's, and not as one that somebody put beside them."""
    return re.fullmatch(r"epoch-\d+(-step-\d+)?", path.stem) is not None


def place_of(stem: str) -> tuple[int, ...]:
    """Epochs and steps of a checkpoint's name."""
    return tuple(map(int, re.findall(r"\d+", stem)))


def has_any(folder: Path) -> bool:
    """Whether a folder has a checkpoint, whole or not."""
    return bool(stems_of(folder))


def newest_whole(
    folder: Path, run_id: str | None = None, before: tuple[int, int] | None = None
) -> dict[str, Any] | None:
    """The manifest of the newest checkpoint of a run that is whole; None if there is none at all.

    Args:
        folder: of the checkpoints.
        run_id: what `save_checkpoint` was given; None takes any run's.
        before: epochs and steps; only checkpoints from before them count.

    Raises:
        CheckpointError: there are checkpoints, and each is damaged or another run's.
    """
    problems, seen = [], False
    for stem in stems_of(folder):
        try:
            manifest = read_manifest(folder, stem)
            if manifest is None:  # pruned meanwhile
                continue
            if before is not None and (manifest["epochs"], manifest["steps"]) >= before:
                seen = True
                continue
            if run_id is not None and manifest["run_id"] != run_id:
                raise CheckpointError(f"{folder / stem}.json belongs to another run")
            newest, seen = not seen, True
            if manifest["keep"] and not newest and not (folder / manifest["states"]).exists():
                # As pruning leaves all but the newest: nothing to warn of, nor to go on from.
                problems.append(f"{folder / stem}.json has weights alone")
                continue
            for part in ("weights", "states"):
                checked_file(folder, manifest, part)
        except CheckpointError as error:
            problems.append(str(error))
            LOG.warning("not used: %s", error)
        else:
            return manifest
    if problems:
        raise CheckpointError(
            f"{folder} has no checkpoint that is whole: restore one, or start anew in another "
            f"folder ({'; '.join(problems)})"
        )
    return None


def read_manifest(folder: Path, which: str) -> dict[str, Any] | None:
    """What a manifest says, or None if there is no such file.

    Args:
        folder: of the checkpoints.
        which: "best", or a checkpoint's name, as epoch-0007.

    Raises:
        CheckpointError: the file is not what `save_checkpoint` writes.
    """
    path = folder / f"{which}.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["checksum"] != checksum(manifest):
            raise ValueError("its checksum is another")
        _check_fields(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): restore it, or start anew in another folder"
        ) from None
    return manifest


def _check_fields(manifest: dict[str, Any]) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError where they are no manifest's."""
    _ = manifest["keep"], manifest["run_id"], manifest["progress"].items()
    _ = manifest["sha256"].items()
    if any(type(manifest[key]) is not int or manifest[key] < 0 for key in ("epochs", "steps")):
        raise ValueError("its epochs and steps are no numbers from 0")
    if any(Path(manifest[key]).name != manifest[key] for key in ("weights", "states")):
        raise ValueError("a file name with a folder in it")


def checked_file(folder: Path, manifest: dict[str, Any], part: str) -> Path:
    """The path of a checkpoint's "weights" or "states", proved to be whole.

    Raises:
        CheckpointError: the file is missing, or not the one that the manifest was written for.
    """
    path = folder / manifest[part]
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: restore it, or start anew in another folder")
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read ({error.strerror}): check the disk and the rights"
        ) from None
    if digest != manifest["sha256"].get(path.name):
        raise CheckpointError(
            f"{path} is damaged, its SHA-256 is not the manifest's: "
            "restore it, or start anew in another folder"
        )
    return path


def intact(folder: Path, which: str) -> dict[str, Any] | None:
    """What a manifest says; None where there is none, or it is damaged."""
    try:
        return read_manifest(folder, which)
    except CheckpointError:
        return None
