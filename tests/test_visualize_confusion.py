"""gluon_ran/visualize/confusion.py: shares of the rows, counts, names and the overall accuracy."""

import numpy as np
import pytest

from gluon_ran.visualize import confusion, plot_confusion


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, kept for a look at what is in them."""
    kept, save = [], confusion.save_png

    def keep(figure, path):
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(confusion, "save_png", keep)
    return kept


def draw(figures, path, matrix, names, title=None):
    plot_confusion(matrix, names, path, title)
    return figures[-1].axes[0]


def counts(classes, rng=None):
    rng = rng or np.random.RandomState(0)
    return rng.randint(0, 3, (classes, classes)) + 50 * np.eye(classes, dtype=int)


def test_rows_are_true_classes_and_shares_of_them(figures, tmp_path):
    ax = draw(figures, tmp_path / "m.png", [[3, 1], [0, 2]], ["cat", "dog"])
    assert ax.images[0].get_array().tolist() == [[75.0, 25.0], [0.0, 100.0]]
    assert ax.get_ylabel() == "true class" and ax.get_xlabel() == "predicted class"
    places = {t.get_position(): t.get_text() for t in ax.texts}
    assert places == {(0, 0): "3", (1, 0): "1", (0, 1): "0", (1, 1): "2"}


def test_the_title_has_the_overall_accuracy(figures, tmp_path):
    ax = draw(figures, tmp_path / "m.png", [[3, 1], [0, 2]], ["a", "b"], "a $run")
    assert ax.get_title(loc="left") == "a $run\noverall accuracy 83.33 % (n = 6)"


@pytest.mark.parametrize("classes", [1, 2, 10, 20, 21, 250])
def test_counts_up_to_twenty_classes_and_names_up_to_two_hundred(figures, tmp_path, classes):
    names = [f"class_${index}" for index in range(classes)]
    ax = draw(figures, tmp_path / "m.png", counts(classes), names)
    assert len(ax.texts) == (classes**2 if classes <= 20 else 0)
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert (shown == names) == (classes <= 200)


def test_names_do_not_overlap_and_nothing_is_cropped(figures, tmp_path):
    from PIL import Image

    names = [f"a class with a very long name, number {index}" for index in range(100)]
    ax = draw(figures, tmp_path / "m.png", counts(100), names)
    ax.figure.set_dpi(200)  # savefig puts the figure's own back, but the text stays as it was drawn
    for labels, side in ((ax.get_yticklabels(), "y"), (ax.get_xticklabels(), "x")):
        boxes = [label.get_window_extent() for label in labels]
        edges = sorted((getattr(box, side + "0"), getattr(box, side + "1")) for box in boxes)
        assert all(low[1] <= high[0] for low, high in zip(edges, edges[1:]))
    with Image.open(tmp_path / "m.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert all((e == 255).all() for e in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]))


def test_a_class_without_pictures_has_no_shares(figures, tmp_path):
    ax = draw(figures, tmp_path / "m.png", [[0, 0], [1, 3]], ["a", "b"])
    shares = ax.images[0].get_array()
    assert shares.mask.tolist() == [[True, True], [False, False]]
    assert shares[1].tolist() == [25.0, 75.0]


@pytest.mark.parametrize(
    "matrix, names, message",
    [
        ([[1, 2]], ["a"], "square"),
        ([1, 2], ["a", "b"], "square"),
        ([[1, 0], [0, 1]], ["a"], "2 classes"),
        ([[0, 0], [0, 0]], ["a", "b"], "counts"),
        ([[1, -1], [0, 1]], ["a", "b"], "counts"),
        (np.zeros((0, 0)), [], "counts"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(tmp_path, matrix, names, message):
    with pytest.raises(ValueError, match=message):
        plot_confusion(matrix, names, tmp_path / "m.png")
    assert not list(tmp_path.iterdir())
