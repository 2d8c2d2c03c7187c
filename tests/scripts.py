"""The scripts in train/ as modules, which find each other as when they are run."""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def script(name):
    folder = str(ROOT / "train")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def saved_files(run):
    """When each file of a run's checkpoints was written."""
    return {path.name: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}
