"""benchmarks/package_weights.py: a run's last weights in halves, and what their card says."""

import json
import shutil

import numpy as np
import pytest
from benchmark_modules import imported
from runs import arrays, new_run, train
from small import RECIPE, SPEC, data_record, dataset

from gluon_ran.deploy import OptimizeError
from gluon_ran.models import find_pretrained, get_model, read_card
from gluon_ran.models.specs import SPECS
from gluon_ran.training import RunDirectory, find_trained

TRAINED_BY = "python train/x.py --seed 5"


@pytest.fixture
def package(monkeypatch):
    with imported(monkeypatch, "package_weights") as (module,):
        monkeypatch.setattr(module, "load_dataset", lambda name, folder: (dataset(), dataset()))
        monkeypatch.setattr(module, "FORMS", ("float32", "int8"))
        monkeypatch.setattr(module, "FIRST", 9)
        yield module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("run") / "run")
    train(run=run)
    (run.path / "train.log").write_text("2026-01-01 00:00:00 a\n2026-01-01 00:01:30 b\n")
    return run


@pytest.fixture
def served(package, monkeypatch):
    """int8 refuses; float32 gives each picture the wrong class."""

    def form(form, original, card, calibration):
        if form == "int8":
            raise OptimizeError("too far")
        return lambda x: -original(x)

    monkeypatch.setattr(package, "served_form", form)


def main(package, run, name, folder, *more):
    flags = [
        "--trained-by",
        TRAINED_BY,
        "--commit",
        "0a1b",
        "--data",
        "channels",
        "--chosen-by",
        "a guess",
    ]
    flags += ["--out", str(folder)]
    return package.main([str(run.path), name, *flags, *more])


def test_the_last_weights_come_in_halves_with_their_record(package, run, served, tmp_path, capsys):
    assert main(package, run, "mine", tmp_path / "weights") == 0
    card = read_card(find_pretrained("mine", tmp_path / "weights"))
    assert card.spec == SPEC and card.class_names == ("class 0", "class 1", "class 2")
    last = arrays(find_trained(run.path, "last").network())
    written = get_model("mine", pretrained=True, root=tmp_path / "weights")
    for name, array in arrays(written).items():
        np.testing.assert_allclose(array, last[name], rtol=1e-3, atol=1e-7)
    assert {np.dtype(p.dtype) for p in written.collect_params().values()} == {np.dtype("float32")}
    told, rows = card.training, run.metrics()
    assert (told["data"], told["dataset"], told["command"]) == ("channels", "small", TRAINED_BY)
    assert told["recipe"]["seed"] == RECIPE.seed and told["recipe"]["epochs"] == 3
    assert "source" not in told["recipe"] and (told["workers"], told["devices"]) == (1, 1)
    assert told["logged_top1"] == rows[-1]["val_top1"]
    seconds = sum(len(dataset().labels) / row["images_per_second"] for row in rows)
    assert told["seconds"] == pytest.approx(seconds, abs=0.1)
    assert (told["wall_seconds"], told["sittings"], told["chosen_by"]) == (90, 1, "a guess")
    assert told["commit"] == "0a1b" and set(told["packed"]) == {"commit", "date"}
    assert told["machine"]["python"] and told["versions"]["mxnet"] == "1.9.1"
    measured = told["measured"]
    assert measured["pictures"] == 22 and measured["first_pictures"] == 9
    assert measured["top1"] == pytest.approx(rows[-1]["val_top1"], abs=1.5 / 22)
    assert measured["served"]["float32"] < measured["top1"]
    assert measured["refused"] == {"int8": "too far"}
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == measured


def test_flipping_and_the_first_pictures_are_measured_apart(package, run, monkeypatch):
    """By a network that sees the left half alone, which is black in the second six of twelve."""
    monkeypatch.setattr(package, "FORMS", ())
    data = dataset(12, size=4)
    data.images[:6, :, 2:] = 0
    data.images[6:, :, :2] = 0

    class LeftHalf:
        def hybridize(self, **kwargs):
            pass

        def __call__(self, x):
            return x[:, :, :, :2].sum(axis=(2, 3))

    card = find_trained(run.path).card
    found = package.measure(LeftHalf(), card, data, data)
    # What is black is taken for class 0, which pictures 6 and 9 are.
    assert (found["first_right"], found["first_pictures"]) == (6 + 1, 9)
    assert found["top1"] == pytest.approx((6 + 2) / 12) and found["top1_flip"] == 1


@pytest.mark.parametrize(
    "other, message",
    [
        ({"labels_sha256": "0a"}, "22 training and 22 test pictures are not those that"),
        # Its labels are those of the two parts of the training set.
        ({"labels_sha256": "0a", "hold_out": 5}, "was trained with --hold-out: train on all"),
    ],
)
def test_other_pictures_than_the_runs_are_refused(package, run, tmp_path, capsys, other, message):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    told = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps({**told, **other}))
    assert main(package, RunDirectory.open(copy), "mine", tmp_path / "weights") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()


def test_a_name_of_another_network_is_refused(package, run, served, tmp_path, capsys):
    assert main(package, run, "cifar_attention56_thin", tmp_path / "weights") == 1
    assert "are of another network than the one asked for" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()


def test_the_name_of_the_network_itself_is_taken(package, run, served, tmp_path, monkeypatch):
    monkeypatch.setitem(SPECS, "small", SPEC)
    assert main(package, run, "small", tmp_path) == 0
    assert get_model("small", pretrained=True, root=tmp_path).spec == SPEC


def test_weights_that_are_there_stay_unless_forced(package, run, served, tmp_path, capsys):
    (tmp_path / "mine.json").write_text("there")
    assert main(package, run, "mine", tmp_path) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(package, run, "mine", tmp_path, "--force") == 0


def test_a_run_that_has_not_finished_is_refused(package, run, tmp_path, capsys):
    half = RunDirectory.start(tmp_path / "half", SPEC, RECIPE, data_record())
    assert main(package, half, "mine", tmp_path) == 1
    assert "has 0 of 3 epochs" in capsys.readouterr().err


def test_weights_of_an_earlier_epoch_are_refused(package, run, tmp_path, capsys):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "epoch-0003.json").unlink()
    assert main(package, RunDirectory.open(tmp_path / "run"), "mine", tmp_path) == 1
    assert "lacks its last epoch's weights" in capsys.readouterr().err
