"""Pairs of RecordIO files of one's own: names, classes, sizes and damage."""

import logging

import numpy as np
import pytest
from pictures import fill, picture
from record_files import NAMES, encode, write

from gluon_ran import _runtime  # noqa: F401
from gluon_ran.data import (
    DataError,
    find_dataset,
    kind_of,
    load_dataset,
    load_record_pair,
    loading,
    record_pairs,
)


def records(count):
    """Pictures of different sizes whose class is their brightest channel."""
    return [
        (n % 3, encode(picture(NAMES[n % 3], n, 10 + n, 30 - n), "JPEG" if n % 2 else "PNG"))
        for n in range(count)
    ]


def write_pair(folder, train="own_train", test="own_test", more=()):
    write(folder / f"{train}.rec", [*records(9), *more])
    write(folder / f"{test}.rec", records(6))
    return folder


@pytest.mark.parametrize(
    "names",
    [("own_train", "own_test"), ("own_train", "own_val"), ("train", "val"), ("train", "test")],
)
def test_pairs_are_found_by_their_names(tmp_path, names):
    train, test = load_record_pair(write_pair(tmp_path, *names), 8)
    assert (len(train), len(test)) == (9, 6) and train.class_names == ("0", "1", "2")
    assert train.images.shape == (9, 8, 8, 3)
    for part in (train, test):
        assert np.array_equal(2 - part.images.mean(axis=(1, 2)).argmax(axis=1), part.labels)
    assert kind_of(tmp_path) == "records"


def test_one_of_several_pairs_is_named_by_its_prefix(tmp_path):
    write_pair(tmp_path)
    write_pair(tmp_path, "other_train", "other_val")
    with pytest.raises(DataError, match="several pairs .other_train.rec, own_train.rec"):
        load_record_pair(tmp_path, 8)
    train, _ = load_record_pair(tmp_path / "other", 8)
    assert len(train) == 9
    assert kind_of(tmp_path / "other") == "records"


@pytest.mark.parametrize("name", ["classes.txt", "own_classes.txt"])
def test_classes_are_named_by_a_file_beside(tmp_path, name):
    write_pair(tmp_path)
    (tmp_path / name).write_text("blue\ngreen\r\n\nred\nüber\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 classes .über"):
        load_record_pair(tmp_path, 8)
    (tmp_path / name).write_text("blue\ngreen\nred\n")
    assert load_record_pair(tmp_path, 8)[1].class_names == NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"blue\ngreen\nblue\n", "names blue twice"),
        (b"\n", "is empty"),
        (b"bl\xff\n", "no UTF-8"),
        (b"blue\ngreen\n", "label 2 of picture 2 is outside 0 to 1"),
    ],
)
def test_names_that_do_not_fit_are_errors(tmp_path, text, message):
    write_pair(tmp_path)
    (tmp_path / "classes.txt").write_bytes(text)
    with pytest.raises(DataError, match=message):
        load_record_pair(tmp_path, 8)


@pytest.mark.parametrize(
    ("label", "message"),
    [(5, "classes .3, 4"), (-1, "label -1"), (1e6, "label 1000000 among 10"), (0.5, "no class")],
)
def test_labels_are_checked_without_names_too(tmp_path, label, message):
    write_pair(tmp_path, more=[(label, encode(picture("red", 0)))])
    with pytest.raises(DataError, match=message):
        load_record_pair(tmp_path, 8)


def test_broken_pictures_are_refused_or_left_out_and_named(tmp_path, caplog):
    cut = encode(picture("red", 0), "JPEG")[:-20]
    write_pair(tmp_path, more=[(2, cut), (1, b"text")])
    with pytest.raises(DataError, match=r"2 of 17 pictures are broken.*own_train.rec, record 9"):
        load_record_pair(tmp_path, 8)
    caplog.set_level(logging.WARNING, "gluon_ran")
    train, test = load_record_pair(tmp_path, 8, broken="skip")
    assert (len(train), len(test)) == (9, 6)
    assert "own_train.rec, record 10" in caplog.text and "left out 2" in caplog.text


def test_damage_around_the_pictures_is_an_error_in_either_case(tmp_path):
    write_pair(tmp_path)
    rec = tmp_path / "own_train.rec"
    rec.write_bytes(rec.read_bytes()[:-3])
    with pytest.raises(DataError, match="ends inside it"):
        load_record_pair(tmp_path, 8, broken="skip")


def test_a_folder_without_a_pair_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no pair of RecordIO files"):
        load_record_pair(tmp_path, 8)
    write(tmp_path / "own_train.rec", records(3))
    assert kind_of(tmp_path) == "records"
    with pytest.raises(DataError, match="holds no pair"):
        load_record_pair(tmp_path, 8)


def test_a_folder_and_its_records_give_the_same_pictures(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / "folder" / part, dict.fromkeys(NAMES, 4))
        packed = [
            (label, (tmp_path / "folder" / part / name / f"{number:03d}.png").read_bytes())
            for label, name in enumerate(NAMES)
            for number in range(4)
        ]
        write(tmp_path / f"own_{part}.rec", packed)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    for fit in ("crop", "pad"):
        folder = load_dataset("folder", tmp_path / "folder", size=16, fit=fit)
        packed = load_dataset("records", tmp_path, size=16, fit=fit)
        for a, b in zip(folder, packed):
            assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
            assert a.class_names == b.class_names


def test_one_split_is_read_with_the_classes_of_both(tmp_path):
    both = load_record_pair(write_pair(tmp_path), 8)
    (test,) = load_record_pair(tmp_path, 8, splits=["test"])
    assert np.array_equal(test.images, both[1].images) and test.class_names == both[0].class_names


def test_files_that_do_not_fit_in_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write_pair(tmp_path)
    monkeypatch.setattr(loading, "_available_memory", lambda: 100)
    monkeypatch.setattr(record_pairs, "read_labelled", None)
    with pytest.raises(DataError, match="own_train.rec and .*own_test.rec: to read them takes"):
        load_record_pair(tmp_path, 8)


def test_the_data_set_of_a_folder_is_found(tmp_path):
    assert find_dataset(write_pair(tmp_path / "a")) == "records"
    assert find_dataset(tmp_path / "a" / "own") == "records"
    assert find_dataset(fill(tmp_path / "b", {"blue": 1, "red": 1})) == "folder"
    assert find_dataset(write_pair(tmp_path / "c", "cifar100_train", "cifar100_test")) == "cifar100"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "cifar-10-binary.tar.gz").touch()
    assert find_dataset(tmp_path / "d", classes=100) == "cifar10"
    (tmp_path / "d" / "cifar-100-binary.tar.gz").touch()
    assert find_dataset(tmp_path / "d") == find_dataset(tmp_path / "d", classes=10) == "cifar10"
    assert find_dataset(tmp_path / "d", classes=100) == "cifar100"
    (tmp_path / "e" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "e" / "cifar-10-batches-bin" / "data_batch_1.bin").touch()
    assert find_dataset(tmp_path / "e") == "cifar10", "what lacks is for its loader to say"
    assert find_dataset(tmp_path / "nowhere") == "folder"
