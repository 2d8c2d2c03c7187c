"""The reader and writer of `.params` files: MXNet as oracle, old versions, 10,000 mutations."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gluon_ran.models.params_file import ParamsFileError, read_params_file, write_params_file

import mxnet as mx

ARRAYS = {
    "features.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.array([1.5, -2.0], dtype=np.float16),
    "double": np.array([[1e300]], dtype=np.float64),
    "bytes": np.array([0, 255], dtype=np.uint8),
    "small": np.array([-128, 127], dtype=np.int8),
    "int": np.array([2**31 - 1], dtype=np.int32),
    "über": np.array([2**62], dtype=np.int64),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "net.params"
    mx.nd.save(str(path), {n: mx.nd.array(a, dtype=a.dtype) for n, a in ARRAYS.items()})
    return path


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


def test_what_mxnet_writes_is_read(path):
    assert_same(read_params_file(path), ARRAYS)


def test_arrays_without_names_are_a_list(tmp_path):
    path = tmp_path / "list.params"
    mx.nd.save(str(path), [mx.nd.ones((2, 1)), mx.nd.zeros(3)])
    one, zero = read_params_file(path)
    assert np.array_equal(one, np.ones((2, 1))) and np.array_equal(zero, np.zeros(3))
    mx.nd.save(str(path), {})
    assert read_params_file(path) == []


def test_what_is_written_is_what_mxnet_writes(path, tmp_path):
    ours = tmp_path / "ours.params"
    write_params_file(ours, ARRAYS)
    assert ours.read_bytes() == path.read_bytes()
    write_params_file(ours, {"across": np.arange(6, dtype=np.float32).reshape(2, 3).T})
    assert mx.nd.load(str(ours))["across"].asnumpy().tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("array", [np.zeros(2, "complex64"), np.zeros((0, 2)), np.float32(1)])
def test_what_no_such_file_can_hold_is_refused_before_any_is_written(tmp_path, array):
    arrays = {"good": np.ones(1, "float32"), "name": np.asarray(array)}
    with pytest.raises(ParamsFileError, match="name is .* can't hold"):
        write_params_file(tmp_path / "x.params", arrays)
    with pytest.raises(ParamsFileError, match="a name begins xxx"):
        write_params_file(tmp_path / "x.params", {"x" * 5000: np.ones(1, "float32")})
    assert not (tmp_path / "x.params").exists()


def test_bfloat16_is_written_as_mxnet_has_it(tmp_path):
    bfloat16 = np.dtype([("bfloat16", np.uint16)])
    arrays = {"a": mx.nd.amp_cast(mx.nd.array([[1, -3.5]]), dtype=bfloat16)}
    write_params_file(tmp_path / "ours.params", arrays)
    mx.nd.save(str(tmp_path / "theirs.params"), arrays)
    ours, theirs = ((tmp_path / f"{who}.params").read_bytes() for who in ("ours", "theirs"))
    assert ours == theirs
    with pytest.raises(ParamsFileError, match="array 0 is bfloat16"):
        read_params_file(tmp_path / "ours.params")


def test_a_full_disk_is_an_error(path):
    """MXNet's writer tells of none where the last bytes alone don't fit."""
    with pytest.raises(OSError, match="No space left"):
        write_params_file(Path("/dev/full"), ARRAYS)


def listed(*arrays, names=(b"a",)):
    text = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays)
    text += struct.pack("<Q", len(names))
    return text + b"".join(struct.pack("<Q", len(name)) + name for name in names)


def array(version, axes=(2, 3), kind=0, numbers=None):
    """An array of float32 as a version of MXNet writes it: 0 before 0.12, 1, 2 since 1.0."""
    numbers = np.arange(6, dtype="<f4").tobytes() if numbers is None else numbers
    head = {0: b"", 1: struct.pack("<I", 0xF993FAC8), 2: struct.pack("<Ii", 0xF993FAC9, 0)}
    width = "I" if version == 0 else "q"
    shape = struct.pack(f"<I{len(axes)}{width}", len(axes), *axes)
    return head[version] + shape + struct.pack("<iii", 1, 0, kind) + numbers


@pytest.mark.parametrize("version", [0, 1, 2])
def test_files_of_every_version_are_read(tmp_path, version):
    path = tmp_path / "old.params"
    path.write_bytes(listed(array(version)))
    expected = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert_same(read_params_file(path), expected)
    assert {n: a.asnumpy().tolist() for n, a in mx.nd.load(str(path)).items()} == {
        n: a.tolist() for n, a in expected.items()
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends within the beginning"),
        (b"PK\x03\x04" * 9, "does not begin as such a file does"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "more than 100000"),
        (listed(array(2, axes=(2**40, 2**40))), "ends within array 0"),
        (listed(array(2, axes=(-1, 6))), r"array 0 has the shape .-1, 6"),
        (listed(array(2, axes=())), "array 0 has no shape"),
        (listed(array(2, axes=(1,) * 40)), "array 0 has 40 axes"),
        (listed(array(2, kind=12)), "array 0 is bfloat16"),
        (listed(array(2, kind=99)), "unknown data type, 99"),
        (listed(struct.pack("<Ii", 0xF993FAC9, 1) + bytes(99)), "array 0 is sparse"),
        (listed(array(2), names=(b"\xff",)), "name 0 is no text"),
        (listed(array(2), names=(b"x" * 5000,)), "name 0 has 5000 bytes"),
        (listed(array(2), array(2), names=(b"a", b"a")), "2 arrays and 1 different names"),
        (listed(array(2), array(2), names=(b"a",)), "2 arrays and 1 names"),
        (listed(array(2))[:-17] + struct.pack("<Q", 2**40), "1 arrays and 1099511627776 names"),
        (listed(array(2)) + b"more", "4 bytes behind its end"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = tmp_path / "broken.params"
    path.write_bytes(content)
    with pytest.raises(ParamsFileError, match=message):
        read_params_file(path)


def test_a_file_that_is_cut_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ParamsFileError):
            read_params_file(path)


def mutated(content, rng):
    """Some bytes changed, cut out, doubled, or made the greatest number."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place, kind = int(rng.integers(len(content))), rng.integers(5)
        if kind == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            content[place] = int(rng.integers(256))
        elif kind == 2:
            del content[place : place + int(rng.integers(1, 20))]
        elif kind == 3:
            content[place:place] = content[place : place + int(rng.integers(1, 20))]
        else:
            content[place : place + 8] = b"\xff" * 7 + bytes([int(rng.integers(256))])
        if not content:
            return b""
    return bytes(content)


def test_ten_thousand_mutations_are_refused_or_read_and_take_no_memory(path):
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    tracemalloc.start()
    try:
        for _ in range(10_000):
            path.write_bytes(mutated(whole, rng))
            try:
                read_params_file(path)
            except ParamsFileError:
                refused += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 5_000 < refused < 10_000
    assert peak < 1 << 20
