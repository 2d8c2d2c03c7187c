import pytest

from gluon_ran.visualize import Line, lines, plot_lines

LABELS = ("depth", "error")
BOTH = [
    Line("one", ((56.0, (4.0, 6.0)), (92.0, (3.0,))), ((56.0, 5.5),)),
    Line("two", (), ((92.0, 4.5), (56.0, 5.0))),
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(lines, "save_png", lambda figure, path, dpi: figures.append(figure))
    return figures


def data(line):
    return list(zip(*map(list, line.get_data())))


def test_a_line_joins_the_means_and_each_run_is_a_point(drawn):
    plot_lines(BOTH, "path", LABELS)
    (ax,) = drawn[0].axes
    means, points, published, others = ax.lines
    assert data(means) == [(56, 5), (92, 3)]
    assert data(points) == [(56, 4), (56, 6), (92, 3)]
    assert data(published) == [(56, 5.5)] and data(others) == [(56, 5.0), (92, 4.5)]
    assert {line.get_markerfacecolor() for line in (published, others)} == {"white"}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "one", "one, published", "two, published",
    ]  # fmt: skip
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["56", "92"]


def test_a_network_has_its_colour_in_both_figures(drawn):
    plot_lines([line._replace(points=()) for line in BOTH], "path", LABELS)
    plot_lines(BOTH, "path", LABELS)
    one, two = (
        {line.get_label(): line.get_color() for line in figure.axes[0].lines} for figure in drawn
    )
    assert one["two, published"] == two["two, published"] != two["one"]


def test_a_png_is_written_and_nothing_to_draw_is_refused(tmp_path):
    plot_lines(BOTH, tmp_path / "a.png", LABELS)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no point"):
        plot_lines([Line("one")], tmp_path / "b.png", LABELS)
