"""benchmarks/conversion_parity.py: the same scores where they are the same, and else not."""

import sys
from itertools import islice
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parity(monkeypatch):
    """The benchmark's module, imported as its script imports it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import conversion_parity

    yield conversion_parity
    for name in ("conversion_parity", "provenance"):
        sys.modules.pop(name, None)


def test_a_network_of_gluoncv_has_the_same_scores_and_masks_that_differ(parity, tmp_path):
    (row,) = parity.compare(islice(parity.made_by_gluoncv(tmp_path), 1))
    assert (row["source"], row["theirs"]) == ("gluoncv", "cifar_residualattentionnet56")
    assert row["difference"] < 1e-5
    assert row["least_mask_deviation"] > 0.01


def test_other_scores_show(parity, tmp_path):
    source, name, path, images, scores = next(parity.made_by_gluoncv(tmp_path))
    moved = scores + 0.01 * abs(scores).max()
    (row,) = parity.compare(iter([(source, name, path, images, moved)]))
    assert row["difference"] == pytest.approx(0.01, rel=0.05)
