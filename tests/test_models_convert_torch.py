"""PyTorch's own files. They need PyTorch, which the project does without."""

import pytest
from foreign_cases import TOLERANCE, difference, tengshaofeng

from gluon_ran.models.convert import ConversionError, convert, load_foreign

torch = pytest.importorskip("torch", minversion="2.6")


def state_dict():
    return {name: torch.from_numpy(array) for name, array in tengshaofeng()[2].items()}


def assert_read(path):
    x, scores, _ = tengshaofeng()
    assert difference(load_foreign(path)(x), scores) < TOLERANCE


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts(suffix, zipped, tmp_path):
    path = tmp_path / f"theirs{suffix}"
    torch.save(state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert_read(path)


def test_a_checkpoint_of_a_data_parallel_network(tmp_path):
    path = tmp_path / "theirs.pth"
    state = {f"module.{name}": tensor for name, tensor in state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    assert_read(path)


def test_parameters_and_other_kinds_of_numbers(tmp_path):
    path = tmp_path / "theirs.pth"
    state = state_dict()
    state["fc.bias"] = torch.nn.Parameter(state["fc.bias"])
    state["fc.weight"] = state["fc.weight"].double()
    state["mpool2.0.weight"] = state["mpool2.0.weight"].bfloat16()
    torch.save(state, path)
    conversion = convert(path)
    assert {array.dtype.name for array in conversion.arrays.values()} == {"float32"}


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["alone", "beside the weights"])
def test_a_pickle_that_would_run_code_is_refused(where, zipped, tmp_path):
    path, mark = tmp_path / "theirs.pkl", tmp_path / "harm"
    state = Harm(mark) if where == "alone" else {**state_dict(), "fc.bias": Harm(mark)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConversionError, match=r"more than tensors.*, .*open.*state_dict\(\)"):
        convert(path)
    assert not mark.exists()


def test_a_whole_module_is_refused(tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ConversionError, match=r"more than tensors, torch.nn.modules.linear.Linear"):
        convert(path)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"PK\x03\x04nonsense"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "theirs.pth"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="theirs.pth"):
        convert(path)


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save(state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ConversionError, match="not a whole checkpoint"):
        convert(path)
