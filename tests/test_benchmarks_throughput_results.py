"""What benchmarks/throughput.py makes of its timings, and how it shows them."""

import json
from argparse import Namespace

import pytest
from benchmark_modules import imported


@pytest.fixture
def results(monkeypatch):
    with imported(monkeypatch, "throughput_results") as modules:
        yield modules[0]


@pytest.fixture
def report(monkeypatch):
    with imported(monkeypatch, "throughput_report") as modules:
        yield modules[0]


def entry(results, form, rates, **more):
    return {"model": "a", "form": form, "images_per_second": results.spread(rates), **more}


def test_ratios_are_taken_round_by_round(results):
    pairs = (("gluoncv", [10.0, 20.0, 5.0]), ("float32", [20.0, 40.0, 15.0]))
    entries = [entry(results, form, rates) for form, rates in pairs]
    results.add_ratios(entries)
    assert [e["ratio_to_gluoncv"]["median"] for e in entries] == [1.0, 2.0]
    assert entries[1]["ratio_to_gluoncv"]["values"] == [2.0, 2.0, 3.0]
    results.add_ratios(entries[1:])
    assert entries[1]["ratio_to_gluoncv"] is None


@pytest.mark.parametrize(("job", "passes"), [("inference", 1), ("training", 3)])
def test_shares_are_of_the_ceiling_in_that_precision_and_round(results, job, passes):
    entries = [
        entry(results, "gluoncv", [1.0, 1.0], job=job, precision="float32", macs=100),
        entry(results, "bfloat16", [2.0, 4.0], job=job, precision="bfloat16", macs=50),
        entry(results, "torch-bfloat16", [1.0, 2.0], job=job, precision="bfloat16"),
        entry(results, "int8", [1.0, 2.0], job=job, precision="int8", macs=50),
    ]
    ceilings = [
        {"precision": "float32", "flop_per_second": results.spread([800.0, 800.0])},
        {"precision": "bfloat16", "flop_per_second": results.spread([1000.0, 1600.0])},
    ]
    results.complete(entries, ceilings)
    gluoncv, ours, torch, int8 = (e["share_of_ceiling"] for e in entries)
    assert gluoncv["values"] == [0.25 * passes] * 2
    assert ours["values"] == pytest.approx([0.2 * passes, 0.25 * passes])
    # The equal network has our multiply-accumulates, not those of GluonCV's.
    assert torch["values"] == pytest.approx([0.1 * passes, 0.125 * passes])
    assert int8 is None


def test_spread_of_one_value_and_of_several(results):
    assert results.spread([2.0])["q1"] == results.spread([2.0])["q3"] == 2.0
    several = results.spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert [several[key] for key in ("min", "q1", "median", "q3", "max")] == [1, 2, 3, 4, 5]
    assert several["n"] == 5


def test_latency_is_in_milliseconds(results):
    assert results.latency([0.002]) == {"median": 2.0, "p95": 2.0, "n": 1}
    many = results.latency([i / 1000 for i in range(101)])
    assert many == {"median": 50.0, "p95": 95.0, "n": 101}


def timings(results, contender, seconds, batches, **description):
    return results.Timings(contender, description, batches, seconds)


def test_a_result_counts_pictures_of_whole_turns(results):
    contender = Namespace(
        job="inference",
        model="a",
        batch_size=8,
        form="int8",
        precision="int8",
        network="a",
    )
    found = results.result_of(timings(results, contender, [[0.5, 1.5], [1.0, 3.0]], 2, macs=7))
    assert found["images_per_second"]["values"] == [8.0, 4.0] and found["macs"] == 7
    assert found["latency_ms"]["median"] == 1250.0 and found["latency_ms"]["n"] == 4
    contender.job = "training"
    found = results.result_of(timings(results, contender, [[2.0], [4.0]], 2))
    assert found["images_per_second"]["values"] == [8.0, 4.0] and "latency_ms" not in found


def test_a_ceiling_counts_operations_of_whole_turns(results):
    product = Namespace(precision="int8")
    found = results.ceiling_of(timings(results, product, [[1.0, 1.0], [0.5, 0.5]], 2, flop=10))
    assert found["flop_per_second"]["values"] == [10.0, 20.0] and found["precision"] == "int8"


@pytest.fixture
def result(results):
    rates = {"images_per_second": results.spread([12.25]), "peak_memory_mib": 1234.5}
    rates["versions"] = {"python": "3.9.1", "mxnet": "1.9.1"}
    times = {"first_batch_seconds": 2.5, "latency_ms": {"median": 81.6, "p95": 90.1, "n": 9}}
    where = {"job": "inference", "model": "some_model", "batch_size": 8}
    missing = {"ratio_to_gluoncv": None, "share_of_ceiling": None}
    full = {"ratio_to_gluoncv": results.spread([1.5]), "share_of_ceiling": results.spread([0.55])}
    top = {"precision": "float32", "flop_per_second": results.spread([2e11]), "shape": [8, 16]}
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "command": "python benchmarks/throughput.py",
        "rounds": 1,
        "machine": {"cpu": "Some CPU", "usable_cores": 2, "flags": ["avx2"]},
        "results": [
            {**where, "form": "float32", **rates, **times, **full},
            {**where, "job": "training", "form": "plain", **rates, **times, **missing},
        ],
        "ceilings": [{**where, **top}],
        "skipped": [
            {**where, "form": "int8", "reason": "no such luck"},
            {**where, "model": "other", "form": "int8", "reason": "nor here"},
        ],
    }


def test_the_table_has_every_row_and_reason(report, result):
    text = report.table(result)
    row = next(line.split() for line in text.splitlines() if line.startswith("  float32"))
    assert row[0] == "float32" and row[1] == "12.2" and "1.50" in row and "55" in row
    assert {"81.6", "90.1", "2.5", "1,234"} <= set(row)
    assert "inference, some_model, batches of 8" in text
    assert "skipped: int8: no such luck" in text and "skipped: int8: nor here" in text
    assert "200 GFLOP/s (200 to 200), 8x16 by 16x16" in text
    _, title, head, row, *_ = text.splitlines()
    assert title.startswith("inference") and len(head) == len(row)


def test_the_markdown_has_rows_of_equal_length(report, result):
    text = report.markdown(result)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # Training's table lacks what is not known of its one row: ratio and share.
    assert [row.count("|") for row in rows] == [11] * 3 + [8] * 3
    assert "| `float32` | 12.2 |" in text and "Some CPU, 2 cores" in text
    assert "Versions: python 3.9.1, mxnet 1.9.1." in text
    assert "`int8` (no such luck)" in text and "nor here" in text


def test_the_readme_gets_the_tables_of_the_results_that_are_there(
    monkeypatch, tmp_path, capsys, result
):
    with imported(monkeypatch, "readme_tables") as (tables,):
        begin, end = tables.marks("throughput")
        readme = tmp_path / "README.md"
        readme.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
        arguments = ["--readme", str(readme), "--results", str(tmp_path)]
        assert tables.main([*arguments, "--check"]) == 0, "there are no results yet"
        (tmp_path / "throughput.json").write_text(json.dumps(result))
        assert tables.main([*arguments, "--check"]) == 1 and "old" in readme.read_text()
        assert tables.main(arguments) == 0 and tables.main([*arguments, "--check"]) == 0
        text = readme.read_text()
        assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text
        assert "| `float32` | 12.2 |" in text
        readme.write_text("no marks")
        assert tables.main(arguments) == 1
        assert "no place for the table" in capsys.readouterr().err
        assert readme.read_text() == "no marks"


def test_the_readme_has_the_tables_of_today(monkeypatch, capsys):
    """If this fails, run `python benchmarks/readme_tables.py`."""
    with imported(monkeypatch, "readme_tables") as (tables,):
        assert tables.main(["--check"]) == 0
        readme = tables.ROOT / "benchmarks" / "README.md"
        text = readme.read_text(encoding="utf-8")
        assert all(text.count(mark) == 1 for name in tables.TABLES for mark in tables.marks(name))
    assert capsys.readouterr().out == "up to date\n"
