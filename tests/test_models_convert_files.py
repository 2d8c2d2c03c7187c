import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from foreign_cases import TOLERANCE, difference, haoxintong, tengshaofeng

from gluon_ran.models import ResidualAttentionNet, card, read_card
from gluon_ran.models.convert import (
    ConversionError,
    convert,
    load_converted,
    load_foreign,
    save_converted,
)
from gluon_ran.models.convert.__main__ import main
from gluon_ran.models.weights import WeightsError

from mxnet import nd


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "theirs.params"
    nd.save(str(path), {name: nd.array(a) for name, a in haoxintong()[2].items()})
    return path


def same_scores(net, case=haoxintong):
    x, scores, _ = case()
    return difference(net(x), scores) < TOLERANCE


def test_params_files(params, tmp_path):
    assert same_scores(load_foreign(params))
    prefixed = tmp_path / "prefixed.params"
    arrays = {name: nd.array(a) for name, a in haoxintong()[2].items()}
    kinds = {name: "aux:" if "running" in name else "arg:" for name in arrays}
    nd.save(str(prefixed), {kinds[name] + name: array for name, array in arrays.items()})
    assert same_scores(load_foreign(prefixed))


def test_a_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "theirs.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(1000))
    whole = path.read_bytes()
    for position in range(60, len(whole) - 200, 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        unreadable(path, "is not an .npz of plain arrays")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_npz_files(prefix, tmp_path):
    path = tmp_path / "theirs.npz"
    np.savez(path, **{prefix + name: array for name, array in tengshaofeng()[2].items()})
    assert same_scores(load_foreign(path), tengshaofeng)


def unreadable(path, *parts):
    with pytest.raises(ConversionError) as error:
        convert(path)
    message = str(error.value)
    assert all(part in message for part in (str(path), *parts)), message


def test_files_that_are_none(tmp_path):
    unreadable(tmp_path / "net.params", "check the path")
    unreadable(tmp_path / "net.h5", ".params", ".npz", ".pth")
    for name in ("net.params", "net.npz"):
        (tmp_path / name).write_bytes(b"nonsense" * 100)
        unreadable(tmp_path / name, "is not a" if name == "net.npz" else "can't be read")
    nd.save(str(tmp_path / "list.params"), [nd.zeros(3)])
    unreadable(tmp_path / "list.params", "no named arrays")
    np.savez(tmp_path / "words.npz", a=np.array(["b"]))
    unreadable(tmp_path / "words.npz", "a holds <U1")
    np.savez(tmp_path / "none.npz")
    unreadable(tmp_path / "none.npz", "no named arrays")


def test_a_cut_file_is_refused(params):
    params.write_bytes(params.read_bytes()[:-1000])
    unreadable(params, "can't be read as MXNet parameters")


def test_a_pickled_npz_is_not_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").write_text, ("done",))

    np.savez(tmp_path / "net.npz", a=np.array([Harm()], dtype=object))
    unreadable(tmp_path / "net.npz", "plain arrays")
    assert not (tmp_path / "harm").exists()


class FakeTorch(SimpleNamespace):
    """As much of PyTorch as is used; its arrays are its tensors."""

    __version__ = "2.6.0+cpu"
    bfloat16 = "bfloat16"

    def load(self, path, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        return self.state

    @staticmethod
    def is_tensor(value):
        return isinstance(value, FakeTensor)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Writes a file that PyTorch, which the tests do without, loads as what it is given."""
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"")

    def write(state, **attributes):
        torch = FakeTorch(state=state, **attributes)
        monkeypatch.setitem(sys.modules, "torch", torch)
        return path

    return write


class FakeTensor(SimpleNamespace):
    def detach(self):
        return self

    def numpy(self):
        if self.dtype != "float32":
            raise TypeError(f"{self.dtype} is not NumPy's")
        return self.array

    def float(self):
        return FakeTensor(array=self.array, dtype="float32")


def tensors(prefix=""):
    arrays = tengshaofeng()[2].items()
    return {prefix + name: FakeTensor(array=array, dtype="float32") for name, array in arrays}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda: tensors(),
        lambda: tensors("module."),
        lambda: {"state_dict": tensors("module."), "epoch": 3},
        lambda: {"model": tensors()},
    ],
    ids=["bare", "parallel", "in a checkpoint", "as a model"],
)
def test_pytorch_files(wrapped, checkpoint):
    assert same_scores(load_foreign(checkpoint(wrapped())), tengshaofeng)


def test_bfloat16_is_widened(checkpoint):
    state = tensors()
    state["fc.bias"].dtype = "bfloat16"
    assert same_scores(load_foreign(checkpoint(state)), tengshaofeng)


def test_pytorch_files_that_are_no_state_dict(checkpoint):
    unreadable(checkpoint([1, 2]), "not a state dict")
    unreadable(checkpoint({"epoch": 3}), "not a state dict")
    unreadable(checkpoint({3: FakeTensor(dtype="float32")}), "not a state dict")
    sparse = checkpoint({"fc.bias": FakeTensor(dtype="sparse")})
    unreadable(sparse, ": fc.bias is not a plain array (sparse")


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0+cu117", "2.0"])
def test_an_unsafe_pytorch_is_not_used(version, checkpoint):
    path = checkpoint({}, __version__=version, load=None)
    unreadable(path, "PyTorch 2.6 or later", "numpy.savez('net.npz'", "weights_only=True")


def test_without_pytorch_the_way_around_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "theirs.pkl"
    path.write_bytes(b"")
    unreadable(path, "PyTorch 2.6 or later", "torch.load('theirs.pkl'", ".items()})")


def test_what_is_written_is_the_network_again(params, tmp_path):
    out = tmp_path / "ours.params"
    conversion = convert(params)
    assert save_converted(conversion, out) == tmp_path / "ours.json"
    assert same_scores(load_converted(out))
    net = ResidualAttentionNet(conversion.spec)
    net.load_parameters(str(out))
    assert same_scores(net)
    card = read_card(out)
    assert card.spec == conversion.spec
    assert np.allclose(card.normalization.mean, 255 * np.array([0.485, 0.456, 0.406]))
    assert np.allclose(card.normalization.std, 255 * np.array([0.229, 0.224, 0.225]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.json", "ours.params", params.name]


def test_nothing_is_replaced_unasked(params, tmp_path):
    out = tmp_path / "ours.params"
    conversion = convert(params)
    out.write_text("mine")
    with pytest.raises(WeightsError, match=f"{out} exists already"):
        save_converted(conversion, out)
    assert out.read_text() == "mine"
    with open(out) as before:
        save_converted(conversion, out, force=True)
        assert before.read() == "mine", "the file was written over, not replaced"
    assert same_scores(load_converted(out))
    with pytest.raises(WeightsError, match="does not end in .params"):
        save_converted(conversion, tmp_path / "ours.npz")


def test_a_failed_write_leaves_what_was_there(params, tmp_path, monkeypatch):
    out = tmp_path / "ours.params"
    out.write_text("mine")

    def fail(path, arrays):
        with open(path, "w") as file:
            file.write("half")
        raise OSError("disk full")

    monkeypatch.setattr(card, "write_params_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_converted(convert(params), out, force=True)
    assert out.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.params", params.name]


def test_converted_files_that_do_not_belong_together(params, tmp_path):
    out = tmp_path / "ours.params"
    with pytest.raises(WeightsError, match="there are no weights"):
        load_converted(out)
    with pytest.raises(WeightsError, match="has no card"):
        load_converted(params)
    conversion = convert(params)
    save_converted(replace(conversion, spec=replace(conversion.spec, t=1)), out)
    with pytest.raises(WeightsError, match="does not hold the weights of this network"):
        load_converted(out)
    out.unlink()
    with pytest.raises(WeightsError, match="there are no weights"):
        load_converted(out)


# The command


def test_the_command(params, tmp_path, capsys):
    out = tmp_path / "ours.params"
    assert main([str(params), "--out", str(out), "--check"]) == 0
    printed = capsys.readouterr()
    assert "haoxintong_cifar_attention56: 10 classes" in printed.out
    assert "less (123.675, 116.28, 103.53), over (58.395, 57.12, 57.375)" in printed.out
    assert printed.out.endswith("checked\n")
    assert printed.err == ""
    assert main([str(params), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert main([str(params), "--out", str(out), "--force"]) == 0


def test_the_command_counts_what_it_leaves_out(tmp_path, capsys):
    path = tmp_path / "theirs.npz"
    np.savez(path, **tengshaofeng()[2])
    arguments = [str(path), "--out", str(tmp_path / "ours.params"), "--source", "tengshaofeng"]
    assert main(arguments) == 0
    assert "arrays left out: a count of batches" in capsys.readouterr().out


def test_the_command_takes_fields_of_the_spec(params, tmp_path, capsys):
    settings = ["--set", "dropout=0.5", "--set", "name=theirs"]
    assert main([str(params), "--out", str(tmp_path / "a.params"), *settings]) == 0
    written = read_card(tmp_path / "a.params").spec
    assert (written.dropout, written.name) == (0.5, "theirs")
    for setting, part in (
        ("dropout", "FIELD=VALUE"),
        ("colour=1", "colour"),
        ("stem=round", "stem"),
        ("source=me", "no field 'source' to set"),
        ("path=here", "no field 'path' to set"),
        ("dropout=much", "Spec.dropout is 'much'"),
        ("mask_features=False", "Spec.mask_features is 'False'"),
    ):
        assert main([str(params), "--out", str(tmp_path / "b.params"), "--set", setting]) == 1
        assert part in capsys.readouterr().err
    assert not (tmp_path / "b.params").exists()
    assert main([str(params), "--out", str(tmp_path / "none" / "b.params")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_check_finds_scores_that_are_no_numbers(tmp_path, capsys):
    arrays = dict(haoxintong()[2])
    arrays["output.bias"] = np.full_like(arrays["output.bias"], np.nan)
    path = tmp_path / "theirs.params"
    nd.save(str(path), {name: nd.array(a) for name, a in arrays.items()})
    assert main([str(path), "--out", str(tmp_path / "ours.params"), "--check"]) == 1
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "ours.params").exists()


def test_the_check_compares(params, tmp_path, monkeypatch, capsys):
    write = card.write_params_file
    monkeypatch.setattr(
        card,
        "write_params_file",
        lambda path, arrays: write(path, {k: a + 1 for k, a in arrays.items()}),
    )
    assert main([str(params), "--out", str(tmp_path / "ours.params"), "--check"]) == 1
    assert "is not what was converted" in capsys.readouterr().err
