"""Training on pictures of one's own from the command line: data, settings, networks, places."""

import json

import pytest
from own_pictures import COUNTS, data_of, evaluate, own_pictures, train, weights_of  # noqa: F401
from pictures import break_some, fill
from scripts import saved_files, script

from gluon_ran.training import Trained

import mxnet as mx


def path_of(*flags, name="folder_train"):
    """The default run directory of some flags."""
    module, args = script("make_run"), script(name).make_parser().parse_args(list(flags))
    trained = None if args.weights is None else Trained(args.weights)
    dataset = module._dataset(args)
    spec = module._spec(args, trained, dataset)
    settings = script("flags").picture_settings(args, dataset, spec, {})
    recipe = script("flags").recipe_from(args)
    return module._default_path(args, dataset, spec, recipe, settings, trained).name


def test_a_folder_is_trained_on_gone_on_with_and_evaluated(tmp_path, capsys):
    assert train(model="cifar_attention56_thin") == 0
    run = tmp_path / "runs" / "signs-cifar_attention56_thin-16-gluon"
    log = (run / "train.log").read_text()
    assert "7 of its 28 pictures are for the test" not in log
    assert "6 of its 28 pictures are for the test" in log
    assert "training set: 22 pictures of 3 classes: blue 6, green 6, red 10" in log
    assert "test set: 6 pictures of 3 classes, 2 of each" in log
    data = data_of(run)
    assert (data["dataset"], data["size"], data["fit"]) == ("folder", [16, 16], "crop")
    assert data["class_names"] == ["blue", "green", "red"]
    before = saved_files(run)
    capsys.readouterr()
    assert train("--resume", model="cifar_attention56_thin") == 0
    assert f"with --weights {run.relative_to(tmp_path)}" in capsys.readouterr().err
    assert script("folder_train").main(["--resume", str(run)]) == 0
    assert saved_files(run) == before
    capsys.readouterr()
    assert evaluate(str(run), "--checkpoint", "last") == 0
    assert "top-1" in capsys.readouterr().out
    result = json.loads((run / "evaluation.json").read_text())
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["count"] == 6 and result["top1"] == row["val_top1"]


def pack(folder, *parts):
    """Writes folder / signs as RecordIO files of so many parts to folder / packed."""
    (folder / "packed").mkdir()
    for part in parts:
        stem = folder / "packed" / f"own_{part}"
        writer = mx.recordio.MXIndexedRecordIO(f"{stem}.idx", f"{stem}.rec", "w")
        for number, file in enumerate(sorted((folder / "signs").glob("*/*.png"))):
            header = mx.recordio.IRHeader(0, float(number % 3), number, 0)
            writer.write_idx(number, mx.recordio.pack(header, file.read_bytes()))
        writer.close()


def test_records_are_found_by_what_the_folder_holds(tmp_path):
    pack(tmp_path, "train", "val")
    assert train("--save-dir", "run", "--fit", "pad", data_dir="packed") == 0
    data = data_of(tmp_path / "run")
    assert (data["dataset"], data["fit"], data["class_names"]) == ("records", "pad", list("012"))
    assert evaluate("run") == 0


def test_broken_pictures_are_refused_or_skipped_and_written_to_the_log(tmp_path, capsys):
    break_some(tmp_path / "signs" / "green")
    assert train("--save-dir", "run") == 1
    assert "pictures are broken, the first one: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert train("--save-dir", "run", "--broken", "skip") == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert "cut.png" in log and "left out 5 broken pictures" in log
    assert data_of(tmp_path / "run")["broken"] == "skip"
    assert evaluate("run") == 0
    assert script("folder_train").main(["--resume", "run"]) == 0


def test_imbalance_is_shown(tmp_path, capsys):
    fill(tmp_path / "rare" / "train", {"blue": 1, "red": 11})
    fill(tmp_path / "rare" / "test", {"blue": 1, "red": 1})
    assert train("--save-dir", "run", data_dir="rare") == 0
    assert "11 pictures of red against 1 of blue" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "18"], "multiples of 4; got 18x18"),
        (["--size", "16x18"], "got 16x18"),
        (["--data-dir", "nowhere"], "nowhere does not exist"),
        (["--weights", "none.params"], "there are no weights at none.params"),
        (["--freeze", "1"], "give their --weights"),
        (["--attention", "channel", "--model", "cifar_resnet20_v1"], "attention"),
        (["--unit", "resnext"], "widths"),
        (["--dropout", "1.5"], "dropout"),
        (["--progressive-sizes", "20:1", "--epochs", "2"], "no smaller size 20"),
        (["--progressive-sizes", "6:1", "--epochs", "2"], "multiples of 4; got 6x6"),
        (["--progressive-sizes", "8:1", "--epochs", "2", "--size", "16x24"], "square pictures"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_pictures_are_read(flags, message, capsys):
    assert train(*flags) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]


def test_the_folder_is_needed(capsys):
    assert script("folder_train").main([]) == 1
    assert "give --data-dir" in capsys.readouterr().err
    assert script("cifar10_train").main(["--dataset", "folder"]) == 1
    assert "give --data-dir" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "16x", "x", "1x2x3", "-8", "a"])
def test_sizes_are_a_side_or_two(text, capsys):
    with pytest.raises(SystemExit):
        train(f"--size={text}")
    assert "neither a side in pixels nor HxW" in capsys.readouterr().err


def test_changed_data_or_settings_are_refused(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    for flags, message in (
        (["--size", "8"], "size [16, 16] there, (8, 8) now"),
        (["--fit", "pad"], "fit crop there, pad now"),
        (["--dropout", "0.5"], "dropout 0.0 there, 0.5 now"),
    ):
        assert train("--save-dir", "run", *flags) == 1
        assert message in capsys.readouterr().err
    for flags, named in (
        (["--size", "8"], "--size"),
        (["--fit", "pad"], "--fit"),
        (["--learning", "naive"], "--learning"),
        (["--weights", "a.params"], "--weights"),
        (["--freeze", "1"], "--freeze"),
    ):
        assert script("folder_train").main(["--resume", "run", *flags]) == 1
        assert f"leave out {named}" in capsys.readouterr().err
    same = ["--size", "16", "--lr-steps", "80,120", "--batch-size", "8"]
    assert script("folder_train").main(["--resume", "run", *same]) == 0
    fill(tmp_path / "signs", {"blue": 20})
    capsys.readouterr()
    assert train("--save-dir", "run") == 1
    assert "labels_sha256" in capsys.readouterr().err


def test_a_run_of_before_there_were_sizes_still_opens(tmp_path):
    assert train("--save-dir", "run") == 0
    path = tmp_path / "run" / "data.json"
    data = json.loads(path.read_text())
    for name in ("broken", "weights", "freeze"):
        del data[name]
    path.write_text(json.dumps(data))
    assert evaluate("run") == 0


def test_other_classes_are_not_evaluated(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    fill(tmp_path / "others", {"blue": 2, "green": 2, "yellow": 2})
    assert evaluate("run", "--data-dir", "others") == 1
    assert "class 2 is red in run and yellow in folder" in capsys.readouterr().err
    fill(tmp_path / "more", {**COUNTS, "yellow": 2})
    assert evaluate("run", "--data-dir", "more") == 1
    assert "trained for 3 classes and folder has 4" in capsys.readouterr().err
    fill(tmp_path / "same", {"blue": 3, "green": 3, "red": 3})
    assert evaluate("run", "--data-dir", "same", "--size", "32") == 0
    assert evaluate("run", "--unit", "resnext", "--model", "cifar_attention56") == 1
    assert "leave out --model, --unit" in capsys.readouterr().err
    assert evaluate("run", "--unit", "preactivation", "--model", "tiny") == 0


def test_a_weights_file_is_evaluated_on_what_the_folder_holds(tmp_path, capsys):
    assert train("--save-dir", "run", "--attention", "spatial") == 0
    weights_of(tmp_path / "run").rename(tmp_path / "bare.params")
    flags = ["--data-dir", "signs", "--size", "16", "--out", "a"]
    assert evaluate("bare.params", *flags) == 1
    assert "name it with --model" in capsys.readouterr().err
    assert evaluate("bare.params", *flags, "--model", "tiny", "--attention", "spatial") == 0
    result = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["top1"] == row["val_top1"] and result["dataset"] == "folder"


def test_evaluation_reads_the_split_that_it_scores_alone(tmp_path, capsys):
    fill(tmp_path / "parted" / "train", COUNTS)
    fill(tmp_path / "parted" / "test", COUNTS)
    assert train("--save-dir", "run", data_dir="parted") == 0
    break_some(tmp_path / "parted" / "train" / "red")
    assert evaluate("run") == 0
    assert evaluate("run", "--split", "train") == 1
    assert "are broken" in capsys.readouterr().err


def test_another_data_set_is_read_as_the_runs_was(tmp_path, monkeypatch):
    pack(tmp_path, "train", "val")
    (tmp_path / "packed" / "classes.txt").write_text("\n".join(sorted(COUNTS)))
    assert train("--save-dir", "run", "--fit", "pad", data_dir="packed") == 0
    module, seen = script("evaluate"), {}
    load = module.load_dataset

    def watched(*args, **settings):
        seen.update(settings)
        return load(*args, **settings)

    monkeypatch.setattr(module, "load_dataset", watched)
    assert evaluate("run", "--dataset", "folder", "--data-dir", "signs") == 0
    assert (seen["size"], seen["fit"], seen["splits"]) == ((16, 16), "pad", ["test"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--attention", "channel", "--learning", "naive"],
        ["--mask", "local_conv", "--dropout", "0.2"],
    ],
)
def test_changed_networks_train(tmp_path, flags):
    assert train("--save-dir", "run", *flags) == 0
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    for flag, value in zip(flags[::2], flags[1::2]):
        assert str(spec[flag[2:]]) == value
    assert evaluate("run") == 0


def test_a_baseline_trains(tmp_path):
    assert train("--save-dir", "run", "--size", "18", model="cifar_resnet20_v1") == 0
    assert evaluate("run") == 0
    assert train("--weights", str(weights_of(tmp_path / "run")), "--freeze", "0", "--size", "18",
                 model="cifar_resnet20_v1") == 1  # fmt: skip


def test_runs_that_differ_lie_in_different_places():
    own = ["--data-dir", "signs"]
    assert path_of(*own) == "signs-cifar_attention56-gluon"
    assert path_of(*own, "--size", "32") == "signs-cifar_attention56-gluon"
    assert path_of("--mix-up", "1", name="cifar10_train") == "cifar10-cifar_attention56-gluon-mixup"
    noisy = path_of("--label-noise", "0.3", name="cifar10_train")
    assert noisy == "cifar10-cifar_attention56-label_noise0.3-gluon"
    assert path_of(name="cifar100_train") == "cifar100-cifar_attention56-gluon"
    base = [*own, "--model", "cifar_attention92_thin"]
    changes = [
        [], ["--size", "64"], ["--size", "32x64"], ["--fit", "pad"], ["--dropout", "0.2"],
        ["--attention", "channel"], ["--attention", "spatial"], ["--learning", "naive"],
        ["--mask", "local_conv"], ["--unit", "resnext"], ["--weights", "a.params"],
        ["--weights", "a.params", "--freeze", "2"], ["--recipe", "short"], ["--mix-up", "1"],
    ]  # fmt: skip
    assert len({path_of(*base, *change) for change in changes}) == len(changes)
    assert path_of(*base, "--attention", "mixed", "--fit", "crop") == path_of(*base)
    name = path_of(*base, "--unit", "resnext", "--size", "32x64", "--fit", "squash")
    assert name == "signs-cifar_attention92_thin-resnext-32x64-squash-gluon"


def test_pictures_of_large_size_are_evaluated_in_small_batches():
    sizes = [script("sources").evaluation_batch((side, side)) for side in (8, 32, 64, 224)]
    assert sizes == [250, 250, 62, 16]
