"""`python -m gluon_ran`: what each command prints and writes."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from foreign_cases import tengshaofeng
from own_weights import MODEL, NAMES, NORMALIZATION, own_nets, own_weights  # noqa: F401
from pictures import fill, picture
from PIL import Image
from runs import new_run, train

from gluon_ran.commands import export, main
from gluon_ran.data.pictures import fit_picture
from gluon_ran.models import list_baselines, list_models, read_card, summary
from gluon_ran.models.convert.__main__ import main as old_convert
from gluon_ran.training.precision import cpu_has_bfloat16

import mxnet as mx


def output(capfd, *argv, code=0):
    """What a command printed to stdout; other than promised it failed."""
    assert main(list(argv)) == code
    return capfd.readouterr().out


def as_json(capfd, *argv, code=0):
    return json.loads(output(capfd, *argv, "--json", code=code))


def test_list_names_all_networks_and_weights(capfd):
    lines = output(capfd, "list", "--root", "root").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        *list_models(), *list_baselines(), "bare", "base", "embedding", "grey",
        "mean", "plain", "tiny", "unknown",
    ]  # fmt: skip
    assert lines[-2].endswith("93.12 % on channels") and lines[-1].endswith("yes")
    assert len(output(capfd, "list").splitlines()) == 1 + len(list_models() + list_baselines())


def test_list_takes_a_pattern_and_gives_json(capfd):
    rows = as_json(capfd, "list", "cifar_attention92*")
    assert [row["name"] for row in rows] == ["cifar_attention92", "cifar_attention92_thin"]
    assert rows[0]["depth"] == 92 and rows[0]["modules"] == [1, 2, 3, 0] and not rows[0]["weights"]
    (row,) = as_json(capfd, "list", "t*", "--pretrained", "--root", "root")
    assert (row["weights"], row["top1"]) == ("root/tiny.params", 0.9312)


def test_list_names_damaged_weights_and_lists_the_rest(capfd, nets, tmp_path):
    for name in ("tiny", "bare"):
        for suffix in (".params", ".json"):
            (tmp_path / f"{name}{suffix}").write_bytes((nets[1] / f"{name}{suffix}").read_bytes())
    (tmp_path / "bare.params").write_bytes(b"cut")
    assert main(["list", "--pretrained", "--root", ".", "--json"]) == 1
    out, err = capfd.readouterr()
    assert [row["name"] for row in json.loads(out)] == ["tiny"]
    assert "bare.json is the card of other weights" in err


def test_a_stale_variable_hides_no_networks(capfd, monkeypatch):
    monkeypatch.setenv("GLUON_RAN_WEIGHTS", "gone")
    assert main(["list", "attention56"]) == 1
    out, err = capfd.readouterr()
    assert out.splitlines()[1].startswith("attention56 ")
    assert (
        err == "error: GLUON_RAN_WEIGHTS: there is no folder of weights at gone: check the path\n"
    )
    assert main(["list", "--pretrained"]) == 1
    assert not capfd.readouterr().out


def test_summary_is_the_librarys(capfd):
    expected = summary("cifar_attention56_thin", (40, 32), verbose=False)
    argv = ["summary", "cifar_attention56_thin", "--size", "40x32"]
    assert output(capfd, *argv) == f"{expected}\n"
    assert as_json(capfd, *argv) == json.loads(json.dumps(asdict(expected)))
    of_weights = as_json(capfd, "summary", "tiny", "--root", "root")
    assert of_weights["input_shape"] == [1, 3, 24, 16]
    assert of_weights == as_json(capfd, "summary", "root/tiny.params")


def probabilities(net, path, size, fit):
    with Image.open(path) as image:
        x = NORMALIZATION(fit_picture(image.convert("RGB"), size, fit)[None])
    return mx.nd.softmax(net(mx.nd.array(x))).asnumpy()[0]


def test_predict_gives_the_networks_probabilities(capfd, nets):
    """Of pictures of any format and size, more of them than one batch has."""
    paths = []
    for number in range(17):
        suffix = ("png", "jpg", "gif", "tiff", "webp", "bmp")[number % 6]
        paths.append(f"{number}.{suffix}")
        picture("red", number, 10 + 5 * number, 70 - 3 * number).save(paths[-1])
    for extra, size, fit in (
        ([], (24, 16), "pad"),
        (["--size", "16", "--fit", "crop"], (16, 16), "crop"),
    ):
        given = as_json(capfd, "predict", *paths, *MODEL, *extra, "--top", "3")
        assert (given["size"], given["fit"]) == (list(size), fit)
        assert [row["picture"] for row in given["pictures"]] == paths
        for row in given["pictures"]:
            expected = probabilities(nets[0]["tiny"], row["picture"], size, fit)
            found = row["predictions"]
            assert [p["number"] for p in found] == np.argsort(-expected).tolist()
            assert [p["class"] for p in found] == [NAMES[p["number"]] for p in found]
            np.testing.assert_allclose(
                [p["probability"] for p in found], np.sort(expected)[::-1], rtol=1e-4
            )


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "ICO", "QOI"])
def test_predict_takes_what_pillow_reads(capfd, kind):
    Image.init()
    if kind not in Image.OPEN or kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    picture("red", 1, 32, 32).save("a.x", kind)
    (row,) = as_json(capfd, "predict", "a.x", *MODEL)["pictures"]
    assert row["picture"] == "a.x"


def test_predict_on_a_terminal(capfd):
    picture("red", 1).save("a.png")
    lines = output(capfd, "predict", "a.png", *MODEL).splitlines()
    assert lines[0] == "a.png" and len(lines) == 1 + len(NAMES)
    shares = [float(line.split()[0]) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)
    assert len(output(capfd, "predict", "a.png", *MODEL, "--top", "1").splitlines()) == 2
    assert "class 2" in output(capfd, "predict", "a.png", "--model", "root/bare.params")


def test_masks_are_the_networks(capfd, nets):
    picture("red", 1, 60, 60).save("a.png")
    argv = ["masks", "a.png", *MODEL, "--arrays", "m.npz", "--channels", "0,5"]
    given = as_json(capfd, *argv)
    assert given["written"] == ["masks.png", "m.npz"]
    with Image.open("masks.png") as figure, Image.open("a.png") as image:
        assert figure.format == "PNG"
        x = mx.nd.array(NORMALIZATION(fit_picture(image, (24, 16), "pad")[None]))
    ((before, mask, _),) = nets[0]["tiny"].attention(x)
    arrays = np.load("m.npz")
    np.testing.assert_allclose(arrays["module1_before"], before.asnumpy().mean(axis=1), atol=1e-5)
    channels = mask.asnumpy()[:, [0, 5]]
    np.testing.assert_allclose(arrays["module1_mask_channels"], channels, atol=1e-5)
    (module,) = given["modules"]
    assert module["shape"] == [16, 24, 16]
    assert module["mean"] == pytest.approx(float(mask.mean().asscalar()), rel=1e-4)
    assert "written: masks.png, m.npz" in output(capfd, *argv)
    end, other_end = os.pipe()
    os.write(other_end, Path("a.png").read_bytes())
    os.close(other_end)
    (same,) = as_json(capfd, "masks", f"/dev/fd/{end}", *MODEL)["modules"]
    os.close(end)
    assert same == module


@pytest.mark.filterwarnings("ignore:.*Cannot decide type")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_export_writes_a_symbol_with_the_networks_scores(capfd, nets, precision):
    argv = ["export", *MODEL, "--out", "served", "--format", "symbol", "--precision", precision]
    if precision == "bfloat16" and not cpu_has_bfloat16():
        assert main(argv) == 1
        return
    Path("served-serving.json").write_text("of another network")
    given = as_json(capfd, *argv)
    assert given["written"] == ["served-symbol.json", "served-0000.params", "served-serving.json"]
    assert (given["size"], given["class_names"]) == ([24, 16], list(NAMES))
    beside = json.loads(Path("served-serving.json").read_text(encoding="utf-8"))
    assert beside == {name: given[name] for name in beside}
    assert set(beside) == {"size", "fit", "normalization", "class_names"}
    assert beside["normalization"] == NORMALIZATION.to_json()
    net = mx.gluon.SymbolBlock.imports(given["written"][0], ["data"], given["written"][1])
    x = mx.nd.random.normal(shape=(2, 3, 24, 16))
    expected = nets[0]["tiny"](x).asnumpy()
    difference = np.linalg.norm(net(x).asnumpy() - expected) / np.linalg.norm(expected)
    least, most = (0, 1e-4) if precision == "float32" else (1e-4, 0.05)
    assert least <= difference < most


@pytest.mark.filterwarnings("ignore:.*Cannot decide type")
def test_export_calibrates_int8_by_some_of_the_pictures_that_there_are(capfd, nets, monkeypatch):
    fill(Path("signs"), {"red": 6, "green": 6, "blue": 6})
    Path("signs", "notes.txt").write_text("no picture")
    for name in (".cache", "__MACOSX", "red"):  # what load_folder would not take either
        Path("signs", name).mkdir(exist_ok=True)
        Path("signs", name, "._000.png").write_text("of another system")
    picture("red", 99).save("a.gif")
    taken = []
    optimize = export.optimize

    def watched(net, precision, calibration):
        taken.extend(calibration)
        return optimize(net, precision, calibration, bound=10)

    monkeypatch.setattr(export, "optimize", watched)
    monkeypatch.setattr(export, "CALIBRATION_PICTURES", 10)
    argv = ["export", *MODEL, "--out", "eight", "--format", "symbol", "--precision", "int8"]
    given = as_json(capfd, *argv, "--calibrate", "signs", "a.gif")
    assert [batch.shape for batch in taken] == [(10, 3, 24, 16)]
    paths = [*sorted(Path("signs").glob("*/0*.png")), Path("a.gif")]
    for row, path in zip(taken[0], [paths[i] for i in range(0, 19, 2)]):
        with Image.open(path) as image:
            seen = fit_picture(image.convert("RGB"), (24, 16), "pad")
        np.testing.assert_array_equal(row, NORMALIZATION(seen[None])[0])
    assert "quantize" in Path(given["written"][0]).read_text()
    net = mx.gluon.SymbolBlock.imports(given["written"][0], ["data"], given["written"][1])
    assert net(mx.nd.array(taken[0])).shape == (10, 3)


def test_export_writes_onnx(capfd, nets):
    onnxruntime = pytest.importorskip("onnxruntime")
    text = output(capfd, "export", *MODEL, "--out", "net.onnx", "--size", "32")
    assert text == "tiny for 32x32 pictures\nwritten: net.onnx\n"
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[2:] == [32, 32]
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(NAMES)


def test_export_without_onnx_says_what_to_install(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", *MODEL, "--out", "net.onnx"]) == 1
    assert "pip install 'gluon_ran[onnx]'" in capfd.readouterr().err


def test_convert_is_the_old_command(capfd):
    np.savez("theirs.npz", **tengshaofeng()[2])
    assert old_convert(["theirs.npz", "--out", "old.params"]) == 0
    old = capfd.readouterr().out
    assert output(capfd, "convert", "theirs.npz", "--out", "new.params") == old.replace(
        "old", "new"
    )
    for suffix in (".params", ".json"):
        assert Path(f"old{suffix}").read_bytes() == Path(f"new{suffix}").read_bytes()
    given = as_json(capfd, "convert", "theirs.npz", "--out", "new.params", "--force")
    assert given["model"] == read_card("new.params").spec.name
    assert given["written"] == ["new.params", "new.json"]


def test_summary_of_a_name_is_that_of_the_network_whatever_lies_here(capfd, tmp_path):
    (tmp_path / "attention56").mkdir()
    assert as_json(capfd, "summary", "attention56")["parameters"] > 31e6


def test_a_mistyped_name_of_a_network_with_weights_is_answered_with_it_once(capfd, tmp_path):
    folder = tmp_path / "named"
    folder.mkdir()
    for suffix in (".params", ".json"):
        (folder / f"cifar_attention56{suffix}").write_bytes(Path(f"root/tiny{suffix}").read_bytes())
    assert main(["summary", "cifar_attenton56", "--root", "named"]) == 1
    assert capfd.readouterr().err.count("cifar_attention56 ") == 1


def test_a_run_without_a_best_checkpoint_has_a_last_one(capfd, tmp_path):
    """As of one that was scored on no test, or never yet at the pictures' own size."""
    new_run(tmp_path / "begun")
    assert as_json(capfd, "summary", "begun")["parameters"]
    train(run=new_run(tmp_path / "run"), validation=None)
    picture("red", 1).save("a.png")
    assert main(["predict", "a.png", "--model", "run"]) == 1
    assert "has no best checkpoint yet" in capfd.readouterr().err
    found = as_json(capfd, "predict", "a.png", "--model", "run", "--checkpoint", "last")
    assert len(found["pictures"][0]["predictions"]) == 3
    assert as_json(capfd, "summary", "run")["parameters"]
