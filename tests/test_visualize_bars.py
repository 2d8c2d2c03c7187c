import pytest

from gluon_ran.visualize import Bar, bars, plot_bars


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(bars, "save_png", lambda figure, path, dpi: figures.append(figure))
    return figures


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_bar_is_the_mean_and_each_run_a_point(drawn):
    plot_bars([Bar("a $x", (2.0, 5.0, 3.5)), Bar("b", (1.0,), 4.0, " ?")], "path", "error")
    (ax,) = drawn[0].axes
    assert [patch.get_width() for patch in ax.patches] == [3.5, 1.0, 4.0]
    assert [patch.get_linestyle() != "solid" for patch in ax.patches] == [False, False, True]
    ranges, points = ax.lines[0], ax.lines[1]
    assert list(ranges.get_xdata()) == [2.0, 5.0] and list(points.get_xdata()) == [2.0, 5.0, 3.5]
    assert texts(ax) == ["a $x", "3.50", "b", "1.00", "4.00 ?"]
    assert ax.get_xlim()[0] == 0


def test_what_is_drawn_does_not_overlap(drawn):
    plot_bars([Bar(f"{n}", (2.0, 5.0), 4.0 if n % 2 else None) for n in range(5)], "path", "error")
    (figure,) = drawn
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    boxes += [patch.get_window_extent(renderer) for patch in figure.axes[0].patches]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_a_png_is_written_and_nothing_to_draw_is_refused(tmp_path):
    plot_bars([Bar("a", (), 4.0)], tmp_path / "a.png", "error")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for nothing in ([], [Bar("a")], [Bar("a", (0.0,))]):
        with pytest.raises(ValueError, match="no value above 0"):
            plot_bars(nothing, tmp_path / "b.png", "error")
