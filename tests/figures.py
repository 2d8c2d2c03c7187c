"""What tests of figures ask for."""

from itertools import combinations


def texts(figure):
    """All that is written in a figure."""
    labels = [ax.yaxis.label for ax in figure.axes] + [ax._left_title for ax in figure.axes]
    found = labels + [text for ax in figure.axes for text in ax.texts]
    return [text for text in found if text.get_text()]


def assert_apart(figure):
    """No panel and no text lies over another one, but for a pixel of their edges."""
    boxes = [ax.get_window_extent() for ax in figure.axes]
    boxes += [text.get_window_extent() for text in texts(figure)]
    for one, other in combinations(boxes, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width <= 1 or height <= 1, (one, other)
