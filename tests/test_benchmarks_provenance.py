"""benchmarks/provenance.py: what is measured is kept, whatever comes behind it."""

import json
import os

import pytest
from benchmark_modules import imported


@pytest.fixture
def module(monkeypatch):
    with imported(monkeypatch, "provenance") as modules:
        yield modules[0]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_part_goes_once_all_is_written(module, tmp_path):
    out = tmp_path / "new" / "out.json"
    with module.keeping_parts(out) as keep:
        keep({"rows": [1]})
        (part,) = out.parent.iterdir()
        assert json.loads(part.read_text()) == {"rows": [1]}
        keep({"rows": [1, 2]})
        assert json.loads(part.read_text()) == {"rows": [1, 2]}
        module.write_json(out, {"rows": [1, 2, 3]})
    assert files(out.parent) == ["out.json"]
    assert json.loads(out.read_text()) == {"rows": [1, 2, 3]}


@pytest.mark.parametrize("error", [RuntimeError, OSError, ValueError, ImportError])
def test_an_error_leaves_the_part_and_names_it(module, tmp_path, error):
    out = tmp_path / "out.json"
    out.write_text("an earlier result")
    with pytest.raises(SystemExit) as left, module.keeping_parts(out) as keep:
        keep({"rows": [1]})
        raise error("killed")
    part = tmp_path / f"out.{os.getpid()}.part.json"
    assert str(left.value) == f"error: killed (what was measured before: {part})"
    assert json.loads(part.read_text()) == {"rows": [1]}
    assert out.read_text() == "an earlier result"


def test_an_error_ahead_of_the_first_part_names_none(module, tmp_path):
    (tmp_path / f"out.{os.getpid()}.part.json").write_text("of an earlier process")
    with pytest.raises(SystemExit) as left, module.keeping_parts(tmp_path / "out.json"):
        raise RuntimeError("killed")
    assert str(left.value) == "error: killed" and files(tmp_path) == []


def test_other_runs_leave_a_part_alone(module, tmp_path):
    other = tmp_path / "out.1.part.json"
    other.write_text("{}")
    with module.keeping_parts(tmp_path / "out.json") as keep:
        keep({})
        module.write_json(tmp_path / "out.json", {})
    assert files(tmp_path) == [other.name, "out.json"]


def test_a_signal_leaves_the_part(module, tmp_path):
    with pytest.raises(KeyboardInterrupt), module.keeping_parts(tmp_path / "out.json") as keep:
        keep({})
        raise KeyboardInterrupt
    assert files(tmp_path) == [f"out.{os.getpid()}.part.json"]
