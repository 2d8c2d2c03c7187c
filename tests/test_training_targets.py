import numpy as np
import pytest

from gluon_ran.training import get_recipe
from gluon_ran.training.targets import mixup, mixup_lam, soft_targets


def test_targets_without_smoothing_are_one_hot():
    assert np.array_equal(soft_targets(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_smoothing_spreads_its_share_evenly():
    targets = soft_targets(np.array([1, 3]), 4, epsilon=0.2)
    assert targets.dtype == np.float32
    assert targets == pytest.approx(np.array([[0.05, 0.85, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]]))
    assert targets.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_of_another_network_are_refused(labels):
    with pytest.raises(ValueError, match="do not fit a network of 3 classes"):
        soft_targets(np.array(labels), 3)


def test_mixup_equals_a_loop_over_the_pictures():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(5, 3, 4, 4)).astype(np.float32)
    targets = soft_targets(np.arange(5), 5, 0.1)
    mixed_images, mixed_targets = mixup(images, targets, 0.3)
    for i in range(5):
        other = 4 - i
        assert mixed_images[i] == pytest.approx(0.3 * images[i] + 0.7 * images[other], abs=1e-6)
        assert mixed_targets[i] == pytest.approx(0.3 * targets[i] + 0.7 * targets[other], abs=1e-6)
    assert mixed_images.dtype == mixed_targets.dtype == np.float32
    assert mixed_targets.sum(axis=1) == pytest.approx(1)


def test_lam_is_one_without_mixup_and_in_the_last_tenth_of_the_epochs():
    recipe = get_recipe("gluon", epochs=20, mixup=True)
    mixed = [mixup_lam(recipe, epoch, 0) < 1 for epoch in range(20)]
    assert mixed == [True] * 18 + [False] * 2
    assert mixup_lam(get_recipe("gluon"), 0, 0) == 1


def test_lam_depends_on_seed_epoch_and_step_alone():
    recipe, other = (get_recipe("gluon", mixup=True, seed=seed) for seed in (1, 2))
    assert mixup_lam(recipe, 3, 4) == mixup_lam(recipe, 3, 4)
    drawn = [mixup_lam(recipe, 3, 4), mixup_lam(recipe, 4, 3), mixup_lam(other, 3, 4)]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lam_has_the_variance_of_the_beta_distribution(alpha):
    recipe = get_recipe("gluon", mixup=True, alpha=alpha)
    drawn = np.array([mixup_lam(recipe, 0, step) for step in range(4000)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
