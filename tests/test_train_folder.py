"""Training on pictures of one's own from the command line, from scratch and from weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
from foreign_cases import haoxintong
from pictures import break_some, fill
from scripts import script
from small import SPEC

from gluon_ran.models import Card, build, change_spec, find_spec, save_with_card
from gluon_ran.models.convert.__main__ import main as convert
from gluon_ran.models.specs import SPECS
from gluon_ran.training import RunDirectory, Trained, find_trained

import mxnet as mx

TINY = replace(SPEC, name="tiny", classes=10)
COUNTS = {"blue": 8, "green": 8, "red": 12}


@pytest.fixture(autouse=True)
def own_pictures(tmp_path, monkeypatch):
    """A working directory with a folder of pictures, signs, and a tiny network."""
    monkeypatch.setitem(SPECS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "signs", COUNTS)


def train(*flags, data_dir="signs", model="tiny", name="folder_train"):
    named = [] if model is None else ["--model", model]
    return script(name).main(
        ["--data-dir", data_dir, *named, "--size", "16", "--epochs", "1", "-b", "8",
         "--warmup-epochs", "0", "--flip", "none", *flags]
    )  # fmt: skip


def evaluate(*flags):
    return script("evaluate").main(list(flags))


def data_of(run):
    return json.loads((run / "data.json").read_text())


def weights_of(run):
    manifest = json.loads((run / "checkpoints" / "last.json").read_text())
    return run / "checkpoints" / manifest["weights"]


def path_of(*flags, name="folder_train"):
    """The default run directory of some flags."""
    module, args = script("make_run"), script(name).make_parser().parse_args(list(flags))
    trained = None if args.weights is None else Trained(args.weights)
    dataset, spec = module._dataset(args), module._spec(args, trained)
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
    before = (run / "checkpoints" / "last.json").read_text()
    capsys.readouterr()
    assert train("--resume", model="cifar_attention56_thin") == 0
    assert f"with --weights {run.relative_to(tmp_path)}" in capsys.readouterr().err
    assert script("folder_train").main(["--resume", str(run)]) == 0
    assert (run / "checkpoints" / "last.json").read_text() == before
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


def test_training_starts_from_weights_with_a_new_classifier(tmp_path, capsys):
    assert train("--save-dir", "first") == 0
    weights = weights_of(tmp_path / "first")
    weights = weights.rename(tmp_path / "first.params")
    fill(tmp_path / "four", {**COUNTS, "yellow": 8})
    again = ["--weights", "first.params", "--freeze", "1", "--lr", "0.01"]
    assert train(*again, data_dir="four") == 0
    assert "made anew: output.weight, output.bias" in capsys.readouterr().err
    run = tmp_path / "runs" / "four-tiny-16-from_first-freeze1-gluon"
    record = data_of(run)
    assert record["weights"].startswith("first.params sha256 ") and record["freeze"] == 1
    assert "frozen: the stem and 1 stages; " in (run / "train.log").read_text()
    old, new = mx.nd.load(str(weights)), mx.nd.load(str(weights_of(run)))
    same = {name: np.array_equal(old[name].asnumpy(), new[name].asnumpy()) for name in old}
    frozen = {name for name in old if name.startswith(("features.stem.", "features.stages.0."))}
    assert frozen and all(same[name] for name in frozen)
    assert sum(not same[name] for name in set(old) - frozen) > len(set(old) - frozen) / 2
    assert new["output.weight"].shape[0] == 4


def test_a_run_from_weights_goes_on_without_their_file(tmp_path, capsys):
    assert train("--save-dir", "first") == 0
    (tmp_path / "w.params").write_bytes(weights_of(tmp_path / "first").read_bytes())
    flags = ["--save-dir", "run", "--weights", "w.params"]
    assert train(*flags) == 0
    before = (tmp_path / "run" / "checkpoints" / "last.json").read_text()
    assert train(*flags) == 0
    (tmp_path / "w.params").rename(tmp_path / "other.params")
    capsys.readouterr()
    assert train(*flags) == 1
    assert "goes on without them by --resume RUN" in capsys.readouterr().err
    assert script("folder_train").main(["--resume", "run"]) == 0
    assert (tmp_path / "run" / "checkpoints" / "last.json").read_text() == before
    capsys.readouterr()
    assert train("--save-dir", "run") == 1
    assert "None now" in capsys.readouterr().err
    assert train("--save-dir", "run", "--weights", "other.params") == 1
    assert "weights w.params sha256 " in capsys.readouterr().err
    arrays = mx.nd.load("other.params")
    mx.nd.save("w.params", {name: array + 1 for name, array in arrays.items()})
    assert train(*flags) == 1
    assert "holds another run (weights" in capsys.readouterr().err


def test_weights_bring_their_network_and_normalisation_along(tmp_path, capsys):
    """From a run, from a checkpoint in it, and from a file with a card; not from a bare file."""
    assert train("--save-dir", "first", "--learning", "naive", "--epochs", "2") == 0
    fill(tmp_path / "four", {**COUNTS, "yellow": 8})
    weights, first = weights_of(tmp_path / "first"), RunDirectory.open("first")
    card = Card(first.spec, first.normalization, ("a", "b", "c"))
    save_with_card(mx.nd.load(str(weights)), card, tmp_path / "carded.params")
    for number, source in enumerate(("first", str(weights), "carded.params")):
        run = f"run{number}"
        assert train("--weights", source, "--save-dir", run, data_dir="four", model=None) == 0
        opened = RunDirectory.open(run)
        assert opened.recipe.normalization == "weights"
        assert opened.data["normalization"] == first.data["normalization"]
        assert (opened.spec.learning, opened.spec.classes) == ("naive", 4)
        assert script("folder_train").main(["--resume", run, "--normalization", "weights"]) == 0
        assert evaluate(run) == 0
    log = (tmp_path / "run0" / "train.log").read_text()
    assert "made anew: output.weight, output.bias" in log

    flags = ["--weights", "first", "--save-dir", "own", "--normalization", "channel"]
    assert train(*flags, data_dir="four") == 0
    own = RunDirectory.open("own")
    assert own.recipe.normalization == "channel"
    assert own.data["normalization"] != first.data["normalization"]

    (tmp_path / "bare.params").write_bytes(weights.read_bytes())
    capsys.readouterr()
    assert train("--weights", "bare.params", data_dir="four", model=None) == 1
    assert "nothing tells which network bare.params is of" in capsys.readouterr().err
    assert train("--weights", "bare.params", "--save-dir", "bare", data_dir="four") == 0
    bare = RunDirectory.open("bare")
    assert (bare.recipe.normalization, bare.spec.learning) == ("channel", "residual")

    capsys.readouterr()
    flags = ["--weights", "bare.params", "--normalization", "weights", "--save-dir", "none"]
    assert train(*flags) == 1
    assert "nothing tells how for bare.params" in capsys.readouterr().err
    assert train("--weights", "first", model="cifar_attention56_thin") == 1
    assert "first holds the weights of tiny, not of cifar_attention56_thin" in (
        capsys.readouterr().err
    )
    assert train("--normalization", "weights") == 1
    assert "there are no --weights" in capsys.readouterr().err


def test_weights_bring_the_size_and_fit_of_their_pictures_along(tmp_path, capsys):
    """And so a mean picture of that size fits."""
    assert train("--save-dir", "first", "--fit", "pad", "--normalization", "per_pixel") == 0
    flags = ["--data-dir", "signs", "--epochs", "1", "-b", "8", "--warmup-epochs", "0"]
    main = script("folder_train").main
    assert main([*flags, "--weights", "first", "--save-dir", "run"]) == 0
    data = data_of(tmp_path / "run")
    assert (data["size"], data["fit"]) == ([16, 16], "pad")
    trained = find_trained("first")
    save_with_card(trained.network(), trained.card, "carded.params")
    assert evaluate("carded.params", "--data-dir", "signs", "--out", "a") == 0
    assert evaluate("first", "--out", "b") == 0
    results = [json.loads((tmp_path / out / "evaluation.json").read_text()) for out in "ab"]
    assert results[0]["loss"] == results[1]["loss"]
    capsys.readouterr()
    assert evaluate("carded.params", "--data-dir", "signs", "--size", "32") == 1
    assert "pictures are 32x32: give --size 16x16\n" in capsys.readouterr().err
    checkpoint = str(weights_of(tmp_path / "first"))
    assert main([*flags, "--weights", checkpoint]) == 0
    assert (tmp_path / "runs" / "signs-tiny-16-pad-from_first-epoch-0001-gluon").is_dir()


def test_weights_that_change_meanwhile_are_not_trained_from(tmp_path, capsys, monkeypatch):
    assert train("--save-dir", "first") == 0
    weights = weights_of(tmp_path / "first").rename(tmp_path / "w.params")
    module = script("make_run")
    load = module.load_dataset

    def changing(*args, **settings):
        arrays = mx.nd.load(str(weights))
        mx.nd.save(str(weights), {name: array + 1 for name, array in arrays.items()})
        return load(*args, **settings)

    monkeypatch.setattr(module, "load_dataset", changing)
    assert train("--weights", "w.params", "--save-dir", "run") == 1
    assert "w.params changed while the pictures were read" in capsys.readouterr().err


def test_a_card_without_normalisation_leaves_it_to_a_flag(tmp_path, capsys):
    assert train("--save-dir", "run", "--normalization", "per_pixel") == 0
    trained = find_trained("run")
    card = Card(trained.spec, size=(16, 16))
    save_with_card(trained.network(), card, "carded.params")
    flags = ["carded.params", "--data-dir", "signs"]
    assert evaluate(*flags, "--normalization", "per_pixel", "--out", "a") == 0
    assert evaluate("run", "--out", "b") == 0
    results = [json.loads((tmp_path / out / "evaluation.json").read_text()) for out in "ab"]
    assert results[0]["loss"] == results[1]["loss"]
    assert evaluate("run", "--normalization", "per_pixel") == 1
    assert "leave out --normalization" in capsys.readouterr().err


def test_evaluation_refuses_what_cannot_be_before_pictures_are_read(tmp_path, capsys):
    assert train("--save-dir", "run") == 0
    net = build(change_spec(find_spec("tiny"), 0))
    net.initialize()
    save_with_card(net, Card(net.spec), "embedding.params")
    checkpoint = weights_of(tmp_path / "run")
    bare = tmp_path / "bare.params"
    bare.write_bytes(checkpoint.read_bytes())
    for flags, message in (
        (["embedding.params", "--data-dir", "nowhere"], "gives embeddings"),
        (["run", "--dataset", "cifar100"], "for 3 classes and cifar100 has 100"),
        ([str(bare), "--model", "cifar_attention56_thin"], "not hold the weights of this network"),
        ([str(checkpoint), "--checkpoint", "last"], "leave out --checkpoint"),
    ):
        assert evaluate(*flags) == 1
        assert message in capsys.readouterr().err
    assert evaluate(str(checkpoint)) == 0
    assert (tmp_path / "run" / "evaluation.json").is_file(), "beside the run, not the checkpoint"


def test_converted_weights_are_trained_from_and_evaluated(tmp_path, capsys):
    """As the README has it, on the earlier Gluon port's arrays."""
    arrays = {name: mx.nd.array(array) for name, array in haoxintong()[2].items()}
    mx.nd.save("theirs.params", arrays)
    assert convert(["theirs.params", "--out", "ours.params"]) == 0
    flags = ["--size", "32", "--weights", "ours.params", "--save-dir", "run"]
    assert train(*flags, model=None) == 0
    run = RunDirectory.open("run")
    assert run.spec.name.startswith("haoxintong") and run.spec.classes == 3
    assert run.data["normalization"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert evaluate("run") == 0
    assert evaluate("ours.params", "--data-dir", "signs") == 1
    assert "trained for 10 classes and folder has 3" in capsys.readouterr().err
    for name in ("black", *"abcdef"):
        fill(tmp_path / "signs", {name: 3})
    assert evaluate("ours.params", "--data-dir", "signs") == 0


def test_a_classifier_of_other_classes_is_told_of(tmp_path, capsys):
    assert train("--save-dir", "first") == 0
    fill(tmp_path / "others", {"left": 8, "right": 8, "stop": 8})
    assert train("--weights", "first", "--save-dir", "same") == 0
    assert "the classifier with them" in (tmp_path / "same" / "train.log").read_text()
    assert "other classes" not in capsys.readouterr().err
    assert train("--weights", "first", "--save-dir", "run", data_dir="others") == 0
    assert "for as many other classes: blue, green, red" in capsys.readouterr().err


def test_a_mean_picture_of_another_size_cannot_be_taken_over(tmp_path, capsys):
    assert train("--save-dir", "first", "--normalization", "per_pixel") == 0
    assert train("--weights", "first", "--save-dir", "run") == 0
    assert train("--weights", "first", "--save-dir", "large", "--size", "32") == 1
    assert "pictures are 32x32: give --size 16x16 or --normalization channel" in (
        capsys.readouterr().err
    )


def test_stages_that_are_not_there_cannot_be_frozen(tmp_path, capsys):
    (tmp_path / "some.params").write_bytes(b"looked at later")
    assert train("--weights", "some.params", "--freeze", "3") == 1
    assert "--freeze 3: tiny has 2 stages" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_network_are_refused_before_pictures_are_read(tmp_path, capsys):
    assert train("--save-dir", "first") == 0
    weights_of(tmp_path / "first").rename(tmp_path / "bare.params")
    assert not (tmp_path / "no" / "pictures").exists()
    for flags in (["--mask", "local_conv"], ["--model", "cifar_attention56_thin"]):
        assert train("--weights", "bare.params", *flags, data_dir="no/pictures") == 1
        assert "does not hold the weights of this network" in capsys.readouterr().err


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
    class Pictures:
        def __init__(self, side):
            self.images = np.empty((1, side, side, 3), np.uint8)

    sizes = [script("cli").evaluation_batch(Pictures(side)) for side in (8, 32, 64, 224)]
    assert sizes == [250, 250, 62, 16]
