"""benchmarks/training_memory.py: runs, compares, and says what it measured."""

import json

import pytest
from benchmark_modules import imported


@pytest.fixture
def module(monkeypatch):
    with imported(monkeypatch, "training_memory") as modules:
        yield modules[0]


def test_both_ways_are_trained_and_written_down(module, tmp_path, capsys):
    out = tmp_path / "out.json"
    settings = ["--rounds", "1", "--steps", "1", "--warmup", "1", "--dtypes", "float32"]
    module.main(["--networks", "cifar_attention56_thin:4", *settings, "--out", str(out)])
    result = json.loads(out.read_text())
    plain, again = result["cases"]
    assert [plain["recompute"], again["recompute"]] == [False, True]
    assert plain["loss"] == again["loss"] and plain["memory_ratio"]["values"] == [1.0]
    for case in (plain, again):
        assert (case["model"], case["batch_size"]) == ("cifar_attention56_thin", 4)
        assert case["peak_memory_mib"]["min"] > 100 and case["seconds_per_step"]["min"] > 0
    table = module.table(result)
    assert table in capsys.readouterr().out
    assert table.count("`cifar_attention56_thin`") == 2


def test_what_trains_to_another_loss_is_no_recomputation(module, monkeypatch):
    losses = iter([1.0, 1.5])
    monkeypatch.setattr(
        module,
        "in_process",
        lambda *_: {"peak_memory_mib": 1.0, "seconds": 1.0, "loss": next(losses)},
    )
    pair = [module.Case("net", 1, "float32", again) for again in (False, True)]
    with pytest.raises(RuntimeError, match="trained to other losses"):
        module.measure(pair, 1, 1, 1)


def test_a_process_that_fails_ends_the_run(module, capfd):
    with pytest.raises(RuntimeError, match="no_such_net, batches of 1, float32 ended with"):
        module.in_process(module.Case("no_such_net", 1, "float32", False), 1, 1)
    assert "no_such_net" in capfd.readouterr().err


def test_networks_that_are_measured_are_kept(module, monkeypatch, tmp_path):
    def in_process(case, steps, warmup):
        if case.model == "second":
            raise RuntimeError("killed")
        return {"peak_memory_mib": 1.0, "seconds": 1.0, "loss": 1.0}

    monkeypatch.setattr(module, "in_process", in_process)
    networks = ["--networks", "first:1", "second:1", "--dtypes", "float32"]
    with pytest.raises(SystemExit, match="error: killed .*before: .*part.json"):
        module.main([*networks, "--out", str(tmp_path / "out.json")])
    (kept,) = tmp_path.iterdir()
    assert [case["model"] for case in json.loads(kept.read_text())["cases"]] == ["first"] * 2


@pytest.mark.parametrize("text", ["attention92", "attention92:0", "attention92:x"])
def test_a_network_without_a_batch_is_refused(module, text, capsys):
    with pytest.raises(SystemExit):
        module.main(["--networks", text])
    assert "MODEL:BATCH" in capsys.readouterr().err
