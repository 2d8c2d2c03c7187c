"""Training on streams from the command line: settings, networks, places, evaluation."""

import json

import numpy as np
import pytest
from own_pictures import COUNTS, data_of, evaluate, own_pictures, weights_of  # noqa: F401
from own_streams import COUNT, log_of, packed, rows, train  # noqa: F401
from pictures import fill
from record_files import encode, write
from runs import arrays, assert_equal
from scripts import script

from gluon_ran.data import Normalization, pack_folder
from gluon_ran.training import RunDirectory, find_trained


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--crop-padding", "4"], "--crop-padding: for data sets in memory, not for a stream"),
        (["--cutout", "8", "--fit", "pad"], "--fit, --cutout: for data sets in memory"),
        (["--rotation", "5"], "--rotation: "),
        (["--crop-mode", "zero"], "--crop-mode: "),
        (["--flip", "alternating"], "give random or none"),
        (["--normalization", "channel"], "needs all pictures in memory"),
        (["--least-area", "0"], "Recipe.least_area is 0.0"),
        (["--aspect", "0.5"], "Recipe.aspect is 0.5"),
        (["--jitter", "2"], "Recipe.jitter is 2.0"),
        (["--lighting", "-1"], "Recipe.lighting is -1.0"),
        (["--test-size", "18"], "got 18x18"),
        (
            ["--epochs", "2", "--progressive-sizes", "8:1", "--test-size", "16x24"],
            "the test's of 16x24 have no",
        ),
        (
            ["--epochs", "2", "--progressive-sizes", "12:1", "--test-size", "8"],
            "the test's of 8x8 have no",
        ),
        (["--size", "18"], "got 18x18"),
        (["-b", "29"], "28 records fill no batch of 29"),
        (["--data-dir", "signs"], "holds no pair of RecordIO files"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_makes_no_run(tmp_path, flags, message, capsys):
    assert train(*flags) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flag", ["--test-size", "--least-area", "--aspect", "--jitter", "--lighting"]
)
def test_flags_of_streams_are_refused_for_data_sets_in_memory(flag, capsys):
    assert train(flag, "1", data_dir="signs", name="folder_train") == 1
    assert f"error: {flag}: for a stream alone; leave it out" in capsys.readouterr().err


def test_imagenets_normalisation_is_for_data_sets_in_memory_too(tmp_path):
    flags = ["--normalization", "imagenet", "--save-dir", "run"]
    assert train(*flags, data_dir="signs", name="folder_train") == 0
    assert data_of(tmp_path / "run")["normalization"] == Normalization.imagenet().to_json()


def test_the_folder_is_needed(capsys):
    assert script("imagenet_train").main([]) == 1
    assert "give --data-dir" in capsys.readouterr().err


def test_a_stream_is_a_data_set_of_every_script(tmp_path, capsys):
    flags = ["--dataset", "stream", "--recipe", "gluon", "--save-dir", "run"]
    assert train(*flags, name="folder_train") == 0
    run = RunDirectory.open("run")
    assert run.data["dataset"] == "stream" and run.recipe.name == "gluon"
    assert run.recipe.normalization == "imagenet"
    assert script("folder_train").main(["--resume", "run", "--size", "16"]) == 0
    assert script("folder_train").main(["--resume", "run", "--crop-padding", "4"]) == 1
    assert "not for a stream" in capsys.readouterr().err


def test_the_run_says_what_it_was_trained_on_and_refuses_anything_else(tmp_path, capsys):
    assert train("--test-size", "24", "--save-dir", "run") == 0
    data = data_of(tmp_path / "run")
    assert (data["size"], data["test_size"], data["broken"]) == ([16, 16], [24, 24], "refuse")
    assert data["class_names"] == sorted(COUNTS)
    assert data["train_rec_bytes"] == (tmp_path / "packed" / "own_train.rec").stat().st_size
    assert data["normalization"] == Normalization.imagenet().to_json()
    assert script("imagenet_train").main(["--resume", "run", "--test-size", "24"]) == 0
    capsys.readouterr()
    assert train("--save-dir", "run") == 1
    assert "test_size [24, 24] there, (16, 16) now" in capsys.readouterr().err
    assert train("--save-dir", "run", "--test-size", "24", "--jitter", "0.1") == 1
    assert "jitter 0.4 there, 0.1 now" in capsys.readouterr().err
    fill(tmp_path / "signs", {"blue": 9})
    pack_folder("signs", "packed/own_train.rec")
    assert script("imagenet_train").main(["--resume", "run"]) == 1
    error = capsys.readouterr().err
    assert "train_idx_sha256" in error and "train_rec_bytes" in error


def test_default_places_and_networks_are_those_of_a_stream(tmp_path):
    parser, module = script("imagenet_train").make_parser(), script("make_run")
    for flags, expected in (
        ([], "packed-attention56-imagenet-paper"),
        (["--num-layers", "92", "--test-size", "320"], "packed-attention92-test320-imagenet-paper"),
        (["--size", "64", "--test-size", "64"], "packed-attention56-64-imagenet-paper"),
        (["--model", "cifar_resnet20_v1", "--size", "33"], "packed-cifar_resnet20_v1-33"),
    ):
        args = parser.parse_args(["--data-dir", "packed", *flags])
        spec = module._spec(args, None, "stream")
        recipe = module._recipe(args, None, "stream")
        settings = script("flags").picture_settings(args, "stream", spec, {})
        path = module._default_path(args, "stream", spec, recipe, settings, None)
        assert path.name.startswith(expected)


def test_a_run_is_evaluated_at_any_size(tmp_path, capsys):
    assert train("--save-dir", "run", "--test-size", "24", "--lr", "0.02") == 0
    assert evaluate("run", "--checkpoint", "last", "--out", "a") == 0
    assert evaluate("run", "--checkpoint", "last", "--size", "32", "--out", "b") == 0
    assert evaluate("run", "--split", "train", "--out", "c") == 0
    same, larger, other = (
        json.loads((tmp_path / out / "evaluation.json").read_text()) for out in "abc"
    )
    row = rows(tmp_path / "run")[-1]
    assert (same["top1"], same["top5"], same["size"]) == (
        row["val_top1"],
        row["val_top5"],
        [24, 24],
    )
    assert larger["size"] == [32, 32] and larger["loss"] != same["loss"]
    assert same["count"] == other["count"] == COUNT and other["split"] == "train"
    assert sum(map(sum, same["confusion"])) == COUNT
    capsys.readouterr()
    assert evaluate("run", "--fit", "pad") == 1
    assert "not for a stream" in capsys.readouterr().err


def test_evaluation_shows_the_lowest_of_many_classes(tmp_path, capsys, monkeypatch):
    assert train("--save-dir", "run") == 0
    monkeypatch.setattr(script("evaluate"), "_LISTED", 2)
    monkeypatch.setattr(script("evaluate"), "_WORST", 1)
    capsys.readouterr()
    assert evaluate("run", "--checkpoint", "last") == 0
    out = capsys.readouterr().out
    per_class = json.loads((tmp_path / "run" / "evaluation.json").read_text())["per_class"]
    assert "the 1 lowest of 3 classes (evaluation.json has all):" in out
    (shown,) = [line.split() for line in out.splitlines() if line.split()[0] in per_class]
    assert float(shown[1]) == pytest.approx(100 * min(per_class.values()), abs=0.01)


def test_training_starts_from_weights_with_a_new_classifier(tmp_path, capsys):
    assert train("--save-dir", "first") == 0
    fill(tmp_path / "four", {**COUNTS, "yellow": 8})
    for part in ("train", "val"):
        pack_folder("four", f"packed4/own_{part}.rec")
    flags = ["--weights", "first", "--freeze", "1", "--lr", "0.01", "--save-dir", "run"]
    assert train(*flags, data_dir="packed4") == 0
    assert "made anew: output.weight, output.bias" in log_of(tmp_path / "run")
    first, run = find_trained("first"), find_trained("run")
    assert run.run.recipe.normalization == "weights" and run.spec.classes == 4
    before, behind = (arrays(each.network()) for each in (first, run))
    frozen = {n for n in before if n.startswith(("features.stem.", "features.stages.0."))}
    assert frozen
    assert_equal({n: before[n] for n in frozen}, {n: behind[n] for n in frozen})
    assert any(not np.array_equal(before[n], behind[n]) for n in set(before) - frozen
               if not n.startswith("output"))  # fmt: skip


def test_a_bare_weights_file_is_scored_on_a_stream(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    (tmp_path / "bare.params").write_bytes(weights_of(tmp_path / "run").read_bytes())
    flags = ["bare.params", "--model", "tiny", "--dataset", "stream", "--data-dir", "packed"]
    assert evaluate(*flags, "--size", "16", "--out", "a") == 0
    result = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert result["top1"] == rows(tmp_path / "run")[-1]["val_top1"]
    assert evaluate(*flags, "--normalization", "channel") == 1
    assert "give imagenet" in capsys.readouterr().err
    assert evaluate(*flags[:5]) == 1
    assert "give --data-dir" in capsys.readouterr().err


def test_a_mean_picture_of_weights_is_refused(tmp_path, capsys):
    flags = ["--normalization", "per_pixel", "--save-dir", "first"]
    assert train(*flags, data_dir="signs", name="folder_train") == 0
    assert train("--weights", "first") == 1
    assert "give another (--normalization imagenet)" in capsys.readouterr().err
    assert train("--weights", "first", "--normalization", "imagenet", "--save-dir", "run") == 0


def test_grey_and_large_pictures_are_read(tmp_path):
    """As im2rec leaves them: of any size, and without names of classes; by GluonCV's networks."""
    from PIL import Image

    rng = np.random.default_rng(0)
    records = [
        (
            n % 2,
            encode(Image.fromarray(rng.integers(0, 256, (40 + n, 90, 3), np.uint8)).convert(mode)),
        )
        for n, mode in enumerate(["L", "RGB"] * 6)
    ]
    for part in ("train", "val"):
        write(tmp_path / "other" / f"x_{part}.rec", records)
    assert train("--save-dir", "run", data_dir="other", model="cifar_resnet20_v1") == 0
    assert rows(tmp_path / "run")[-1]["val_top1"] is not None
