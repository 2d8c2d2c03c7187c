"""RecordIO files read record by record: against MXNet's reader, and against damage."""

import os
import threading

import numpy as np
import pytest
from record_files import NAMES, some, write

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import DataError, RecordFile
from gluon_ran.data.record_file import PairError, class_files, find_class_names

import mxnet as mx

COUNT = 12


@pytest.fixture
def rec(tmp_path):
    return write(tmp_path / "own_train.rec", some(COUNT))


def edited(rec, change):
    """Its .idx with other lines."""
    idx = rec.with_suffix(".idx")
    idx.write_text("".join(f"{line}\n" for line in change(idx.read_text().splitlines())))


def test_records_are_those_of_mxnets_reader(rec):
    records = RecordFile(rec)
    reader = mx.recordio.MXIndexedRecordIO(str(rec.with_suffix(".idx")), str(rec), "r")
    assert len(records) == COUNT and records.class_names is None
    for number in (5, 0, 11, 5):
        header, encoded = mx.recordio.unpack(reader.read_idx(number))
        assert records.read(number) == (int(header.label), encoded)
    assert records.where(3) == f"{rec}, record 3"
    reader.close()


def test_a_picture_with_the_mark_in_it_comes_back_whole(tmp_path):
    mark = b"\x0a\x23\xd7\xce"
    encoded = [b"abcd" + mark + b"efgh", mark * 3, b"x" * 5]
    records = RecordFile(write(tmp_path / "a.rec", [(0, each) for each in encoded]))
    assert [records.read(n)[1] for n in range(3)] == encoded


def test_the_order_of_the_index_does_not_matter(rec):
    before = [RecordFile(rec).read(n) for n in range(COUNT)]
    edited(rec, lambda lines: lines[::-1])
    assert [RecordFile(rec).read(n) for n in range(COUNT)] == before


def test_threads_read_at_once(rec):
    records, found = RecordFile(rec), []
    expected = [records.read(n) for n in range(COUNT)]

    def read(seed):
        order = np.random.default_rng(seed).permutation(COUNT).tolist() * 20
        found.append(all(records.read(n) == expected[n] for n in order))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_the_file_is_closed_with_the_last_reference(rec):
    def opened():
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return sum(os.path.exists(link) and os.readlink(link) == str(rec) for link in links)

    records = RecordFile(rec)
    assert opened() == 1
    del records
    assert opened() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1] + ["11\t999999"], "no pair"),
        (lambda lines: lines[1:], "no pair"),
        (lambda lines: [], "names no records"),
        (lambda lines: lines + [lines[0].replace("0", "12", 1)], "no pair"),
        (lambda lines: lines + lines[:1], "keys are not unique"),
        (lambda lines: lines + ["12"], "line is cut"),
        (lambda lines: lines + ["x\t4"], "more than pairs of integers"),
    ],
)
def test_an_index_that_does_not_fit_is_an_error(rec, change, message):
    edited(rec, change)
    with pytest.raises(DataError, match=message):
        RecordFile(rec)


def test_a_record_that_the_index_forgets_is_found_when_it_is_passed(rec):
    edited(rec, lambda lines: lines[:4] + lines[5:])
    records = RecordFile(rec)
    assert records.read(2) and records.read(4)
    with pytest.raises(DataError, match=r"record 3: it ends \d+ bytes before the next"):
        records.read(3)


def test_an_index_of_another_file_is_refused_at_once(rec, tmp_path):
    other = write(tmp_path / "other.rec", [(0, bytes(40 + 9 * n)) for n in range(COUNT)])
    rec.with_suffix(".idx").write_bytes(other.with_suffix(".idx").read_bytes())
    with pytest.raises(PairError, match=r"own_train.idx names places in own_train.rec.* no pair"):
        RecordFile(rec)
    edited(write(rec, some(COUNT)), lambda lines: lines[:-2])
    with pytest.raises(PairError, match="record 9: it ends .* no pair"):
        RecordFile(rec)


def test_labels_are_read_without_their_pictures(rec, monkeypatch):
    records = RecordFile(rec)
    assert [records.label(n) for n in range(COUNT)] == list(range(COUNT))
    read = []
    monkeypatch.setattr(os, "pread", lambda file, size, start: read.append(size) or b"")
    with pytest.raises(PairError):  # nothing is there, so it looks at the whole record
        records.label(COUNT - 1)
    assert read[0] < 50 < read[1]


def test_labels_of_short_and_of_split_records_are_read_too(tmp_path):
    mark = b"\x0a\x23\xd7\xce"
    records = RecordFile(write(tmp_path / "a.rec", [(3, b""), (4, mark * 3), (5, b"x")]))
    assert [records.label(n) for n in range(3)] == [3, 4, 5]
    with pytest.raises(DataError, match="record 2: label 5 is outside 0 to 4, .*classes.txt"):
        RecordFile(tmp_path / "a.rec", list("abcde")).label(2)


def test_what_the_disk_refuses_is_no_broken_record(rec, monkeypatch):
    def fails(*_):
        raise OSError(5, "Input/output error")

    records = RecordFile(rec)
    monkeypatch.setattr(os, "pread", fails)
    with pytest.raises(OSError, match=r"record 4 can't be read \(Input/output error\)") as error:
        records.read(4)
    assert not isinstance(error.value, DataError)


def test_missing_and_empty_files_are_errors(rec, tmp_path):
    with pytest.raises(DataError, match="nowhere.rec can't be read"):
        RecordFile(tmp_path / "nowhere.rec")
    rec.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"own_train.idx is missing.*rec2idx"):
        RecordFile(rec)
    (tmp_path / "empty.rec").touch()
    (tmp_path / "empty.idx").write_text("0\t0\n")
    with pytest.raises(DataError, match="in the 0 bytes"):
        RecordFile(tmp_path / "empty.rec")


def test_damage_to_the_framing_names_the_record(rec):
    starts = [int(line.split()[1]) for line in rec.with_suffix(".idx").read_text().splitlines()]
    whole = rec.read_bytes()
    for number in (0, 7):
        for byte in range(8):
            damaged = bytearray(whole)
            damaged[starts[number] + byte] ^= 0x41
            rec.write_bytes(damaged)
            with pytest.raises(DataError, match=f"record {number}: "):
                RecordFile(rec).read(number)
    rec.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="record 11: the file ends inside it"):
        RecordFile(rec).read(11)


@pytest.mark.parametrize(
    ("name", "names_file"),
    [
        ("own_train.rec", "own_classes.txt"),
        ("own_val.rec", "classes.txt"),
        ("train.rec", "classes.txt"),
        ("pictures.rec", "pictures_classes.txt"),
        ("of_mine.rec", "of_mine_classes.txt"),
    ],
)
def test_names_of_classes_lie_beside(tmp_path, name, names_file):
    rec = write(tmp_path / name, [*some(3), (3, b"")])
    assert find_class_names(rec) is None
    (tmp_path / names_file).write_text("\n".join(NAMES))
    assert tmp_path / names_file in class_files(rec)
    records = RecordFile(rec)
    assert records.class_names == NAMES
    assert [records.read(n)[0] for n in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"record 3: label 3 .* outside 0 to 2"):
        records.read(3)


@pytest.mark.parametrize("label", [-1, 0.5])
def test_labels_are_checked_without_names_too(tmp_path, label):
    records = RecordFile(write(tmp_path / "a.rec", [(label, b"")]))
    with pytest.raises(DataError, match=f"record 0: label {label}"):
        records.read(0)
