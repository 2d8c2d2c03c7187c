"""benchmarks/stream_memory.py: streams both files as often as told, and says what it measured."""

import json

import pytest
from benchmark_modules import imported
from record_files import some, write


@pytest.fixture
def module(monkeypatch):
    with imported(monkeypatch, "stream_memory") as modules:
        yield modules[0]


def test_both_files_are_streamed_and_written_down(module, tmp_path, capsys):
    rec, out = write(tmp_path / "many.rec", some(30)), tmp_path / "out.json"
    settings = ["--few", "8", "--batch-size", "4", "--size", "8", "--rounds", "1"]
    module.main(["--records", str(rec), *settings, "--out", str(out)])
    result = json.loads(out.read_text())
    seen = [(c["records"], c["batches"], c["pictures"], c["whole_epoch"]) for c in result["cases"]]
    assert seen == [(8, 2, 8, True), (8, 7, 28, False), (30, 2, 8, False), (30, 7, 28, True)]
    for case in result["cases"]:
        assert 20 < case["imported_mib"]["min"] <= case["peak_mib"]["min"]
    table = module.table(result)
    assert table in capsys.readouterr().out and "| 30 | 7, one epoch | 28 |" in table


def test_the_smaller_file_has_the_first_records(module, tmp_path):
    from gluon_ran.data import RecordFile

    rec = write(tmp_path / "many.rec", some(6))
    few = RecordFile(module.first_records(rec, 4, tmp_path / "few.rec"))
    many = RecordFile(rec)
    assert [few.read(n) for n in range(len(few))] == [many.read(n) for n in range(4)]


def test_a_process_that_fails_ends_the_run(module, tmp_path, capfd):
    with pytest.raises(RuntimeError, match="nowhere.rec ended with status 1"):
        module.in_process(tmp_path / "nowhere.rec", 1, 1, 8)
    assert "nowhere.rec can't be read" in capfd.readouterr().err
