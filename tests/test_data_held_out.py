"""The part of the training set that recipes are chosen on, of pictures made here."""

import numpy as np
import pytest

from gluon_ran.data import DataError, Dataset, class_counts, hold_out

COUNTS = (60, 30, 9, 1)


@pytest.fixture
def dataset():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS)).astype(np.int32)
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3), np.uint8)
    return Dataset(images.reshape(100, 1, 1, 3), labels, tuple("abcd"))


def test_both_parts_together_are_the_data_set(dataset):
    parts = hold_out(dataset, 20)
    assert [len(part) for part in parts] == [80, 20]
    numbers = np.concatenate([part.images[:, 0, 0, 0] for part in parts])
    assert sorted(numbers) == list(range(100))
    for part in parts:
        assert (part.labels == dataset.labels[part.images[:, 0, 0, 0]]).all()


def test_classes_have_their_share(dataset):
    assert np.abs(class_counts(hold_out(dataset, 20)[1]) - np.array(COUNTS) / 5).max() <= 1


def test_the_split_is_the_same_each_time_and_a_larger_one_contains_a_smaller(dataset):
    first, again, larger = (set(hold_out(dataset, n)[1].images[:, 0, 0, 0]) for n in (20, 20, 30))
    assert first == again and first < larger


@pytest.mark.parametrize("count", [-1, 0, 100, 101])
def test_empty_parts_are_refused(dataset, count):
    with pytest.raises(DataError, match="can't be held out"):
        hold_out(dataset, count)


def test_parts_in_place_are_the_same_and_take_no_second_memory(dataset):
    expected, images = hold_out(dataset, 20), dataset.images
    found = hold_out(dataset, 20, in_place=True)
    for ours, theirs in zip(found, expected):
        assert np.array_equal(ours.images, theirs.images)
        assert np.array_equal(ours.labels, theirs.labels)
        assert ours.class_names == theirs.class_names
    assert np.shares_memory(found[0].images, images)


def test_pictures_that_cannot_be_written_to_are_copied(dataset):
    expected = hold_out(dataset, 20)
    dataset.images.flags.writeable = False
    for ours, theirs in zip(hold_out(dataset, 20, in_place=True), expected):
        assert np.array_equal(ours.images, theirs.images)
