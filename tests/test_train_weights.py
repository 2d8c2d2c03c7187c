"""Training from trained weights, and scoring them, from the command line."""

import json

import numpy as np
import pytest
from foreign_cases import haoxintong
from own_pictures import COUNTS, data_of, evaluate, own_pictures, train, weights_of  # noqa: F401
from pictures import fill
from scripts import saved_files, script

from gluon_ran.models import Card, build, change_spec, find_spec, save_with_card
from gluon_ran.models.convert.__main__ import main as convert
from gluon_ran.training import RunDirectory, find_trained

import mxnet as mx


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
    before = saved_files(tmp_path / "run")
    assert train(*flags) == 0
    (tmp_path / "w.params").rename(tmp_path / "other.params")
    capsys.readouterr()
    assert train(*flags) == 1
    assert "goes on without them by --resume RUN" in capsys.readouterr().err
    assert script("folder_train").main(["--resume", "run"]) == 0
    assert saved_files(tmp_path / "run") == before
    capsys.readouterr()
    assert train("--save-dir", "run") == 1
    assert "None now" in capsys.readouterr().err
    assert train("--save-dir", "run", "--weights", "other.params") == 1
    assert "weights w.params sha256 " in capsys.readouterr().err
    arrays = mx.nd.load("other.params")
    mx.nd.save("w.params", {name: array + 1 for name, array in arrays.items()})
    assert train(*flags) == 1
    assert "holds another run (weights" in capsys.readouterr().err


def test_weights_bring_their_network_and_normalisation_along(tmp_path, capsys, monkeypatch):
    """From a run, from a checkpoint in it, and by the name of a card; not from a bare file."""
    monkeypatch.setenv("GLUON_RAN_WEIGHTS", str(tmp_path))
    assert train("--save-dir", "first", "--learning", "naive", "--epochs", "2") == 0
    fill(tmp_path / "four", {**COUNTS, "yellow": 8})
    weights, first = weights_of(tmp_path / "first"), RunDirectory.open("first")
    card = Card(first.spec, first.normalization, ("a", "b", "c"))
    save_with_card(mx.nd.load(str(weights)), card, tmp_path / "carded.params")
    for number, source in enumerate(("first", str(weights), "carded")):
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


def test_weights_bring_the_size_and_fit_of_their_pictures_along(tmp_path, capsys, monkeypatch):
    """And so a mean picture of that size fits."""
    assert train("--save-dir", "first", "--fit", "pad", "--normalization", "per_pixel") == 0
    flags = ["--data-dir", "signs", "--epochs", "1", "-b", "8", "--warmup-epochs", "0"]
    main = script("folder_train").main
    assert main([*flags, "--weights", "first", "--save-dir", "run"]) == 0
    data = data_of(tmp_path / "run")
    assert (data["size"], data["fit"]) == ([16, 16], "pad")
    trained = find_trained("first")
    save_with_card(trained.network(), trained.card, "carded.params")
    monkeypatch.setenv("GLUON_RAN_WEIGHTS", str(tmp_path))
    assert evaluate("carded", "--data-dir", "signs", "--out", "a") == 0
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
    module = script("sources")
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
        (["nowhere"], "there are no weights for 'nowhere'"),
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
