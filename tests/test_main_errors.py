"""`python -m gluon_ran`: how bad input, signals and closed pipes end it."""

import json
import os
import re
import subprocess
import sys

import pytest
from own_weights import MODEL, own_nets, own_weights  # noqa: F401
from pictures import break_some, picture
from PIL import Image

import gluon_ran
from gluon_ran.commands import command_line, main


def test_broken_pictures_are_named_and_the_others_go_on(capfd, tmp_path):
    broken = break_some(tmp_path / "broken")
    Image.new("1", (20000, 20000)).save("huge.png")
    Image.new("F", (20, 20)).save("float.tiff")
    paths = [*(f"broken/{name}" for name in broken), "huge.png", "float.tiff", "broken", "nothere"]
    picture("red", 1).save("whole.png")
    assert main(["predict", *paths, "whole.png", *MODEL, "--json"]) == 1
    out, err = capfd.readouterr()
    assert err == f"error: {len(paths)} of {len(paths) + 1} pictures could not be read\n"
    for path, row in zip(paths, json.loads(out)["pictures"]):
        assert path in row["error"] and row["picture"] == path and "predictions" not in row
    assert json.loads(out)["pictures"][-1]["predictions"]
    row = next(row for row in json.loads(out)["pictures"] if row["picture"] == "nothere")
    assert main(["predict", "nothere", "whole.png", *MODEL]) == 1
    assert capfd.readouterr().out.startswith(f"nothere\n  not read: {row['error']}\nwhole.png\n  ")


@pytest.mark.parametrize(
    "argv, message",
    [
        ("list cifr_atention*", "no network is called .*; did you mean cifar_attention"),
        ("list zzz", "no network is called 'zzz'; without a pattern all are listed"),
        ("list --root nowhere", "there is no folder of weights at nowhere"),
        ("summary attenton56", "no network, run or .* called attenton56; did you mean attention"),
        ("summary attention56 --root root", "there are no weights for 'attention56' in root"),
        ("summary zzz", "no network, .* called zzz; gluon-ran list shows"),
        ("predict a.png --model a.png", "a.png is no .params file: give one with its card"),
        ("predict a.png --model root/tiny.params --checkpoint last", "root/tiny.params is no run"),
        ("summary attention56 --size 33", "multiples of 32"),
        ("predict a.png --model attention56 --root root", "there are for bare, base, .*, tiny"),
        ("predict a.png --model tini --root root", "did you mean tiny"),
        ("predict a.png --model nowhere.params", "there are no weights at nowhere.params"),
        ("predict a.png --model package", "package is not a run directory"),
        ("predict a.png --model package/lone.params", "has no card beside it, so nothing tells"),
        ("predict a.png --model package/broken.params", "broken.json is no card of weights"),
        ("predict a.png --model root/embedding.params", "gives embeddings, not classes"),
        ("predict a.png --model root/unknown.params", "does not tell how its pictures are norm"),
        ("predict a.png --model root/tiny.params --size 17", "multiples of 2; got 17x17"),
        ("predict a.png --model x --root ftp://x", "address that begins with http"),
        (
            "predict a.png --model x --root http://127.0.0.1:9",
            "x.json could not be downloaded",
        ),
        ("predict a.png --model root/tiny.params --root root", "--root is where a name is looked"),
        ("predict a.png --model root/grey.params", "takes pictures of 1 channels, and files are"),
        ("masks nothere --model root/tiny.params", "nothere can't be read"),
        ("masks a.png", "no run is called cifar_attention56_thin"),
        ("masks a.png --model root/base.params", "cifar_resnet20_v2 has no attention modules"),
        ("masks a.png --model root/plain.params", "tiny has no attention modules"),
        ("masks a.png --model root/tiny.params --channels 16", "have the channels? 16"),
        (
            "masks a.png --model root/tiny.params --out no/m.png",
            "no/m.png: there is no folder no",
        ),
        (
            "masks a.png --model root/tiny.params --arrays no/m.npz",
            "no/m.npz: there is no folder no",
        ),
        ("export --model root/tiny.params --out no/net.onnx", "no/net.onnx can't be written"),
        ("export --model root/tiny.params --out no/net --format symbol", "there is no folder no"),
        (
            "export --model root/tiny.params --out n --format symbol --calibrate a.png package",
            "package has no pictures in it",
        ),
        (
            "export --model root/mean.params --out n --format symbol --size 32",
            r"by a mean picture of \(24, 16\): take that size, not \(32, 32\)",
        ),
        (
            "export --model root/tiny.params --out n --format symbol --calibrate nothere",
            "nothere can't be read",
        ),
        (
            "export --model root/unknown.params --out n --format symbol --calibrate a.png",
            "does not tell how its pictures are norm",
        ),
        ("convert nothere.npz --out x.params", "there is no file nothere.npz"),
    ],
)
def test_bad_input_is_an_error_in_one_line(capfd, argv, message, tmp_path, nets, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts to download
    if "onnx" in argv:
        pytest.importorskip("onnxruntime")
    picture("red", 1).save("a.png")
    (tmp_path / "package").mkdir()
    for name in ("lone", "broken"):
        weights = (nets[1] / "tiny.params").read_bytes()
        (tmp_path / "package" / f"{name}.params").write_bytes(weights)
    (tmp_path / "package" / "broken.json").write_text("{")
    assert main(argv.split()) == 1
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert re.match(f"error: .*{message}", err), err


@pytest.mark.parametrize(
    "argv",
    [
        "", "frobnicate", "predict a.png", "predict --model tiny", "masks --model tiny",
        "predict a.png --model tiny --top 0", "predict a.png --model tiny --top x",
        "summary tiny --size 3x3x3", "summary tiny --size 0",
        "masks a.png --model tiny --out m.jpg", "masks a.png --model tiny --channels 1,",
        "masks a.png --model tiny --arrays m.txt",
        "export --model tiny", "export --model tiny --out x.onnx --precision int8",
        "export --model tiny --out x.onnx --precision bfloat16", "convert theirs.npz",
        "export --model tiny --out x.onnx --format symbol", "export --model tiny --out x.params",
        "export --model tiny --out root/ --format symbol", "export --model tiny --out .",
        "export --model tiny --out x --format symbol --precision int8",
        "export --model tiny --out x.onnx --calibrate a.png",
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_told_from_an_error(capfd, argv):
    with pytest.raises(SystemExit) as caught:
        main(argv.split())
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("usage: ")


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gluon_ran {gluon_ran.__version__}\n"


@pytest.mark.parametrize(
    "error, line",
    [
        (MemoryError(), "not enough memory"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
        (
            RuntimeError("Traceback (most recent call last):\n  File x\nMXNetError: no"),
            "MXNetError: no",
        ),
        (RuntimeError("one\n  and\n\ntwo"), "one and two"),
        (ImportError(), "ImportError"),
    ],
)
def test_errors_of_all_kinds_take_a_line(capfd, monkeypatch, error, line):
    def fail(args):
        raise error

    monkeypatch.setattr(command_line.listing, "run", fail)
    assert main(["list"]) == 1
    assert capfd.readouterr().err == f"error: {line}\n"


def test_ctrl_c_ends_with_130(capfd, monkeypatch):
    monkeypatch.setattr(
        command_line.listing, "run", lambda args: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert main(["list"]) == 130
    assert capfd.readouterr().err == "interrupted\n"


def test_what_is_printed_meanwhile_is_no_result(capfd, monkeypatch):
    run = command_line.listing.run

    def loud(args):
        print("noise")
        return run(args)

    monkeypatch.setattr(command_line.listing, "run", loud)
    assert main(["list", "attention56", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)[0]["name"] == "attention56" and err == "noise\n"


def test_a_process_prints_results_alone_and_imports_what_it_needs(tmp_path):
    picture("red", 1).save("a.png")
    code = (
        "import sys; from gluon_ran.commands import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'matplotlib' in sys.modules)"
    )
    argv = [sys.executable, "-c", code, "predict", "a.png", *MODEL, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "tiny"


def test_a_closed_pipe_ends_it_silently():
    argv = [sys.executable, "-m", "gluon_ran", "list"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(argv, env=buffered, **pipes)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_results_that_can_t_be_printed_are_an_error_in_a_line():
    argv = [sys.executable, "-m", "gluon_ran", "list"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "error: the results can't be printed (No space left on device)\n"
    assert done.returncode == 1


def test_a_process_without_stdout_ends_well():
    argv = ["sh", "-c", 'exec "$0" -m gluon_ran list >&-', sys.executable]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
