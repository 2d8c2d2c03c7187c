"""benchmarks/scaling.py: points, straight lines, table and figure. No duration counts here."""

import json
import re

import pytest
from benchmark_modules import imported

from gluon_ran.models import SPECS


@pytest.fixture
def scaling(monkeypatch):
    with imported(monkeypatch, "scaling") as modules:
        yield modules[0]


@pytest.fixture
def scaling_lines(monkeypatch):
    with imported(monkeypatch, "scaling_lines") as modules:
        yield modules[0]


def point(sweep="depth", at=56, macs=2e9, seconds=0.5, batch_size=10, **more):
    times = {"seconds_per_batch": {"median": seconds}}
    rates = {"images_per_second": {"median": batch_size / seconds}}
    where = {"sweep": sweep, "job": "training", "precision": "float32", "at": at}
    return {**where, "batch_size": batch_size, "macs": macs, **times, **rates, **more}


def test_every_place_of_every_sweep_is_one_that_its_network_takes(scaling):
    for name, points in scaling.SWEEPS.items():
        assert len({p.at for p in points}) == len(points) >= 3
        for p in points:
            spec = SPECS[p.model]
            assert all(edge % spec.size_multiple == 0 for edge in p.size or ())
            depth = re.search(r"\d+", p.model).group()
            numbers = {"depth": int(depth), "batch": p.batch_size}
            assert p.at == numbers.get(name, (p.size or spec.input_size)[0])
    assert SPECS["attention56"].input_size in [p.size for p in scaling.SWEEPS["imagenet_size"]]


def test_a_straight_line_is_found(scaling_lines):
    found = scaling_lines.line([1.0, 2.0, 4.0], [5.0, 7.0, 11.0])
    assert found["ms_per_gmac"] == pytest.approx(2) and found["intercept_ms"] == pytest.approx(3)
    assert found["r2"] == pytest.approx(1)
    # By hand: y = 0.5 + 0.5 x leaves -0.5, 1, -0.5 of 1, 3, 2's variance.
    assert scaling_lines.line([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])["r2"] == pytest.approx(0.25)


def test_a_picture_or_a_batch_is_what_counts(scaling_lines):
    assert scaling_lines.coordinates(point()) == pytest.approx((2.0, 50.0))
    assert scaling_lines.coordinates(point("batch")) == pytest.approx((20.0, 500.0))


def test_two_points_have_no_line(scaling_lines):
    points = [point(at=n, macs=n * 1e8, seconds=n / 100) for n in (1, 2, 3)]
    assert scaling_lines.lines(points[:2]) == []
    (line,) = scaling_lines.lines(points)
    assert line["r2"] == pytest.approx(1) and line["ms_per_gmac"] == pytest.approx(10)
    assert (line["sweep"], line["job"], line["precision"]) == ("depth", "training", "float32")


def test_the_table_has_a_row_a_place_and_a_column_a_series(scaling_lines):
    points = [point(at=n, macs=n * 1e8, seconds=n / 100) for n in (1, 2, 4)]
    points.append(point(at=2, macs=2e8, precision="bfloat16", seconds=0.001))
    skipped = [{"sweep": "size", "job": "training", "precision": "bfloat16", "reason": "no luck"}]
    result = {"points": points, "lines": scaling_lines.lines(points), "skipped": skipped}
    text = scaling_lines.table(result)
    assert "| 2 | 0.200 | 500.0 | 10000.0 |" in text and "| 4 | 0.400 | 250.0 | - |" in text
    assert "| training, float32 | 10.00 | 0.00 | 1.0000 |" in text
    assert text.endswith("Not in it: size, training, bfloat16 (no luck).")


def test_the_figure_has_a_panel_a_sweep_and_job(scaling_lines, monkeypatch, tmp_path):
    points = [
        point(sweep, at=n, macs=n * 1e8, seconds=n / 100, job=job)
        for sweep in ("depth", "batch")
        for job in ("training", "inference")
        for n in (1, 2, 4)
    ]
    result = {"points": points, "lines": scaling_lines.lines(points[:6]), "skipped": []}
    with imported(monkeypatch, "scaling_figure") as (figure,):
        saved = []
        monkeypatch.setattr(figure, "save_png", lambda drawn, path: saved.append(drawn))
        figure.draw(result, tmp_path / "scaling.png")
    panels = saved[0].axes
    assert [ax.get_ylabel() for ax in panels] == [
        f"{job}, ms a {unit}" for job in ("training", "inference") for unit in ("picture", "batch")
    ]
    for ax in panels:
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        drawn = [line for line in ax.lines if len(line.get_xdata()) == 3]
        assert len(labels) == len(drawn) == 1 and labels[0].startswith("float32")
    assert ["R²" in ax.get_legend().get_texts()[0].get_text() for ax in panels] == [
        True, False, True, False,
    ]  # fmt: skip


def test_a_tiny_run_writes_points_lines_and_figure(scaling, monkeypatch, tmp_path, capsys):
    place = scaling.Point(16, "cifar_attention56_thin", 2, (16, 16))
    monkeypatch.setitem(scaling.SWEEPS, "size", [place])
    path = tmp_path / "scaling.json"
    sweep = ["--sweeps", "size", "--jobs", "inference", "--precisions", "float32"]
    scaling.main([*sweep, "--rounds", "2", "--out", str(path)])
    result = json.loads(path.read_text())
    (found,) = result["points"]
    assert found["at"] == 16 and found["shape"] == [2, 3, 16, 16] and found["macs"] > 0
    assert found["seconds_per_batch"]["n"] == 2 and found["seconds_per_batch"]["min"] > 0
    assert found["images_per_second"]["max"] == pytest.approx(
        2 / found["seconds_per_batch"]["min"], rel=1e-3
    )
    assert result["lines"] == [] and result["rounds"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scaling.json", "scaling.png"]
    assert "| 16 |" in capsys.readouterr().out


def test_a_process_that_ends_ends_the_run(scaling, monkeypatch, tmp_path):
    def interleave(contenders, turns, reference):
        raise RuntimeError(f"the process of {contenders[0]} ended")

    monkeypatch.setattr(scaling, "interleave", interleave)
    arguments = ["--sweeps", "size", "--jobs", "training", "--precisions", "float32"]
    with pytest.raises(SystemExit, match="process of cifar_attention56 at 16x16 float32 ended"):
        scaling.main([*arguments, "--out", str(tmp_path / "out.json")])
    assert list(tmp_path.iterdir()) == []


def test_sweeps_that_are_measured_are_kept(scaling, monkeypatch, tmp_path):
    def measure(sweep, *_):
        if sweep == "size":
            raise RuntimeError("killed")
        return [point(sweep)], [{"reason": "no luck"}]

    monkeypatch.setattr(scaling, "measure", measure)
    arguments = ["--sweeps", "depth", "size", "--jobs", "training", "--precisions", "float32"]
    with pytest.raises(SystemExit, match="error: killed .*before: .*part.json"):
        scaling.main([*arguments, "--rounds", "2", "--out", str(tmp_path / "out.json")])
    (kept,) = tmp_path.iterdir()
    found = json.loads(kept.read_text())
    assert found["points"] == [point("depth")] and found["skipped"] == [{"reason": "no luck"}]
    assert found["rounds"] == 2 and found["command"]


def test_bfloat16_that_the_cpu_lacks_is_left_out(scaling, monkeypatch):
    monkeypatch.setattr("throughput_contenders.cpu_info", dict)
    points, skipped = scaling.measure("depth", "training", "bfloat16", scaling.Turns(1, 1, 1))
    assert points == [] and "avx512_bf16" in skipped[0]["reason"]
