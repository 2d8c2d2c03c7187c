import math

import pytest

from gluon_ran.visualize import Curve, epoch_limits, epochs, plot_epochs


def run(*errors, sizes=None):
    sizes = sizes or [None] * len(errors)
    return [
        {
            "epoch": n,
            "train_loss": 1.0 + n,
            "val_top1": None if e is None else 1 - e / 100,
            "size": s,
        }
        for n, (e, s) in enumerate(zip(errors, sizes))
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(epochs, "save_png", lambda figure, path, dpi: figures.append(figure))
    return figures


def curves_of(ax):
    return [list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) > 2]


def test_the_mean_and_each_run_are_drawn(drawn):
    plot_epochs([Curve("a", (run(50, 40, 30), run(60, 50, 20)))], "path", "title")
    loss, error = drawn[0].axes
    assert curves_of(error) == [
        pytest.approx(each) for each in ([50, 40, 30], [60, 50, 20], [55, 45, 25])
    ]
    assert curves_of(loss)[-1] == [1, 2, 3] and loss.get_title(loc="left") == "title"
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["a"]


def test_what_was_not_measured_is_left_out(drawn):
    rows = run(50, None, 30, 20)
    rows[3]["train_loss"] = math.nan
    plot_epochs([Curve("a", (rows,))], "path")
    loss, error = drawn[0].axes
    assert list(error.lines[0].get_xdata()) == [1, 3, 4]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3]


def test_epochs_on_shrunk_pictures_are_marked_where_all_have_them(drawn):
    sizes = [16, 16, 24, None]
    one, other = run(50, 40, 30, 20, sizes=sizes), run(50, 40, 30, 20)
    plot_epochs([Curve("a", (one, one))], "path")
    plot_epochs([Curve("a", (one,)), Curve("b", (other,))], "path")
    marked, unmarked = drawn[0].axes[1], drawn[1].axes[1]
    assert [(t.get_text(), t.get_position()[0]) for t in marked.texts] == [
        ("16 px", 1.5), ("24 px", 3.0),
    ]  # fmt: skip
    assert not unmarked.texts


def test_parts_have_one_scale_and_long_falls_a_logarithm(drawn):
    short, long = Curve("a", (run(50, 40, 30),)), Curve("b", (run(60, 20, 4),))
    limits = epoch_limits([short, long])
    assert limits["val_top1"] == pytest.approx((4, 60))
    for curve in (short, long):
        plot_epochs([curve], "path", limits=limits)
    plot_epochs([short], "path")
    one, other, alone = (figure.axes[1] for figure in drawn)
    assert one.get_ylim() == other.get_ylim() and one.get_yscale() == "log"
    assert alone.get_yscale() == "linear" and alone.get_ylim()[1] < 60


def test_a_png_is_written_and_nothing_to_draw_is_refused(tmp_path):
    plot_epochs([Curve("a", (run(50, 40),))], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no epoch"):
        plot_epochs([Curve("a", ())], tmp_path / "b.png")
