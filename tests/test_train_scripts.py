"""The command lines, as a user runs them, on digits at a size that trains in seconds."""

import json
import os
import signal
import subprocess
import sys

import pytest
from own_digits import evaluate, small_digits, train  # noqa: F401
from scripts import ROOT, saved_files, script

from gluon_ran import training
from gluon_ran.data import load_dataset as load_whole
from gluon_ran.data import noisy_labels

import mxnet as mx


def test_a_run_is_trained_gone_on_with_and_evaluated(tmp_path, capsys):
    assert train() == 0
    run = tmp_path / "runs" / "digits-tiny-digits"
    assert (run / "train.log").read_text().count("validation loss") == 2
    before = saved_files(run)
    assert train() == 0
    assert train("--resume") == 0
    assert script("cifar10_train").main(["--resume", str(run)]) == 0
    assert saved_files(run) == before
    log = (run / "train.log").read_text()
    with training.RunDirectory.open(run).writing():
        assert train() == 1
    assert "is written to by process" in capsys.readouterr().err
    assert (run / "train.log").read_text() == log
    assert evaluate(str(run), "--checkpoint", "last", "--flip") == 0
    told = capsys.readouterr().out
    assert f"weights {run}/checkpoints/" in told and "2.params, each picture," in told
    assert "averaged with its mirror image" in told and "top-1" in told
    result = json.loads((run / "evaluation.json").read_text())
    assert result["count"] == 60 and sum(map(sum, result["confusion"])) == 60
    assert result["flip_averaging"] and list(result["per_class"]) == list("0123456789")
    assert (run / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_is_stopped_between_two_tests_says_what_is_known(tmp_path, monkeypatch, caplog):
    flags = ("--save-dir", "run", "--test-period", "2", "--epochs", "4", "--warmup-epochs", "0")
    with monkeypatch.context() as context:
        behind = training.saver.Saver.behind_epoch

        def stop(self, result, state):
            behind(self, result, state)
            if result.epoch == 2:
                signal.raise_signal(signal.SIGTERM)

        context.setattr(training.saver.Saver, "behind_epoch", stop)
        assert train(*flags) == 75
    log = (tmp_path / "run" / "train.log").read_text()
    assert "interrupted behind epoch 3" in log and "after epoch 2; best" in log
    assert train(*flags) == 0
    rows = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [row["val_top1"] is None for row in rows] == [True, False, True, False]


def test_the_last_checkpoint_scores_what_the_run_logged(tmp_path):
    assert train("--save-dir", "run", "--mask-period", "2") == 0
    (events,) = (tmp_path / "run" / "events").iterdir()
    assert events.read_bytes().count(b"mask/validation_pictures") == 1
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert evaluate("run", "--checkpoint", "last", "--out", "scores") == 0
    result = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert result["top1"] == row["val_top1"]
    assert result["loss"] == pytest.approx(row["val_loss"], rel=1e-4)


def test_a_weights_file_is_evaluated_with_its_model(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    checkpoint = next((tmp_path / "run" / "checkpoints").glob("*.params"))
    assert evaluate(str(checkpoint), "--out", "in_run") == 0
    weights = checkpoint.rename(tmp_path / "best.params")
    assert evaluate(str(weights), "--model", "tiny", "--dataset", "digits", "--out", "a") == 0
    known, told = (
        json.loads((tmp_path / folder / "evaluation.json").read_text())
        for folder in ("in_run", "a")
    )
    assert known["loss"] == told["loss"] and known["dataset"] == "digits"
    assert evaluate(str(weights)) == 1
    assert "name it with --model" in capsys.readouterr().err
    assert evaluate(str(weights), "--model", "tiny") == 1
    assert "name them with --dataset or --data-dir" in capsys.readouterr().err
    assert evaluate(str(weights), "--model", "cifar_attention56_thin", "--dataset", "digits") == 1
    assert "does not hold the weights of this network" in capsys.readouterr().err


def test_resume_goes_on_by_the_runs_own_settings_alone(tmp_path, capsys):
    assert train("--save-dir", "run", "--alpha", "1", "--mix-up", "1") == 0
    recipe = tmp_path / "run" / "recipe.json"
    assert '"alpha": 1.0' in recipe.read_text()  # of a run from Python it may be 1
    recipe.write_text(recipe.read_text().replace('"alpha": 1.0', '"alpha": 1'))
    module = script("cifar10_train")
    assert module.main(["--resume", "run", "--alpha", "1", "--mix-up", "1"]) == 0
    assert module.main(["--resume", "run", "--epochs", "2", "--lr", "0.1"]) == 0
    for flags, named in (
        (["--epochs", "20"], "--epochs"),
        (["--num-layers", "92"], "--model"),
        (["--dataset", "cifar10"], "--dataset"),
        (["--save-dir", "other"], "--save-dir"),
    ):
        assert module.main(["--resume", "run", *flags]) == 1
        assert f"leave out {named}" in capsys.readouterr().err


def test_a_run_on_other_labels_or_devices_is_refused(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    path = tmp_path / "run" / "data.json"
    data = json.loads(path.read_text())
    for key, value in (("labels_sha256", "0"), ("devices", 2)):
        path.write_text(json.dumps({**data, key: value}))
        assert train("--save-dir", "run") == 1
        assert f"{key} {value} there" in capsys.readouterr().err
        assert script("cifar10_train").main(["--resume", "run"]) == 1


def test_the_run_of_another_recipe_is_refused(capsys):
    assert train("--save-dir", "run") == 0
    assert train("--save-dir", "run", "--lr", "0.5") == 1
    assert "lr 0.1 there, 0.5 now" in capsys.readouterr().err


def test_the_shared_cifar10_trains_a_step(shared_data, tmp_path):
    """On the first of the real CIFAR-10 records where they lie beside the checkout."""
    for split in ("train", "test"):
        name = f"cifar10_{split}.rec"
        whole = mx.recordio.MXRecordIO(str(shared_data / "cifar10" / name), "r")
        few = mx.recordio.MXRecordIO(name, "w")
        for _ in range(100):
            few.write(whole.read())
        few.close()
    code = script("cifar10_train").main(
        ["--data-dir", ".", "--model", "tiny", "--epochs", "1",
         "--save-dir", "run"]
    )  # fmt: skip
    assert code == 0
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert data["dataset"] == "cifar10" and data["class_names"][0] == "airplane"


def test_training_needs_no_opencv(tmp_path):
    """A machine without libGL, on which cv2 is there and fails to import."""
    hook = tmp_path / "cv2.py"
    hook.write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    code = (
        "import sys; from small import *; from gluon_ran import fit\n"
        "h = fit(net(), RECIPE, train_batches(), validation_batches(), classes=3, progress=False,"
        " run=__import__('gluon_ran').training.RunDirectory.start("
        f"{str(tmp_path / 'run')!r}, SPEC, RECIPE, data_record()))\n"
        "assert h.completed"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_held_out_pictures_take_the_place_of_the_test(tmp_path, monkeypatch):
    read = []

    def load(name, data_dir=None, splits=("train", "test"), **settings):
        read.extend(splits)
        return load_whole(name, data_dir, splits=splits, **settings)

    monkeypatch.setattr(script("sources"), "load_dataset", load)
    flags = ("--hold-out", "1397", "--epochs", "1")
    assert train(*flags, "--save-dir", "chosen") == 0
    assert set(read) == {"train"}
    (row,) = (tmp_path / "chosen" / "metrics.jsonl").read_text().splitlines()
    assert len(json.loads(row)["losses"]) == 2  # 40 of 1,437 pictures are left, in batches of 32
    assert round(json.loads(row)["val_top1"] * 1397, 6) % 1 == 0
    assert "held-out accuracy" in (tmp_path / "chosen" / "train.log").read_text()
    assert train("--epochs", "1", "--save-dir", "chosen") == 1  # another run
    assert script("cifar10_train").main(["--resume", "chosen"]) == 0
    monkeypatch.undo()
    assert script("evaluate").main([str(tmp_path / "chosen"), "--out", str(tmp_path / "at")]) == 0
    assert json.loads((tmp_path / "at" / "evaluation.json").read_text())["count"] == 360


def test_label_noise_reaches_the_training_labels_alone():
    source = script("sources").open_source("digits", None, {})
    recipe = training.get_recipe("digits", label_noise=0.5, seed=3)
    normalization = source.normalization("channel")
    batches = source.training_batches(recipe, normalization, 1, training.ALONE, 0)
    clean = source.train.labels
    assert (batches.dataset.labels == noisy_labels(clean, 10, 0.5, 3)).all()
    assert (batches.dataset.labels != clean).mean() == pytest.approx(0.5, abs=0.05)
    assert (source.test_batches(normalization).dataset.labels == source.test.labels).all()


def test_streams_take_neither(capsys):
    for flags in (("--hold-out", "5"), ("--label-noise", "0.3")):
        assert script("imagenet_train").main(["--data-dir", "there", *flags]) == 1
        assert "not for a stream" in capsys.readouterr().err
