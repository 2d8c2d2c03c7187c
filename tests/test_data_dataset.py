"""The Dataset, the catalog and the digits."""

import sys

import numpy as np
import pytest

from gluon_ran.data import (
    DATASETS,
    DataError,
    Dataset,
    class_counts,
    describe_classes,
    describe_imbalance,
    load_dataset,
)

IMAGES = np.zeros((3, 4, 5, 3), np.uint8)
LABELS = np.array([0, 1, 1], np.int32)
NAMES = ("a", "b")


def test_dataset_knows_its_sizes():
    dataset = Dataset(IMAGES, LABELS, NAMES)
    assert (len(dataset), dataset.num_classes) == (3, 2)
    assert dataset.subset(np.array([2, 0])).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "uint8"),
        (IMAGES[..., :1], LABELS, "N, H, W, 3"),
        (IMAGES[:0], LABELS[:0], "no pictures"),
        (IMAGES, LABELS[:2], "one a picture"),
        (IMAGES, LABELS.astype(np.int64), "int32"),
        (IMAGES, LABELS + 1, "label 2 of picture 1"),
        (IMAGES, LABELS - 1, "label -1 of picture 0"),
    ],
)
def test_dataset_refuses_what_does_not_fit(images, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset(images, labels, NAMES)


def test_unknown_name_lists_the_choices():
    with pytest.raises(DataError, match="cifar10, cifar100, digits"):
        load_dataset("mnist")
    assert DATASETS == ("cifar10", "cifar100", "digits", "folder", "records")


def with_counts(*counts):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    return Dataset(images, labels, tuple(f"c{n}" for n in range(len(counts))))


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((4, 4, 4), "12 pictures of 3 classes, 4 of each"),
        ((4, 0, 2), "6 pictures of 3 classes: c0 4, c1 0, c2 2"),
        (
            (*range(5, 15), 2),
            "97 pictures of 11 classes: least 2 (c10), median 9, most 14 (c9)",
        ),
        ((3, *[2] * 6, *[1] * 5), "20 pictures of 12 classes: least 1 (c7), median 2, most 3 (c0)"),
    ],
)
def test_classes_are_described_in_one_line(counts, text):
    dataset = with_counts(*counts)
    assert class_counts(dataset).tolist() == list(counts)
    assert describe_classes(dataset) == text


def test_imbalance_above_ten_to_one_is_told():
    assert describe_imbalance(with_counts(10, 1)) is None
    assert "11 pictures of c1 against 1 of c0" in describe_imbalance(with_counts(1, 11))
    assert "1 pictures of c0 against 0 of c1" in describe_imbalance(with_counts(1, 0))


@pytest.mark.parametrize("settings", [{"size": 64}, {"fit": "pad"}, {"broken": "skip"}])
def test_settings_of_other_data_sets_are_refused(settings):
    with pytest.raises(DataError, match="'digits' are 32x32 and taken as they are"):
        load_dataset("digits", **settings)


@pytest.mark.parametrize("name", ["folder", "records"])
def test_pictures_of_your_own_need_a_folder_and_a_size(name, tmp_path):
    for settings in ({}, {"data_dir": tmp_path}, {"size": 8}):
        with pytest.raises(DataError, match="give their folder and a size"):
            load_dataset(name, **settings)


def test_digits_split_is_fixed_and_stratified():
    pytest.importorskip("sklearn")
    train, test = load_dataset("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == test.images.shape[1:] == (32, 32, 3)
    ratio = np.bincount(test.labels) / np.bincount(np.r_[train.labels, test.labels])
    assert np.abs(ratio - 0.2).max() < 0.01
    pictures = {picture.tobytes() for picture in train.images}
    assert not any(picture.tobytes() in pictures for picture in test.images)


def test_digits_are_the_source_enlarged():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = load_dataset("digits")
    order = np.argsort(source.target, kind="stable")
    assert np.array_equal(test.labels, source.target[np.sort(order[::5])])
    picture = source.images[np.sort(order[::5])[7]] * 255 / 16
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    rows = np.array([[np.interp(x, np.arange(8), row) for x in at] for row in picture])
    whole = np.array([np.interp(at, np.arange(8), column) for column in rows.T]).T
    assert np.abs(whole[..., None] - test.images[7]).max() <= 0.5 + 1e-9
    assert (train.images.min(), train.images.max()) == (0, 255)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        load_dataset("digits")


def test_digits_take_no_folder(tmp_path):
    with pytest.raises(DataError, match="give no folder"):
        load_dataset("digits", tmp_path)
