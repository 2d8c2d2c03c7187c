"""The command lines, as a user runs them, on digits at a size that trains in seconds."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from scripts import ROOT, saved_files, script
from small import SPEC

from gluon_ran import training
from gluon_ran.data import Dataset, noisy_labels
from gluon_ran.data import load_dataset as load_whole
from gluon_ran.models import Card, build, save_with_card
from gluon_ran.models.specs import SPECS
from gluon_ran.training.run import RunLocked

import mxnet as mx

TINY = replace(SPEC, name="tiny", classes=10)


@pytest.fixture(autouse=True)
def small_digits(tmp_path, monkeypatch):
    """A tiny network and 60 digits, in a working directory of their own."""

    def load(name, data_dir=None, **settings):
        splits = load_whole(name, data_dir, **settings)
        return [Dataset(d.images[:60], d.labels[:60], d.class_names) for d in splits]

    monkeypatch.setitem(SPECS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    for name in ("sources", "evaluate"):
        monkeypatch.setattr(script(name), "load_dataset", load)


def train(*flags):
    return script("cifar10_train").main(
        ["--dataset", "digits", "--model", "tiny", "--epochs", "2", "--warmup-epochs", "0", *flags]
    )


def evaluate(*flags):
    return script("evaluate").main(list(flags))


def recipe_of(*flags):
    parser = script("cifar10_train").make_parser()
    return script("flags").recipe_from(parser.parse_args(list(flags)))


def test_the_flags_of_the_earlier_scripts_mean_what_users_remember():
    flags = (
        "--num-layers 92 --log-dir log -j 2 --num-gpus 0 --epochs 30 -b 32 --lr 0.3 --momentum 0.8 "
        "--wd 5e-4 --lr-steps 10,20 --mix-up 1 --alpha 0.4 --epsilon 0.1 --warmup-epochs 3 "
        "--float16 --save-period 5"
    ).split()
    recipe = recipe_of(*flags)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (30, 32, 0.3, 0.8)
    assert (recipe.wd, recipe.lr_steps, recipe.mixup, recipe.alpha) == (5e-4, (10, 20), True, 0.4)
    assert (recipe.epsilon, recipe.warmup_epochs, recipe.dtype) == (0.1, 3, "float16")
    long = "--batch-size 32 --learning-rate 0.3 --weight-decay 5e-4 --workers 2".split()
    assert recipe_of(*long) == recipe_of(*"-b 32 --lr 0.3 --wd 5e-4 -j 2".split())


def test_recipes_fill_what_the_flags_leave_out():
    assert recipe_of().name == "gluon"
    assert recipe_of("--dataset", "digits").name == "digits"
    assert recipe_of("--recipe", "paper", "--no-wd").no_wd
    assert not recipe_of("--recipe", "tricks", "--mix-up", "0").mixup


def test_rates_of_another_optimizer_are_warned_of(caplog):
    parser = script("cifar10_train").make_parser()
    for flags, told in (
        (("--optimizer", "muon"), "lr and wd of the recipe gluon suit the optimizer nag, not muon"),
        (("--optimizer", "muon", "--lr", "0.1"), "wd of the recipe gluon .* give --wd too"),
        (("--recipe", "muon", "--optimizer", "sgd", "--wd", "0"), "lr of .* muon, not sgd"),
        (("--optimizer", "muon", "--lr", "0.1", "--wd", "0.02"), None),
        (("--recipe", "muon"), None),
        (("--optimizer", "sgd"), None),
    ):
        caplog.clear()
        script("flags").warn_of_rates(parser.parse_args(list(flags)), recipe_of(*flags))
        assert re.search(told, caplog.text) if told else not caplog.text, flags


def test_no_progressive_sizes_can_be_asked_for():
    assert recipe_of("--recipe", "short").progressive_sizes
    assert recipe_of("--recipe", "short", "--progressive-sizes", "none").progressive_sizes == ()


@pytest.mark.parametrize("name", ["cifar10_train", "evaluate"])
def test_a_mistyped_network_is_answered_with_close_ones(name, capsys):
    with pytest.raises(SystemExit):
        script(name).main(["--model", "cifar_atention56_thin", "run"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert "'cifar_atention56_thin'; did you mean cifar_attention56_thin" in line
    assert len(line) < 250


@pytest.mark.parametrize(
    "name", ["cifar10_train", "cifar100_train", "folder_train", "imagenet_train"]
)
def test_help_shows_every_default_and_every_recipe(name, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name).main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    parser = script(name).make_parser()
    for action in parser._actions:
        if action.help and action.dest not in ("help", "resume"):
            assert "default" in action.help or action.const == "float16", action.option_strings
    steps = "40,80,100" if name == "imagenet_train" else "80,120"
    for text in (f"(default: {steps})", "(default: 0.0001)", "tricks:", "warmup_epochs 5"):
        assert text in shown


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


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--num-gpus", "99"], "MXNet sees"),
        (["--float16"], "float16 trains on GPUs only"),
        (["--lr", "-1"], "Recipe.lr is -1.0"),
        (["--resume"], "has no checkpoint to go on from"),
        (["--resume", "nowhere"], "nowhere is not a run directory"),
        (["--lr", "1e30", "--lr-mode", "step"], "lower the learning rate"),
        (["--mask-period", "1", "--model", "cifar_resnet20_v1"], "has no masks to show"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(flags, message, capsys):
    assert train(*flags) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--lr-mode", "cosine", "--lr-steps", "2"], "--lr-steps: for --lr-mode step"),
        (["--lr-mode", "cosine", "--lr-decay", "0.5"], "--lr-decay: for --lr-mode step"),
        (["--mix-up", "0", "--alpha", "0.4"], "--alpha: for --mix-up 1"),
        (["--weights", "own.params", "--zero-init"], "--zero-init is how units start"),
    ],
)
def test_flags_that_nothing_would_read_are_refused(flags, message, capsys, tmp_path):
    net = build(TINY)
    net.initialize()
    save_with_card(net, Card(TINY), tmp_path / "own.params")
    assert train(*flags) == 1
    assert f"error: {message}" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("name, at", [("cli", "make_shared_run"), ("evaluate", "evaluate")])
@pytest.mark.parametrize(
    "error, line",
    [
        (ImportError("mxboard needs protobuf 3.20"), "mxboard needs protobuf 3.20"),
        (MemoryError(), "not enough memory"),
        (mx.base.MXNetError("Traceback (most recent call last):\n  x\nout of memory"), "out of"),
    ],
)
def test_errors_of_others_are_a_line_too(name, at, error, line, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(script(name), at, fail)
    assert (train() if name == "cli" else script("evaluate").main(["run"])) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {line}")


@pytest.mark.parametrize("folder", ["/dev/null/run", "a" * 300])
def test_a_worker_says_what_a_restart_would_only_repeat(folder, monkeypatch, capsys):
    assert train("--save-dir", folder) == 1
    monkeypatch.setenv("GLUON_RAN_RANK", "0")
    assert train("--save-dir", folder) == 78
    assert "error: [Errno" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, repeats",
    [
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.EACCES, "Permission denied"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ImportError("mxboard needs protobuf 3.20"), True),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), False),
        (training.RunError("another run"), True),
        (RunLocked("another process"), False),
        (RuntimeError("worker 0 failed"), False),
    ],
)
def test_errors_that_may_pass_are_tried_again(error, repeats):
    assert script("cli")._repeats(error) == repeats


def test_a_folder_without_data_is_an_error_and_makes_no_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert script("cifar10_train").main(["--data-dir", "empty"]) == 1
    assert "empty" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_first_attempt_that_failed_is_not_in_the_way(tmp_path, capsys):
    assert train("--float16") == 1
    assert train("--crop-padding", "-3") == 1
    assert train("--resume") == 1
    assert not (tmp_path / "runs").exists()
    assert train("--lr", "1e30") == 1
    assert "Traceback" in (tmp_path / "runs" / "digits-tiny-digits" / "train.log").read_text()
    assert train() == 0


def test_resume_goes_on_by_the_runs_own_settings_alone(capsys):
    assert train("--save-dir", "run") == 0
    module = script("cifar10_train")
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


@pytest.mark.parametrize(
    "flags, message",
    [
        (["nowhere", "--model", "tiny"], "no run is called nowhere, and there are no weights"),
        (["."], "is not a run directory"),
    ],
)
def test_evaluate_says_what_it_needs(flags, message, capsys):
    assert evaluate(*flags) == 1
    assert message in capsys.readouterr().err


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
