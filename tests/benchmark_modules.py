"""Imports modules of benchmarks/ as its scripts do, for one test."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@contextmanager
def imported(monkeypatch, *names):
    """The modules; afterwards none of the folder's modules stays."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        for path in BENCHMARKS.glob("*.py"):
            sys.modules.pop(path.stem, None)
