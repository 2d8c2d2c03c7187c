import errno
import fcntl
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from small import RECIPE, SPEC, data_record

from gluon_ran.models import Baseline
from gluon_ran.training import RunDirectory, RunError


def start(path, spec=SPEC, recipe=RECIPE, data=None):
    return RunDirectory.start(path, spec, recipe, data or data_record())


def saved(run):
    """The run with a checkpoint, as far as the run directory looks at it."""
    run.checkpoints.mkdir()
    (run.checkpoints / "epoch-0001.json").write_text("{}")
    return run


def test_a_run_is_read_back_as_it_was_started(tmp_path):
    start(tmp_path / "a" / "run")
    run = RunDirectory.open(tmp_path / "a" / "run")
    assert (run.spec, run.recipe) == (SPEC, RECIPE)
    assert {**run.data, "run_id": None} == {**data_record(), "run_id": None}
    assert np.array_equal(
        run.normalization.mean, np.float32(data_record()["normalization"]["mean"])
    )
    assert not run.has_checkpoint() and run.metrics() == []


def test_a_run_keeps_its_id(tmp_path):
    first = saved(start(tmp_path / "run")).data["run_id"]
    assert start(tmp_path / "run").data["run_id"] == first
    assert RunDirectory.open(tmp_path / "run").data["run_id"] == first
    assert start(tmp_path / "other").data["run_id"] != first


def test_starting_again_takes_the_same_run_up(tmp_path):
    start(tmp_path / "run").write_metrics({"epoch": 0})
    assert start(tmp_path / "run").metrics() == [{"epoch": 0}]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"recipe": replace(RECIPE, lr=0.2)}, "lr 0.05 there, 0.2 now"),
        ({"spec": replace(SPEC, r=2)}, "r 1 there, 2 now"),
        ({"data": {**data_record(), "dataset": "large"}}, "dataset small there, large now"),
    ],
)
def test_another_run_is_refused_with_the_difference(tmp_path, changes, message):
    saved(start(tmp_path / "run"))
    with pytest.raises(RunError, match=message):
        start(tmp_path / "run", **changes)


def test_another_network_of_gluoncvs_is_refused(tmp_path):
    baseline = Baseline("cifar_resnet20_v1", 3)
    saved(start(tmp_path / "run", spec=baseline))
    assert start(tmp_path / "run", spec=baseline).spec == baseline
    with pytest.raises(RunError, match="baseline cifar_resnet20_v1 there, cifar_resnet56_v1 now"):
        start(tmp_path / "run", spec=Baseline("cifar_resnet56_v1", 3))
    with pytest.raises(RunError, match="baseline cifar_resnet20_v1 there, None now"):
        start(tmp_path / "run")


def test_a_run_that_never_saved_an_epoch_gives_way(tmp_path):
    start(tmp_path / "run").write_metrics({"epoch": 0})
    (tmp_path / "run" / "recipe.json").unlink()
    start(tmp_path / "run", recipe=replace(RECIPE, lr=0.2))
    assert RunDirectory.open(tmp_path / "run").recipe.lr == 0.2


def test_data_may_move_to_another_folder(tmp_path):
    saved(start(tmp_path / "run"))
    start(tmp_path / "run", data={**data_record(), "data_dir": "elsewhere"})


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="holds other files"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["spec.json", "recipe.json", "data.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_files_are_named(tmp_path, name, text):
    start(tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        RunDirectory.open(tmp_path / "run")


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_an_epoch_trained_again_replaces_its_row_and_later_ones(tmp_path):
    run = start(tmp_path / "run")
    for epoch in range(4):
        run.write_metrics({"epoch": epoch, "try": 1})
    run.write_metrics({"epoch": 2, "try": 2})
    assert [(row["epoch"], row["try"]) for row in run.metrics()] == [(0, 1), (1, 1), (2, 2)]


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    run = start(tmp_path / "run")
    run.write_metrics({"epoch": 0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"epoch": 1})[:5])
    assert run.metrics() == [{"epoch": 0}]


@pytest.mark.parametrize("line", [b'{"epo', b'{"epo\xe3h": 1}', b"{}", b"[]"])
def test_another_damaged_line_of_metrics_is_named(tmp_path, line):
    run = start(tmp_path / "run")
    (run.path / "metrics.jsonl").write_bytes(b'{"epoch": 0}\n' + line + b'\n{"epoch": 2}\n')
    with pytest.raises(RunError, match="line 2 of .*metrics.jsonl is damaged"):
        run.metrics()


def test_one_process_at_a_time_writes_to_a_run(tmp_path):
    run = start(tmp_path / "run")
    held = (
        "import sys; from gluon_ran.training import RunDirectory\n"
        "with RunDirectory.open(sys.argv[1]).writing():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, str(run.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(RunError, match=f"written to by process {other.pid} on "):
                with run.writing():
                    pass
            with pytest.raises(RunError, match="choose another --save-dir"):
                start(tmp_path / "run", recipe=replace(RECIPE, lr=0.2))
            assert RunDirectory.open(run.path).recipe == RECIPE
        finally:
            other.kill()
    with run.writing():
        pass
    start(tmp_path / "run")


def test_who_writes_to_a_run_may_enter_again(tmp_path):
    run = start(tmp_path / "run")
    with run.writing():
        with run.writing():
            pass
        with pytest.raises(RunError, match="written to by process"):
            with RunDirectory.open(run.path).writing():
                pass
    with RunDirectory.open(run.path).writing():
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    run = start(tmp_path / "run")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match="can't be locked .* .No locks available.*mount"):
        with run.writing():
            pass


def test_what_a_kill_left_half_made_goes(tmp_path):
    run = start(tmp_path / "run")
    left = [run.path / ".metrics.jsonl.77.tmp", run.path / ".curves.png.77.tmp"]
    other = run.path / "evaluation.json"
    for path in (*left, other):
        path.write_text("left")
    with run.writing():
        assert not any(path.exists() for path in left) and other.exists()
