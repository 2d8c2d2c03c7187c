"""gluon_ran/visualize/curves.py: a picture of any run, however short, broken or incomplete."""

import math
import subprocess
import sys

import numpy as np
import pytest

from gluon_ran.visualize import curves, plot_curves

NAN = float("nan")


def row(epoch, **changes):
    metrics = {
        "epoch": epoch,
        "lr": 0.1,
        "train_loss": 2.0 / (epoch + 1),
        "train_top1": 0.5,
        "val_loss": 2.2 / (epoch + 1),
        "val_top1": 0.1 * (epoch + 1),
        "val_top5": 0.9,
        "seconds": 1.0,
        "images_per_second": 100.0,
    }
    return {**metrics, **changes}


def picture(path):
    from PIL import Image

    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


UNMEASURED = {"val_loss": None, "val_top1": None, "val_top5": None}
RUNS = {
    "one epoch": [row(0)],
    "several epochs": [row(n) for n in range(5)],
    "no validation": [row(n, **UNMEASURED) for n in range(3)],
    "some validation": [row(0), row(1, **UNMEASURED), row(2), row(3, **UNMEASURED)],
    "diverged": [row(0), row(1, train_loss=NAN, val_loss=math.inf, val_top1=NAN)],
    "nothing finite": [row(0, lr=NAN, train_loss=NAN, train_top1=NAN, val_loss=NAN, val_top1=NAN)],
    "only the epoch": [{"epoch": 3}],
    "a rate of zero": [row(0, lr=0.0), row(1, lr=0.0)],
    "long": [row(n % 200, lr=10.0 ** -(n // 60), val_top1=0.9) for n in range(200)],
}


@pytest.mark.parametrize("rows", RUNS.values(), ids=RUNS)
def test_every_run_has_a_picture(tmp_path, rows):
    path = tmp_path / "curves.png"
    plot_curves(rows, path, title="a $run_1")
    assert picture(path).std() > 5
    assert list(tmp_path.iterdir()) == [path]


def test_both_curves_are_there_and_reach_no_edge(tmp_path):
    plot_curves(RUNS["several epochs"], tmp_path / "curves.png")
    pixels = picture(tmp_path / "curves.png").astype(int)
    for color in (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2):
        assert (abs(pixels - color).sum(axis=2) < 12).sum() > 200
    edges = (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])
    assert all((edge == 255).all() for edge in edges)


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        plot_curves(RUNS["several epochs"], str(tmp_path / name))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_epochs_count_from_one_and_the_later_row_of_an_epoch_counts(tmp_path):
    doubled = [row(1, val_top1=0.8), row(0), row(1, val_top1=0.2)]
    plot_curves(doubled, tmp_path / "doubled.png")
    plot_curves([row(0), row(1, val_top1=0.2)], tmp_path / "clean.png")
    assert (tmp_path / "doubled.png").read_bytes() == (tmp_path / "clean.png").read_bytes()
    assert curves._series([row(0), row(4)], "train_loss")[0] == [1, 5]


@pytest.mark.parametrize(
    "accuracies, expected",
    [
        ([0.5, 0.9, 0.7], [("best", 2, 90.0), ("final", 3, 70.0)]),
        ([0.5, 0.7, 0.9], [("best and final", 3, 90.0)]),
        ([0.9, 0.5, 0.9], [("best", 1, 90.0), ("final", 3, 90.0)]),
        ([0.9, 0.5, None], [("best", 1, 90.0), ("last measured", 2, 50.0)]),
        ([0.5, NAN], [("best and last measured", 1, 50.0)]),
        ([None, None], []),
    ],
)
def test_best_and_final_accuracy_are_named(accuracies, expected):
    rows = [row(epoch, val_top1=value) for epoch, value in enumerate(accuracies)]
    marks = [(name, *place) for name, _, place in curves._marks(rows)]
    assert marks == [(name, epoch, pytest.approx(value)) for name, epoch, value in expected]


def test_no_epoch_on_shrunken_pictures_is_the_best():
    shrunken = [row(0, val_top1=0.9, size=16), row(1, val_top1=0.8, size=16)]
    assert [name for name, *_ in curves._marks(shrunken)] == ["final"]
    marks = curves._marks([*shrunken, row(2, val_top1=0.7), row(3, val_top1=0.6)])
    assert [(name, epoch) for name, _, (epoch, _) in marks] == [("best", 3), ("final", 4)]


def test_no_epoch_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match="no epoch"):
        plot_curves([], tmp_path / "curves.png")


def test_a_failed_write_leaves_the_older_picture_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"older")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("gluon_ran.visualize._figure.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_curves([row(0)], path)
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]


def test_matplotlib_is_imported_late_and_never_pyplot(tmp_path):
    code = f"""
import sys
from gluon_ran.visualize import plot_curves
assert "matplotlib" not in sys.modules
plot_curves([{{"epoch": 0, "train_loss": 1.0}}], {str(tmp_path / "curves.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
