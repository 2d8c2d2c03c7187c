"""Label noise: counts against the paper's transition matrix, on labels made here."""

import numpy as np
import pytest

from gluon_ran.data import DataError, Dataset, noisy_labels, with_label_noise

LABELS = np.repeat(np.arange(10, dtype=np.int32), 5000)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_counts_follow_the_papers_transition_matrix(level):
    noisy = noisy_labels(LABELS, 10, level, seed=3)
    assert noisy.dtype == np.int32
    counts = np.zeros((10, 10))
    np.add.at(counts, (LABELS, noisy), 1)
    expected = np.where(np.eye(10, dtype=bool), 1 - level, level / 9) * 5000
    deviation = np.sqrt(expected * (1 - expected / 5000))
    assert (np.abs(counts - expected) <= 5 * deviation).all()


def test_no_noise_changes_nothing():
    assert (noisy_labels(LABELS, 10, 0, seed=3) == LABELS).all()


def test_the_seed_decides():
    first, same, other = (noisy_labels(LABELS, 10, 0.3, seed) for seed in (1, 1, 2))
    assert (first == same).all()
    changed = (first != LABELS) & (other != LABELS)
    assert changed.mean() == pytest.approx(0.09, abs=0.01)  # as of independent draws


def test_a_higher_level_changes_what_a_lower_one_does_and_more():
    low, high = (noisy_labels(LABELS, 10, level, seed=5) for level in (0.3, 0.7))
    changed = low != LABELS
    assert (high[changed] == low[changed]).all()
    assert (high != LABELS).sum() > changed.sum()


def test_the_pictures_stay_and_the_data_set_is_left_alone():
    pictures = np.zeros((50000, 1, 1, 3), np.uint8)
    clean = Dataset(pictures, LABELS.copy(), tuple("abcdefghij"))
    noisy = with_label_noise(clean, 0.5, seed=0)
    assert noisy.images is clean.images
    assert (clean.labels == LABELS).all() and (noisy.labels != LABELS).any()
    assert with_label_noise(clean, 0, seed=0) is clean


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_levels_out_of_range_are_refused(level):
    with pytest.raises(DataError, match="from 0 to 1"):
        noisy_labels(LABELS, 10, level, seed=0)


def test_a_single_class_has_no_other_to_take():
    with pytest.raises(DataError, match="two classes"):
        noisy_labels(np.zeros(4, np.int32), 1, 0.5, seed=0)
