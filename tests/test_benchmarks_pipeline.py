"""benchmarks/pipeline.py: runs, and says what it measured. Nothing here depends on a duration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import fill
from PIL import Image
from record_files import encode, write

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules, imported as its script imports them."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import pipeline
    import pipeline_contenders

    yield pipeline, pipeline_contenders
    for name in ("pipeline", "pipeline_contenders", "pipeline_dataloader", "provenance", "turns"):
        sys.modules.pop(name, None)


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "pipeline.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(result, rounds):
    """What every result has: rates of each round, ratios to the fastest peer, provenance."""
    for task in result["tasks"]:
        by_name = {entry["name"]: entry for entry in task["results"]}
        best = by_name[task["ratios_to"]]
        assert best["peer"] and best["ratio"]["values"] == [1.0] * rounds
        fastest = max(e["images_per_second"]["median"] for e in by_name.values() if e["peer"])
        assert best["images_per_second"]["median"] == fastest
        for entry in by_name.values():
            rates = entry["images_per_second"]
            assert rates["n"] == entry["ratio"]["n"] == rounds and rates["min"] > 0
            assert entry["what"]
    assert result["versions"]["mxnet"] and result["versions"]["Pillow"]
    assert result["machine"]["usable_cores"] >= 1 and result["date"].endswith("+00:00")


def test_cifar_is_measured_against_gluoncv_and_mxnets_iterator(tmp_path):
    jpeg = encode(Image.new("RGB", (32, 32), (9, 99, 199)))
    rec = write(tmp_path / "small.rec", [(n % 10, jpeg) for n in range(24)])
    out = tmp_path / "new" / "out.json"
    settings = ["--pictures", 40, "--dataloader-pictures", 20, "--batch-size", 8, "--rounds", 2]
    finished = run("cifar", "--records", rec, *settings, "--out", out)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(out.read_text())
    check(result, 2)
    (task,) = result["tasks"]
    names = [entry["name"] for entry in task["results"]]
    peers = [entry["name"] for entry in task["results"] if entry["peer"]]
    assert peers == [f"GluonCV, DataLoader, {workers} workers" for workers in (0, 2)]
    assert "ImageRecordIter" in names and len(names) == 8
    assert all(name in finished.stdout for name in names)
    assert result["command"].startswith("python benchmarks/pipeline.py cifar --records")


def test_imagenet_is_measured_in_training_and_validation(tmp_path):
    pictures = fill(tmp_path / "pictures", {"blue": 5, "red": 6}, suffix=".jpg")
    out = tmp_path / "out.json"
    settings = ["--size", 16, "--batch-size", 4, "--rounds", 1, "--out", out]
    finished = run("imagenet", "--pictures-dir", pictures, *settings)
    assert finished.returncode == 0, finished.stderr
    assert "packed 11 pictures" in finished.stderr
    result = json.loads(out.read_text())
    check(result, 1)
    assert [task["task"] for task in result["tasks"]] == [
        "ImageNet, training, 16x16", "ImageNet, validation, 16x16"
    ]  # fmt: skip
    for task in result["tasks"]:
        assert [entry["peer"] for entry in task["results"]] == [True, True, False]


def test_peers_do_the_same_as_ours(modules, tmp_path):
    """Validation, which leaves nothing to chance: the same pictures out of MXNet's iterator."""
    import numpy as np

    from gluon_ran.data import RecordBatches, RecordFile, ValidationTransform

    _, contenders = modules
    low = np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    smooth = Image.fromarray(low).resize((60, 48), Image.BICUBIC)
    rec = write(tmp_path / "one.rec", [(0, encode(smooth, "PNG"))])
    transform = ValidationTransform(32, 36)
    for settings in ({}, {"ctx": "cpu"}):
        epoch = contenders._record_iter(
            rec, 1, 32, contenders._IMAGENET, resize=transform.shorter_side, **settings
        )
        (theirs,) = (images.asnumpy() for images in epoch(0))
        ((ours, _),) = RecordBatches(RecordFile(rec), 1, transform, contenders._IMAGENET)
        assert np.abs(ours - theirs).mean() < 0.05


def test_the_ratio_is_to_the_faster_peer_round_by_round(modules):
    pipeline, contenders = modules
    rates = {"a": [10, 20, 40], "b": [20, 10, 10], "c": [30, 30, 30]}
    given = {name: iter([1, *values]) for name, values in rates.items()}
    taking_part = [
        contenders.Contender(name, "", lambda name=name: next(given[name]), peer=name != "c")
        for name in rates
    ]
    results = pipeline.measure(taking_part, 3)
    assert [entry["images_per_second"]["values"] for entry in results] == list(rates.values())
    assert pipeline.add_ratios(results) == "a"
    assert results[2]["ratio"]["values"] == [3.0, 1.5, 0.75]
    assert "1.50" in pipeline.table("task", "a", results)


def test_each_round_begins_with_another_contender(modules):
    pipeline, contenders = modules
    turns = []
    taking_part = [
        contenders.Contender(name, "", lambda name=name: turns.append(name) or 1.0)
        for name in "abc"
    ]
    pipeline.measure(taking_part, 2)
    assert "".join(turns) == "abcbcacab"


def test_gluoncvs_path_that_ends_is_said_so(modules, monkeypatch):
    _, contenders = modules
    monkeypatch.setattr(contenders.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="GluonCV, DataLoader, 0 workers ended"):
        contenders.DataLoader(4, 2, 0)


def test_no_number_below_one_is_taken(modules):
    pipeline, _ = modules
    with pytest.raises(SystemExit):
        pipeline.main(["cifar", "--rounds", "0"])
    with pytest.raises(SystemExit):
        pipeline.main([])


def test_tasks_that_are_measured_are_kept(modules, monkeypatch, tmp_path):
    pipeline, contenders = modules

    def killed():
        raise RuntimeError("killed")

    tasks = {
        task: [contenders.Contender("a peer", "", rate, peer=True)]
        for task, rate in (("first", lambda: 1.0), ("second", killed))
    }
    monkeypatch.setattr(pipeline, "_cifar", lambda args, stack: tasks)
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit, match="error: killed .*before: .*part.json"):
        pipeline.main(["cifar", "--rounds", "1", "--out", str(out)])
    (kept,) = tmp_path.iterdir()
    found = json.loads(kept.read_text())
    assert [task["task"] for task in found["tasks"]] == ["first"] and found["command"]
